"""The plots are one safe SVG element each: the same bytes every time, every point, text untouched."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from test_report_examples import EXAMPLES, HOSTILE, broken, passing

from fidelity.report.error_plots import error_plots
from fidelity.report.plots import ErrorPlot, Series, error_plot


def plot(*series: Series, inputs: tuple[str, ...] = ("a", "b", "c"), name: str = "p") -> ErrorPlot:
    return ErrorPlot(name=name, title="a title", axis="1 - correlation", inputs=inputs, series=series)


def parsed(svg: str) -> ElementTree.Element:
    """The root element; the SVG must be well-formed XML."""
    return ElementTree.fromstring(svg)  # noqa: S314 - it is what we drew


def texts(svg: str) -> list[str]:
    """Every text of the SVG."""
    return [element.text or "" for element in parsed(svg).iter() if element.tag == "text"]


def markers(svg: str) -> list[tuple[float, float]]:
    """Where markers are drawn within the axes."""
    axes = svg[svg.index("axes_1") : svg.index("legend_1")]
    return [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*?x="([\d.]+)" y="([\d.]+)"', axes)]


def test_the_same_plot_gives_the_same_bytes_whatever_the_users_settings() -> None:
    it = plot(Series("one", {"a": 1e-5, "b": 1e-6}, 1e-4))
    before = error_plot(it)
    changed = {"font.size": 30.0, "axes.facecolor": "red", "svg.hashsalt": "x", "svg.fonttype": "path"}
    changed |= {"legend.fontsize": 30.0, "ytick.labelsize": 30.0}
    with mpl.rc_context(changed):
        assert error_plot(it) == before
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_plots_of_a_report_are_well_formed(name: str) -> None:
    for it in error_plots(EXAMPLES[name]()):
        svg = error_plot(it)
        assert parsed(svg).tag == "svg"
        assert not re.search(r"<(script|image|style|foreignObject)", svg)
        assert not re.search(r"#0000[ef]\d", re.sub(r">[^<]*<", "><", svg))


def test_names_are_shown_as_they_are() -> None:
    names = (*HOSTILE[:2], 'id="x" url(#y)', "#0000f0 #0000e1", "$x^2$")
    svg = error_plot(plot(Series("$y$ <b>", dict.fromkeys(names, 1e-5), None), inputs=names))
    shown = texts(svg)
    assert ']]>\\x00"' in shown
    assert 'id="x" url(#y)' in shown
    assert "#0000f0 #0000e1" in shown
    assert "$x^2$" in shown
    assert "$y$ <b>" in shown
    assert "<script>alert(1)</s…" in shown


def test_two_plots_of_a_page_share_no_id() -> None:
    one, two = (error_plot(it) for it in error_plots(passing()))
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in (one, two)]
    assert len(set(ids[0] + ids[1])) == len(ids[0]) + len(ids[1])
    for svg, known in zip((one, two), ids, strict=True):
        used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
        assert used <= set(known)


def test_every_error_is_a_point_and_what_fails_is_crossed() -> None:
    series = Series("one", {"a": 1e-6, "b": 1e-3, "c": math.nan}, 1e-4)
    points = markers(error_plot(plot(series)))
    # three markers, and a cross on each of the two that are not within the limit
    assert len(points) == 5
    assert points[3:] == points[1:3]
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[0][1] < points[1][1] < points[2][1]


def test_without_a_limit_nothing_is_crossed_and_no_line_is_drawn() -> None:
    svg = error_plot(plot(Series("one", {"a": 1e-6, "b": 1.0}, None)))
    assert len(markers(svg)) == 2
    assert "stroke-dasharray" not in svg


def test_zero_lies_at_the_left_edge_and_undefined_at_the_right() -> None:
    points = markers(error_plot(plot(Series("one", {"a": 0.0, "b": 1e-5, "c": math.nan}, None))))
    low, middle, high = (x for x, _ in points)
    other = markers(error_plot(plot(Series("one", {"a": 1e-300, "b": 1e-5, "c": math.inf}, None))))
    assert (low, middle, high) == tuple(x for x, _ in other)
    assert low < middle < high


def test_colours_are_the_pages_own() -> None:
    svg = error_plot(plot(Series("one", {"a": 1e-6}, 1e-4), Series("two", {"a": 1e-5}, 1e-4)))
    assert {"var(--series-0)", "var(--series-1)", "var(--ink)"} <= set(re.findall(r"var\([^)]+\)", svg))
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) == set()


def test_an_input_without_figures_is_undefined_in_the_plot() -> None:
    agreement, distance = error_plots(broken())
    fp16 = agreement.series[1]
    assert math.isnan(fp16.errors["black"])  # asked for, and never came
    assert math.isnan(fp16.errors["noise"])  # came as NaN
    assert set(agreement.series[2].errors) == {"noise", "black", "white"}  # all that a crashed run was asked
    assert distance.series[1].errors["white"] == 1.0  # all zero: as far from the reference as it is long
    stored = {r.input: r.metrics.get("correlation") for r in broken().runs[1].comparison.outputs}
    assert fp16.errors["retina"] == 1 - stored["retina"]
    assert fp16.limit == 1 - 0.9999


@pytest.mark.parametrize("lost", [0, 1])
def test_an_input_of_which_one_output_is_undefined_is_undefined(lost: int) -> None:
    run = passing().runs[0]
    first = run.comparison.outputs[0]
    pair = [first, first.model_copy(update={"output": "second"})]
    pair[lost] = pair[lost].model_copy(update={"metrics": {}})
    comparison = run.comparison.model_copy(update={"outputs": tuple(pair), "asked": (first.input,)})
    report = passing().model_copy(update={"runs": (run.model_copy(update={"comparison": comparison}),)})
    assert math.isnan(error_plots(report)[0].series[0].errors[first.input])


def test_a_report_without_runs_or_inputs_has_an_empty_plot() -> None:
    assert parsed(error_plot(plot(inputs=()))).tag == "svg"
