"""The page as a browser shows it: nothing runs, nothing is fetched, it fits a phone, light and dark.

Each check has a counter-example page that must not pass it, so that a browser which shows nothing
cannot make these tests green.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # the report's examples are one folder up

from test_report_examples import EXAMPLES

from fidelity.report.html import html

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever the page might ask for, there is no network
)
DARK, LIGHT = 0, 1  # Chromium's preferredColorScheme
PHONE, DESKTOP = 390, 1200

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
    """A folder with the page of every example."""
    folder = tmp_path_factory.mktemp("pages")
    for name, report in EXAMPLES.items():
        (folder / f"{name}.html").write_text(html(report()), encoding="utf-8")
    return folder


def run(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The browser on one page, with a fresh profile."""
    command = [browser, *QUIET, f"--user-data-dir={page.with_suffix('.profile')}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)


def console(finished: subprocess.CompletedProcess[str]) -> list[str]:
    """What pages wrote to the browser's console: errors and refusals of the content policy too."""
    return [line for line in finished.stderr.splitlines() if "CONSOLE" in line]


def framed(page: Path, width: int, name: str) -> Path:
    """A page that shows `page` in a frame `width` CSS pixels wide and writes down the widths within,
    with every part opened.

    A window of the browser cannot be as narrow as a phone; a frame can.
    """
    script = (
        "const f = document.querySelector('iframe'); f.onload = () => {"
        "const d = f.contentDocument.documentElement;"
        "d.querySelectorAll('details').forEach(part => { part.open = true; });"
        "document.title = `width ${d.clientWidth} of ${d.scrollWidth}`; };"
    )
    outer = page.with_name(f"{page.stem}-{name}.html")
    frame = f'<iframe src="{escape(page.name)}" style="border:0;width:{width}px;height:4000px"></iframe>'
    outer.write_text(f"<body style='margin:0'>{frame}<script>{script}</script>", encoding="utf-8")
    return outer


def widths(browser: str, page: Path, width: int) -> tuple[int, int]:
    """Width of the view and width that the content needs, in CSS pixels."""
    dom = run(browser, framed(page, width, str(width)), "--allow-file-access-from-files", "--dump-dom")
    found = re.search(r"width (\d+) of (\d+)", dom.stdout)
    assert found, dom.stderr[-2000:]
    return int(found.group(1)), int(found.group(2))


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["passing", "broken", "hostile"])
def test_the_page_does_not_scroll_sideways(browser: str, pages: Path, name: str, width: int) -> None:
    assert widths(browser, pages / f"{name}.html", width) == (width, width)


def test_a_page_that_is_too_wide_is_noticed(browser: str, pages: Path) -> None:
    wide = pages / "wide.html"
    wide.write_text("<body style='margin:0'><div style='width:700px'>x</div>", encoding="utf-8")
    assert widths(browser, wide, PHONE) == (PHONE, 700)


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
