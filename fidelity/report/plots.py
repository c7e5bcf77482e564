"""The report's plots: the error of every run at every input, against the limits, as inline SVG.

A run is told apart by its marker and its dashes as well as by its colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fidelity.report.figures import chosen_text
from fidelity.report.printable import printable
from fidelity.report.svg import DIM, INK, calm, drawing, marks, page_element, series_colour

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ((0, (4, 2)), (2, (1, 2)), (0, (6, 2, 1, 2)), (1, (2, 2)))
FLOOR = 1e-17  # below half an ulp of 1.0: an error of exactly zero is drawn at the left edge

_WIDTH = 4.2  # inches of 72 units: a little narrower than a phone, so that text is read there as well
_ROW = 0.25
_LEGEND_ROW = 0.19
_SURROUNDINGS = 0.75
_LONGEST = 20  # characters of a name; the tables have it whole


@dataclass(frozen=True)
class Series:
    """One run: its errors by input (NaN: undefined there), and the greatest error that is allowed."""

    label: str
    errors: dict[str, float]
    limit: float | None


@dataclass(frozen=True)
class ErrorPlot:
    """What one plot shows. `name` makes its ids in the page unique; errors are >= 0, drawn on a log scale."""

    name: str
    title: str
    axis: str
    inputs: tuple[str, ...]
    series: tuple[Series, ...]


def error_plot(plot: ErrorPlot) -> Markup:
    """The plot as one <svg> element for an HTML page: same plot, same bytes.

    Inputs from top to bottom, error to the right on a log scale, each run's limit as a dashed line
    of its colour. What is beyond its limit has a cross; what is undefined lies at the right edge.
    """
    with drawing(plot.name):
        rows = max(len(plot.inputs), 1)
        legend_rows = math.ceil(len(plot.series) / _legend_columns(plot))
        height = rows * _ROW + legend_rows * _LEGEND_ROW + _SURROUNDINGS
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        span = _range(plot)
        for index in range(len(plot.series)):
            _draw(axes, plot, index, span)
        _dress(axes, plot, span)
        _legend(figure, plot)
        return page_element(figure, plot.name, plot.title)


def _range(plot: ErrorPlot) -> tuple[float, float]:
    """Whole decades around every finite error and limit."""
    shown = [error for series in plot.series for error in series.errors.values()]
    shown += [series.limit for series in plot.series if series.limit is not None]
    logs = [math.log10(value) for value in shown if math.isfinite(value) and value > FLOOR] or [-6.0, 0.0]
    return 10.0 ** (math.floor(min(logs) - 0.3)), 10.0 ** math.ceil(max(logs) + 0.3)


def _draw(axes: Axes, plot: ErrorPlot, index: int, span: tuple[float, float]) -> None:
    """One run's markers, a little apart from the other runs' in the same row, and its limit."""
    series, place = plot.series[index], {name: row for row, name in enumerate(plot.inputs)}
    shift = 0.0 if len(plot.series) == 1 else (index / (len(plot.series) - 1) - 0.5) * 0.5
    points = [
        (
            _inside(error, *span),
            place[name] + shift,
            series.limit is not None and not error <= series.limit,
        )
        for name, error in series.errors.items()
    ]
    colour, marker = series_colour(index), MARKERS[index % len(MARKERS)]
    x, y = [point[0] for point in points], [point[1] for point in points]
    marks(axes, x, y, marker=marker, color=colour, markersize=4.5, zorder=3)
    beyond = [point for point in points if point[2]]
    marks(
        axes,
        [point[0] for point in beyond],
        [point[1] for point in beyond],
        marker="x",
        color=INK,
        markersize=8,
        zorder=4,
    )
    if series.limit is not None and series.limit > 0:
        axes.axvline(series.limit, color=colour, linestyle=DASHES[index % len(DASHES)], linewidth=1.1, zorder=2)


def _inside(error: float, low: float, high: float) -> float:
    return high if not math.isfinite(error) else min(max(error, low), high)


def _dress(axes: Axes, plot: ErrorPlot, span: tuple[float, float]) -> None:
    low, high = span
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(max(len(plot.inputs), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(plot.inputs)), [_short(name) for name in plot.inputs])
    axes.set_xlabel(plot.axis, color=DIM)
    decades = round(math.log10(high / low))
    step = max(1, math.ceil(decades / 5))
    ticks = [round(math.log10(low)) + n for n in range(0, decades + 1, step)]
    axes.set_xticks([10.0**tick for tick in ticks], [f"1e{tick}" if tick else "1" for tick in ticks])
    calm(axes)


def _legend(figure: Figure, plot: ErrorPlot) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=series_colour(index),
            marker=MARKERS[index % len(MARKERS)],
            markersize=4.5,
            linestyle=DASHES[index % len(DASHES)] if series.limit is not None else "",
            linewidth=1.1,
            label=_legend_text(series),
        )
        for index, series in enumerate(plot.series)
    ]
    if handles:
        figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=_legend_columns(plot),
            frameon=False,
            labelcolor=INK,
            handlelength=2.2,
            columnspacing=1.2,
            borderaxespad=0,
        )


def _legend_columns(plot: ErrorPlot) -> int:
    """Two where both entries fit beside each other."""
    return 1 if max((len(_legend_text(series)) for series in plot.series), default=0) > 27 else 2


def _legend_text(series: Series) -> str:
    label = _short(series.label)
    return label if series.limit is None else f"{label}, limit {chosen_text(float(f'{series.limit:.6g}'))}"


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
