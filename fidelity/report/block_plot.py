"""How a run loses the truth with depth: correlation block by block, expected and actual."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidelity.localisation.records import Traced
from fidelity.report.plots import DASHES
from fidelity.report.printable import printable
from fidelity.report.svg import DIM, calm, drawing, key, marks, page_element, series_colour

LEAST = 1e-9
"""A distance from 1 below this is drawn here, at the lower edge."""

_SIZE = (4.2, 3.9)  # inches of 72 units, as wide as the other plots
_LONGEST = 14  # characters of a block's name; the table has it whole
_MOST_LABELS = 26

Shown = Callable[[float], float]


@dataclass(frozen=True)
class BlockPlot:
    """What one plot shows: the last operator of every block, by name, in order. `name` makes ids unique."""

    name: str
    title: str
    blocks: dict[str, Traced]


def block_plot(plot: BlockPlot) -> Markup:
    """The plot as one <svg> element: correlation above, its distance from 1 on a log scale below.

    The truth is the line at 1. What has no correlation (a constant, NaN, Inf) has a cross on the edge
    that is farthest from the truth.
    """
    with drawing(plot.name):
        figure = Figure(figsize=_SIZE, layout="constrained")
        above, below = (figure.add_subplot(2, 1, place) for place in (1, 2))
        rows = list(plot.blocks.values())
        sides = (
            ("expected", [row.correlation_expected for row in rows]),
            ("actual", [row.correlation for row in rows]),
        )
        finite = [value for _, values in sides for value in values if math.isfinite(value)]
        low = min([0.0, *finite]) - 0.05
        above.axhline(1.0, color=DIM, linewidth=1.0, label="truth")
        far = [_distance(value) for value in finite]
        lowest = math.floor(math.log10(min(far, default=LEAST)))
        highest = math.ceil(math.log10(max(far, default=1.0)) + 0.1)
        for index, (label, values) in enumerate(sides):
            _line(above, index, values, float, low, label)
            _line(below, index, values, _distance, 10.0**highest, label)
        above.set_ylim(low, 1.06)
        above.set_ylabel("correlation", color=DIM)
        below.set_yscale("log")
        below.set_ylim(10.0 ** (lowest - 0.3), 10.0**highest)
        step = max(1, math.ceil((highest - lowest) / 4))
        powers = range(lowest, highest + 1, step)
        below.set_yticks([10.0**power for power in powers], [f"1e{power}" if power else "1" for power in powers])
        below.set_ylabel("1 - correlation", color=DIM)
        _names(above, below, list(plot.blocks))
        key(figure, 3)
        return page_element(figure, plot.name, plot.title)


def _line(axes: Axes, index: int, values: list[float], shown: Shown, edge: float, label: str) -> None:
    places = range(len(values))
    known = [shown(value) if math.isfinite(value) else math.nan for value in values]
    style = DASHES[0] if index == 0 else "-"
    if not values:
        return
    axes.plot(
        places,
        known,
        label=label,
        color=series_colour(index),
        marker="o" if index else "s",
        markersize=3.2 if index else 6.0,
        markerfacecolor="none" if index == 0 else None,
        linestyle=style,
        linewidth=1.3,
        clip_on=False,
        zorder=3 + index,
    )
    lost = [place for place, value in zip(places, values, strict=True) if not math.isfinite(value)]
    marks(axes, lost, [edge] * len(lost), marker="x", markersize=6 + 3 * index, color=series_colour(index))


def _names(above: Axes, below: Axes, names: list[str]) -> None:
    every = max(1, math.ceil(len(names) / _MOST_LABELS))
    places = list(range(0, len(names), every))
    for axes in (above, below):
        calm(axes)
        axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
        axes.set_xticks(places, [_short(names[place]) for place in places] if axes is below else [])
    below.tick_params(axis="x", labelrotation=90, labelsize=7.5)


def _distance(correlation: float) -> float:
    return max(1.0 - correlation, LEAST)


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
