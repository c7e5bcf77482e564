"""Where a run's error begins, as the page tells it: the story at the top, then every figure block by block."""

from __future__ import annotations

import re
from typing import get_args
from xml.etree import ElementTree

import pytest
from test_report_example_located import BLOCKS, FAULT, as_it_must, kernel, located, overflow, trace_of, traced
from test_report_examples import PLANS as RUNS
from test_report_examples import assemble, good_run
from test_report_html import root_of
from test_report_page_reader import Node, read_page

from fidelity.localisation.records import Kind, Located, Traced
from fidelity.report.block_plot import BlockPlot, block_plot
from fidelity.report.document import LocatedRun
from fidelity.report.html import html, trace_plots
from fidelity.report.located_rows import MEANINGS, TITLES, around, beginning, block_rows, pack_link
from fidelity.report.operator_plots import OperatorPlot, growth_plot, margin_plot

POSITIONS = r'<use [^>]*?x="(-?[\d.]+)" y="(-?[\d.]+)"'


def stories(root: Node) -> list[Node]:
    return root.find("section", class_="story")


def numbers(node: Node) -> list[str]:
    return [data.attributes["value"] for data in node.find("data")]


def table(name: str, label: str) -> list[Node]:
    (region,) = [node for node in root_of(name).find("div") if node.attributes.get("aria-label") == label]
    return region.find("tbody")[0].find("tr")


def test_the_story_stands_between_the_verdict_and_the_reasons() -> None:
    (main,) = root_of("collapsed").find("main")
    order = [part.attributes.get("class", "") for part in main.parts if isinstance(part, Node)]
    assert order[:3] == ["verdict fail", "story fail", "reasons fail"]


def test_an_overflow_is_told_with_its_place_and_the_bits_that_are_missing() -> None:
    (story,) = stories(root_of("collapsed"))
    found = overflow()
    assert found.overflow is not None
    assert TITLES["overflow"] in story.find("h2")[0].text()
    assert "op 36 SQUARED_DIFFERENCE in EvaBlock_5.norm1" in story.find("h2")[0].text()
    assert found.overflow.site.place in story.text()
    assert str(found.overflow.headroom) in numbers(story)
    assert found.overflow.headroom < 0
    told = story.text()
    assert all(line in told for line in (*found.evidence, found.cure, MEANINGS["overflow"]))
    figures = [found.overflow.needed, 65504.0, *found.errors.model_dump().values()]
    assert {str(figure) for figure in figures} <= set(numbers(story))


def test_a_kernel_is_told_with_its_culprit_and_a_link_to_the_pack() -> None:
    first, second = stories(root_of("located"))
    assert "op 36 SQUARED_DIFFERENCE in EvaBlock_5.norm1" in first.find("h2")[0].text()
    assert first.find("a")[0].attributes["href"] == "./packs/gpu%20fp16/README.md"
    assert "3 runs of the device" in first.text()
    assert TITLES["converter"] in second.find("h2")[0].text()
    assert second.find("a") == []  # nothing was traced, no pack was made


@pytest.mark.parametrize("pack", ["/etc", "..", "a/../../b", "", "a\\b"])
def test_a_pack_outside_the_run_is_not_linked_to(pack: str) -> None:
    assert pack_link(pack) is None


def test_a_link_to_a_pack_cannot_leave_its_scheme() -> None:
    assert pack_link("javascript:alert(1)") == "./javascript%3Aalert%281%29/README.md"
    (story,) = stories(root_of("hostile"))
    assert all(link.attributes["href"].startswith(("./", "#")) for link in story.find("a"))


def figures_of(row: Traced) -> list[str]:
    shown = (
        row.correlation_expected,
        row.correlation,
        row.error_expected,
        row.error_actual,
        row.identical_share,
        row.headroom,
        row.non_finite,
    )
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [words.get(repr(figure), repr(figure)) for figure in shown]


@pytest.mark.parametrize(("name", "found"), [("collapsed", overflow), ("located", kernel)])
def test_every_block_has_its_own_figures(name: str, found: object) -> None:
    trace = found().trace  # type: ignore[operator]
    blocks = block_rows(trace)
    rows = table(name, "Block by block, gpu fp16")
    assert len(rows) == len(blocks) == BLOCKS
    for row, (block, last) in zip(rows, blocks.items(), strict=True):
        assert row.find("th")[0].text() == f"{block}op {last.operator} {last.name}"
        assert numbers(row) == figures_of(last)


def test_massive_channels_are_those_of_the_record() -> None:
    for row, (block, last) in zip(
        table("collapsed", "Massive channels, gpu fp16"),
        block_rows(overflow().trace).items(),
        strict=True,  # type: ignore[arg-type]
    ):
        pairs = [str(figure) for pair in zip(last.channels, last.magnitudes, strict=True) for figure in pair]
        assert row.find("th")[0].text() == block
        assert numbers(row) == [str(last.peak), *pairs]


def test_the_operators_around_where_it_begins() -> None:
    rows = table("located", "Around where it begins, gpu fp16")
    here = [row for row in rows if "it begins here" in row.text()]
    assert len(rows) == 13
    assert [numbers(row) for row in here] == [figures_of(kernel().culprit)]  # type: ignore[arg-type]
    assert around(located("compounding", trace_of(as_it_must))) == ()


def test_blocks_are_in_the_order_in_which_they_end() -> None:
    rows = tuple(
        traced(place, "ADD", name, as_it_must(place)) for place, name in ((1, "model"), (2, "a.x"), (3, "model"))
    )
    found = trace_of(as_it_must, operators=(*rows, traced(4, "MUL", None, as_it_must(4))))
    assert {name: row.operator for name, row in block_rows(found).items()} == {"a": 2, "model": 3}
    assert list(block_rows(found)) == ["a", "model"]


def test_an_overflow_without_a_culprit_begins_at_its_site() -> None:
    found = overflow().model_copy(update={"culprit": None})
    (story,) = stories(read_page(html(assemble((good_run(RUNS[0]),), located=(LocatedRun(label="x", located=found),)))))
    assert found.overflow is not None
    assert found.overflow.site.place in story.find("h2")[0].text()
    assert "Culprit" not in story.text()
    assert beginning(found) == FAULT
    assert beginning(found.model_copy(update={"overflow": None})) is None


def test_every_kind_has_words() -> None:
    found = tuple(LocatedRun(label="gpu fp16", located=located(kind, None)) for kind in TITLES)
    told = stories(read_page(html(assemble((good_run(RUNS[0]),), located=found))))
    for kind, story in zip(TITLES, told, strict=True):
        assert TITLES[kind] in story.find("h2")[0].text()
        assert MEANINGS[kind] in story.text()
        assert ("Looked for" in story.text()) == (kind in ("right", "expected"))
    assert set(TITLES) == set(MEANINGS) == set(get_args(Kind))


def test_what_taps_changed_and_what_would_not_be_shown_is_told() -> None:
    section = root_of("hostile").find("section", id="located")[0].text()
    assert "The taps changed the final output" in section
    assert "stands in for the device's own profile" in section
    assert "1 operator that the device would not show" in section


def plotted(svg: str) -> list[tuple[float, float]]:
    body = svg[svg.index("axes_1") : svg.index("legend_1")]
    return [(float(x), float(y)) for x, y in re.findall(POSITIONS, body)]


def operator_plot(found: Located) -> OperatorPlot:
    assert found.trace is not None
    return OperatorPlot("p", "t <b>", found.trace.operators, FAULT, found.overflow)


def test_the_growth_plot_has_both_sides_of_every_operator_and_crosses_what_is_not_finite() -> None:
    count = len(overflow().trace.operators)  # type: ignore[union-attr]
    clean = plotted(growth_plot(operator_plot(kernel())))
    assert len(clean) == 2 * count
    assert clean[0][1] == max(y for _, y in clean[:count])  # the smallest error lies lowest
    assert clean[count + 26][1] < clean[26][1]  # at the fault the device is above what it must give
    lost = plotted(growth_plot(operator_plot(overflow())))
    assert len(lost) == 2 * count + 2
    assert min(y for _, y in lost) == lost[26][1]  # at the upper edge


def test_the_margin_plot_shows_what_is_missing_below_zero() -> None:
    count = len(overflow().trace.operators)  # type: ignore[union-attr]
    points = plotted(margin_plot(operator_plot(overflow())))
    assert len(points) == count + 1  # every operator, a cross for the lost one, and the overflow itself
    *kept, cross, lacking = points
    assert cross[0] == lacking[0]
    assert max(y for _, y in kept) < lacking[1] < cross[1]
    assert len(plotted(margin_plot(operator_plot(kernel())))) == count


def test_the_block_plot_has_both_sides_and_marks_what_has_no_correlation() -> None:
    blocks = block_rows(kernel().trace)  # type: ignore[arg-type]
    svg = block_plot(BlockPlot("b", "t", blocks))
    points = plotted(svg)
    assert len(points) == 4 * BLOCKS
    lost = {name: row.model_copy(update={"correlation": float("nan")}) for name, row in blocks.items()}
    crossed = plotted(block_plot(BlockPlot("b", "t", lost)))
    assert len(crossed) == 4 * BLOCKS  # a cross for each marker that there is not
    assert block_plot(BlockPlot("b", "t", blocks)) == svg
    assert ElementTree.fromstring(block_plot(BlockPlot("e", "t", {}))).tag == "svg"  # noqa: S314 - it is what we drew


def test_plots_of_two_runs_share_no_id() -> None:
    svgs = [svg for place in (0, 1) for svg in trace_plots(place, LocatedRun(label="x", located=kernel()))]
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in svgs]
    assert len(svgs) == 6
    assert len({each for some in ids for each in some}) == sum(map(len, ids))
    assert trace_plots(0, LocatedRun(label="x", located=located("converter", None))) == ()
