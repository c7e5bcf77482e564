"""The page as a browser shows it: nothing runs, nothing is fetched, it fits a phone, light and dark.

Each check has a counter-example page that must not pass it, so that a browser which shows nothing
cannot make these tests green.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # the report's examples are one folder up

from test_report_examples import EXAMPLES

from fidelity.report.comparison_page import comparison_html
from fidelity.report.html import html
from fidelity.report.side_by_side import side_by_side

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever the page might ask for, there is no network
)
DARK, LIGHT = 0, 1  # Chromium's preferredColorScheme
PHONE, DESKTOP = 390, 1200
PAPER = 703  # A4 at 96 pixels an inch, less the margins of the print style
COMPARISON = "comparison"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def browser() -> str:
    """A headless Chromium, or a skip that says how to get one."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of every example, and of two of them side by side."""
    folder = tmp_path_factory.mktemp("pages")
    for name, report in EXAMPLES.items():
        (folder / f"{name}.html").write_text(html(report()), encoding="utf-8")
    both = side_by_side(EXAMPLES["collapsed"](), EXAMPLES["hostile"](), ("before", "after"))
    (folder / f"{COMPARISON}.html").write_text(comparison_html(both), encoding="utf-8")
    return folder


def run(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The browser on one page, with a fresh profile."""
    command = [browser, *QUIET, f"--user-data-dir={page.with_suffix('.profile')}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)


def console(finished: subprocess.CompletedProcess[str]) -> list[str]:
    """What pages wrote to the browser's console: errors and refusals of the content policy too."""
    return [line for line in finished.stderr.splitlines() if "CONSOLE" in line]


def framed(pages: list[Path], width: int, outer: Path) -> Path:
    """A page that shows `pages` in frames `width` CSS pixels wide, with every part opened, and writes down
    the width of each view, the width that its content needs, and how much of a table is not to be seen at once.

    A window of the browser cannot be as narrow as a phone; a frame can.
    """
    script = (
        "onload = () => { document.title = [...document.querySelectorAll('iframe')].map(f => {"
        "const d = f.contentDocument.documentElement;"
        "d.querySelectorAll('details').forEach(part => { part.open = true; });"
        "const hidden = [...d.querySelectorAll('.scroll')].map(part => part.scrollWidth - part.clientWidth);"
        "return `${d.clientWidth} of ${d.scrollWidth}, ${Math.max(0, ...hidden)}`; }).join('; '); };"
    )
    style = f"border:0;width:{width}px;height:4000px"
    frames = "".join(f'<iframe src="{escape(page.name)}" style="{style}"></iframe>' for page in pages)
    outer.write_text(f"<body style='margin:0'>{frames}<script>{script}</script>", encoding="utf-8")
    return outer


@dataclass(frozen=True)
class Widths:
    """Of one page in CSS pixels: its view, what its content needs, what of its widest table has to be scrolled to."""

    view: int
    content: int
    hidden: int


def widths(browser: str, pages: list[Path], width: int) -> list[Widths]:
    """What the browser measures on every page, on a quiet console."""
    outer = framed(pages, width, pages[0].with_name(f"frames-{pages[0].stem}-{width}.html"))
    dom = run(browser, outer, "--allow-file-access-from-files", "--dump-dom")
    (title,) = re.findall(r"<title>([^<]*)</title>", dom.stdout)[:1]
    assert console(dom) == []
    found = re.findall(r"(\d+) of (\d+), (\d+)", title)
    assert len(found) == len(pages), dom.stderr[-2000:]
    return [Widths(*map(int, each)) for each in found]


def printed(page: Path, folder: Path) -> Path:
    """The page as its print style lays it out, on a screen."""
    text = page.read_text(encoding="utf-8")
    assert text.count("@media print") == 1
    sheet = folder / page.name
    sheet.write_text(text.replace("@media print", "@media all"), encoding="utf-8")
    return sheet


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_no_page_scrolls_sideways(browser: str, pages: Path, width: int) -> None:
    shown = [pages / f"{name}.html" for name in (*EXAMPLES, COMPARISON)]
    needed = dict(zip((*EXAMPLES, COMPARISON), widths(browser, shown, width), strict=True))
    assert {name: found for name, found in needed.items() if (found.view, found.content) != (width, width)} == {}


def test_a_printed_page_loses_nothing_at_its_right_edge(browser: str, pages: Path, tmp_path: Path) -> None:
    names = (*EXAMPLES, COMPARISON)
    sheets = [printed(pages / f"{name}.html", tmp_path) for name in names]
    found = dict(zip(names, widths(browser, sheets, PAPER), strict=True))
    assert {name: needed for name, needed in found.items() if needed != Widths(PAPER, PAPER, 0)} == {}


@pytest.mark.parametrize("name", ["collapsed", COMPARISON])
def test_a_page_prints_to_a_pdf(browser: str, pages: Path, tmp_path: Path, name: str) -> None:
    pdf = tmp_path / "page.pdf"
    finished = run(browser, pages / f"{name}.html", f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    assert console(finished) == []
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b(?!s)", content)) >= 3


def test_a_page_that_is_too_wide_is_noticed(browser: str, pages: Path) -> None:
    wide = pages / "wide.html"
    wide.write_text("<body style='margin:0'><div style='width:700px'>x</div>", encoding="utf-8")
    found, passing = widths(browser, [wide, pages / "passing.html"], PHONE)
    assert found == Widths(PHONE, 700, 0)
    assert passing.hidden > 0  # on a phone a table is scrolled within its own frame


@pytest.mark.parametrize(
    ("scheme", "colour"), [(DARK, (0x0F, 0x12, 0x16)), (LIGHT, (0xF4, 0xF5, 0xF7))], ids=["dark", "light"]
)
def test_the_page_is_painted_in_the_readers_scheme(
    browser: str, pages: Path, scheme: int, colour: tuple[int, int, int]
) -> None:
    picture = pages / f"{scheme}.png"
    options = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1200,3000")
    run(browser, pages / "passing.html", *options, f"--screenshot={picture}")
    with Image.open(picture) as image:
        shown = image.convert("RGB")
    assert shown.getpixel((2, 2)) == colour  # the page's own ground, beside the cards
    # letters, badges, markers and lines: a blank or unstyled page has a handful of colours
    assert len(shown.getcolors(maxcolors=2**24) or []) > 500


def test_hostile_names_run_nothing_and_fetch_nothing(browser: str, pages: Path) -> None:
    finished = run(browser, pages / "hostile.html", "--dump-dom")
    assert console(finished) == []
    assert "<script" not in finished.stdout
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in finished.stdout


def test_the_content_policy_stops_a_script_that_came_through(browser: str, pages: Path) -> None:
    page = (pages / "passing.html").read_text(encoding="utf-8")
    attacks = "<script>document.title = 'owned'</script><img src='https://example.invalid/x.png'>"
    attacked = pages / "attacked.html"
    attacked.write_text(page.replace("<main>", f"<main>{attacks}"), encoding="utf-8")
    finished = run(browser, attacked, "--dump-dom")
    assert "<title>PASS: " in finished.stdout
    assert len([line for line in console(finished) if "Content Security Policy" in line]) >= 2


def test_without_the_policy_the_script_would_have_run(browser: str, pages: Path) -> None:
    naked = pages / "naked.html"
    naked.write_text("<title>x</title><script>document.title = 'owned'</script>", encoding="utf-8")
    assert "<title>owned</title>" in run(browser, naked, "--dump-dom").stdout
