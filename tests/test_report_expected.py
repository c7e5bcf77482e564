"""The section on the device's arithmetic: three sides of every input, the headroom table, its plot, its JUnit cases."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from test_report_example_predictions import OVERFLOW, SITES, site
from test_report_examples import EXAMPLES, PLANS, assemble, embeddings, good_run, noisy, report_of, usual
from test_report_examples import device_run as made
from test_report_html import page_of, root_of
from test_report_page_reader import Node, read_page

from fidelity.report.expected_rows import (
    SHOWN_SITES,
    expected_rows,
    input_scatter,
    ratio_failures,
    runs_under,
    three_way_plot,
)
from fidelity.report.headroom_plot import HeadroomPlot, headroom_plot
from fidelity.report.html import html
from fidelity.report.junit import junit
from fidelity.report.scatter_plot import Point, ScatterPlot, scatter_plot

GPU = PLANS[2]


def section(name: str) -> Node:
    (found,) = root_of(name).find("section", id="expected")
    return found


def rows(name: str, label: str) -> list[Node]:
    (region,) = [node for node in section(name).find("div") if node.attributes.get("aria-label") == label]
    return region.find("tbody")[0].find("tr")


def numbers(node: Node) -> list[float]:
    return [float(data.attributes["value"]) for data in node.find("data")]


@pytest.mark.parametrize("name", ["passing", "collapsed"])
def test_every_input_has_its_three_sides(name: str) -> None:
    report = EXAMPLES[name]()
    (run,) = [run for run in report.runs if run.expected is not None]
    assert run.expected is not None
    found = {row.find("th")[0].text(): numbers(row) for row in rows(name, f"Expected and actual errors of {run.label}")}
    assert found == {
        row.input: [row.error_expected, row.error_actual, row.ratio, row.identical_share]
        for row in run.expected.outputs
    }
    ratios = [numbers[2] for numbers in found.values()]
    assert ratios == sorted(ratios, reverse=True)


def test_an_input_with_the_expected_bits_says_so() -> None:
    shown = {row.find("th")[0].text(): row for row in rows("passing", "Expected and actual errors of gpu fp16")}
    assert numbers(shown["noise"])[2:] == [1.0, 1.0]
    assert numbers(shown["white"])[3] < 0.5


def test_the_headroom_table_begins_with_the_overflow_and_is_short() -> None:
    shown = rows("collapsed", "Headroom of model.float16.tflite under mldrift-webgpu-lavapipe")
    assert len(shown) == SHOWN_SITES
    assert OVERFLOW.place in shown[0].text()
    assert "overflows" in shown[0].text()
    assert "-Infinity" in shown[0].text()
    assert numbers(shown[1])[1] == max(site.magnitude for site in SITES)
    assert "First overflow: op 24 SQUARED_DIFFERENCE" in section("collapsed").text()
    assert "No site overflows." in section("passing").text()


def test_what_could_not_be_emulated_is_told() -> None:
    assert "op 412 CUMSUM" in section("broken").text()
    assert "emulator_lacks" in page_of("broken")


def test_a_report_without_predictions_has_no_section() -> None:
    reference = embeddings(GPU.inputs)
    page = read_page(html(assemble((made(GPU, noisy(reference, GPU.error, 3), reference),))))
    assert page.find("section", id="expected") == []
    assert "no profile" in page.text()


def worse() -> object:
    """Twice and a half the expected error, and yet within every fixed limit."""
    reference = embeddings(GPU.inputs)
    return made(GPU, noisy(reference, 0.0136, 3), reference, usual())


def test_a_run_worse_than_expected_fails_in_every_form() -> None:
    run = worse()
    report = assemble((good_run(PLANS[0]), run), predictions=(report_of(usual()),))  # type: ignore[arg-type]
    assert not report.passed
    assert {reason.code for reason in report.reasons if reason.severity == "fail"} == {"worse_than_expected"}
    failing = [row.row.input for row in expected_rows(report.runs[1], report) if row.failed]
    assert failing
    assert all(ratio_failures(report.runs[1], report, name) for name in failing)
    root = ElementTree.fromstring(junit(report))  # noqa: S314 - it is what we wrote
    red = {case.get("name") for case in root.iter("testcase") if case.find("failure") is not None}
    assert {f"input {name}" for name in failing} <= red
    page = read_page(html(report))
    assert "✗ fails" in page.find("section", id="expected")[0].text()
    assert "worse than this arithmetic explains" in page.text()


def test_a_run_belongs_to_the_prediction_of_its_own_artefact_and_profile() -> None:
    report = EXAMPLES["passing"]()
    (entry,) = report.predictions
    assert [run.label for run in runs_under(entry, report)] == ["gpu fp16"]
    other = entry.model_copy(update={"prediction": entry.prediction.model_copy(update={"weights_dtype": "float32"})})
    assert runs_under(other, report) == ()
    plot = three_way_plot(0, entry, report)
    assert [series.label for series in plot.series] == ["expected", "gpu fp16"]
    assert set(plot.series[0].errors) == set(plot.series[1].errors) == set(entry.prediction.expected.inputs)


def test_the_headroom_plot_shows_every_site_once_and_the_same_twice() -> None:
    wide = site(30, "ADD", 1.0, headroom=120.0)
    plot = HeadroomPlot("h", "a title <b>", (*SITES, OVERFLOW, wide))
    svg = headroom_plot(plot)
    assert headroom_plot(plot) == svg
    root = ElementTree.fromstring(svg)  # noqa: S314 - it is what we drew
    assert root.find("{*}title").text == "a title <b>"  # type: ignore[union-attr]
    axes = svg[svg.index("h-axes_1") : svg.index("h-legend_1")]
    heights = [float(y) for y in re.findall(r'<use [^>]*?y="([\d.]+)"', axes)]
    assert len(heights) == len(plot.sites)  # every site once: results, then the overflow
    assert heights[-1] == max(heights)  # no headroom at all: the lower edge
    assert heights[len(SITES)] == min(heights)  # more than the axis shows: the upper edge
    assert heights[: len(SITES)] == sorted(heights[: len(SITES)])  # less and less headroom
    assert ElementTree.fromstring(headroom_plot(HeadroomPlot("e", "nothing", ()))).tag.endswith("svg")  # noqa: S314


def test_the_scatter_holds_every_input_of_the_run_with_both_errors() -> None:
    report = EXAMPLES["passing"]()
    (run,) = [run for run in report.runs if run.expected is not None]
    plot = input_scatter(0, report.predictions[0], report)
    assert plot.limit == 2.0
    assert {p.input: (p.expected, p.actual) for p in plot.series[run.label]} == {
        row.input: (row.error_expected, row.error_actual)
        for row in run.expected.outputs  # type: ignore[union-attr]
    }
    assert not any(point.failed for point in plot.series[run.label])


def test_the_scatter_crosses_what_is_beyond_the_limit_and_keeps_the_undefined_at_the_edge() -> None:
    points = (
        Point("a", 1e-3, 1e-3, failed=False),
        Point("b", 1e-3, 5e-3, failed=True),
        Point("c", None, float("inf"), failed=True),
        Point("d", 0.0, 1e-3, failed=False),
    )
    svg = scatter_plot(ScatterPlot("s", "t", {"<b>": points}, 2.0))
    shown = svg[svg.index("s-axes_1") : svg.index("s-legend_1")]
    places = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*?x="(-?[\d.]+)" y="(-?[\d.]+)"', shown)]
    assert len(places) == 6  # four inputs, two crosses
    right, wrong, lost, exact = places[:4]
    assert places[4:] == [wrong, lost]
    assert wrong[0] == right[0]
    assert lost[1] < wrong[1] < right[1]  # farther from the truth is higher
    assert exact[0] < right[0] < lost[0]
    assert "limit, ratio 2" in svg
    assert "limit" not in scatter_plot(ScatterPlot("s", "t", {"x": points}, None))
