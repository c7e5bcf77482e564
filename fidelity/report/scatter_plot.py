"""Every input of a run at its expected and its actual error: on the diagonal, the device does what it must."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidelity.report.figures import chosen_text
from fidelity.report.plots import MARKERS
from fidelity.report.printable import printable
from fidelity.report.svg import DIM, INK, calm, drawing, key, marks, page_element, series_colour

FLOOR = 1e-9
"""An error below this, a zero too, is drawn here."""

_SIZE = (4.2, 3.6)  # inches of 72 units, as wide as the other plots
_LONGEST = 24


@dataclass(frozen=True)
class Point:
    """One input: both errors, None where undefined, and whether its ratio is beyond the limit."""

    input: str
    expected: float | None
    actual: float | None
    failed: bool


@dataclass(frozen=True)
class ScatterPlot:
    """What one plot shows: points by run, and the greatest ratio that is allowed. `name` makes ids unique."""

    name: str
    title: str
    series: dict[str, tuple[Point, ...]]
    limit: float | None


def scatter_plot(plot: ScatterPlot) -> Markup:
    """The plot as one <svg> element, log scales alike on both axes; what is beyond the limit has a cross.

    An undefined error lies at the edge that is farthest from the truth.
    """
    with drawing(plot.name):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        low, high = _range(plot)
        ends = (10.0**low, 10.0**high)
        axes.plot(ends, ends, color=DIM, linewidth=1.0, label="ratio 1")
        if plot.limit is not None:
            axes.plot(
                ends,
                [plot.limit * end for end in ends],
                color=INK,
                linewidth=1.0,
                linestyle=(0, (4, 2)),
                label=f"limit, ratio {chosen_text(plot.limit)}",
            )
        for index, (label, points) in enumerate(plot.series.items()):
            _points(axes, index, label, points, ends)
        _dress(axes, low, high)
        key(figure, 2)
        return page_element(figure, plot.name, plot.title)


def _points(axes: Axes, index: int, label: str, points: tuple[Point, ...], ends: tuple[float, float]) -> None:
    places = [(_inside(point.expected, *ends), _inside(point.actual, *ends)) for point in points]
    beyond = [place for place, point in zip(places, points, strict=True) if point.failed]
    shown = printable(label)
    marks(
        axes,
        *_columns(places),
        marker=MARKERS[index % len(MARKERS)],
        markersize=5,
        color=series_colour(index),
        label=shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…",
        zorder=3,
    )
    marks(axes, *_columns(beyond), marker="x", markersize=9, color=INK, zorder=4)


def _columns(places: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in places], [y for _, y in places]


def _range(plot: ScatterPlot) -> tuple[int, int]:
    """Whole decades around every error."""
    errors = [error for points in plot.series.values() for p in points for error in (p.expected, p.actual)]
    logs = [math.log10(e) for e in errors if e is not None and math.isfinite(e) and e > FLOOR] or [-3.0, 0.0]
    low, high = math.floor(min(logs) - 0.1), math.ceil(max(logs) + 0.1)
    return low, max(high, low + 1)


def _inside(error: float | None, low: float, high: float) -> float:
    return high if error is None or not math.isfinite(error) else min(max(error, low), high)


def _dress(axes: Axes, low: int, high: int) -> None:
    step = max(1, math.ceil((high - low) / 4))
    powers = range(low, high + 1, step)
    for axis in ("x", "y"):
        getattr(axes, f"set_{axis}scale")("log")
        getattr(axes, f"set_{axis}lim")(10.0**low, 10.0**high)
        ticks = [10.0**power for power in powers]
        getattr(axes, f"set_{axis}ticks")(ticks, [f"1e{power}" if power else "1" for power in powers])
    calm(axes)
    axes.set_xlabel("expected relative L2 error", color=DIM)
    axes.set_ylabel("actual relative L2 error", color=DIM)
