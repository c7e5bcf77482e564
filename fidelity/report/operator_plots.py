"""A traced run operator by operator: how its error grows, and how near each operator is to overflow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidelity.localisation.records import Overflow, Traced
from fidelity.report.headroom_plot import MOST
from fidelity.report.svg import DIM, INK, calm, drawing, key, marks, page_element, series_colour

LEAST = 1e-9
"""An error below this, a zero too, is drawn here."""

_WIDTH, _HEIGHT = 4.2, 2.6  # inches of 72 units, as wide as the other plots


@dataclass(frozen=True)
class OperatorPlot:
    """What both plots show. `name` makes their ids in the page unique; `begins` is the operator to blame."""

    name: str
    title: str
    rows: tuple[Traced, ...]
    begins: int | None
    overflow: Overflow | None


def growth_plot(plot: OperatorPlot) -> Markup:
    """Relative error of every operator's result on a log scale, expected and actual, as one <svg> element.

    What is infinite (a NaN or Inf in the result) has a cross on the upper edge.
    """
    with drawing(plot.name):
        figure, axes = _figure(plot)
        sides = (
            ("expected", [row.error_expected for row in plot.rows], "s", 4.5),
            ("actual", [row.error_actual for row in plot.rows], "o", 2.8),
        )
        shown = [value for _, values, _, _ in sides for value in values if math.isfinite(value) and value > LEAST]
        low, high = _decades(shown)
        for index, (label, values, marker, size) in enumerate(sides):
            x = [row.operator for row in plot.rows]
            y = [_inside(value, 10.0**low, 10.0**high) for value in values]
            marks(
                axes,
                x,
                y,
                marker=marker,
                markersize=size,
                markerfacecolor="none" if index == 0 else None,
                markeredgewidth=0.8,
                color=series_colour(index),
                label=label,
                zorder=3 + index,
            )
            lost = [place for place, value in zip(x, values, strict=True) if not math.isfinite(value)]
            _crosses(axes, lost, 10.0**high)
        axes.set_yscale("log")
        axes.set_ylim(10.0**low, 10.0**high)
        step = max(1, math.ceil((high - low) / 5))
        powers = range(low, high + 1, step)
        axes.set_yticks([10.0**power for power in powers], [f"1e{power}" if power else "1" for power in powers])
        axes.set_ylabel("relative L2 error", color=DIM)
        return _finished(figure, axes, plot)


def margin_plot(plot: OperatorPlot) -> Markup:
    """Headroom of every operator in bits, as one <svg> element; below zero by what an overflow lacks."""
    with drawing(plot.name):
        figure, axes = _figure(plot)
        lacking = plot.overflow.headroom if plot.overflow is not None else 0.0
        low = math.floor(lacking) - 1.0 if math.isfinite(lacking) and lacking < 0 else 0.0
        kept = [row for row in plot.rows if row.headroom > 0]
        marks(
            axes,
            [row.operator for row in kept],
            [min(row.headroom, MOST) for row in kept],
            marker="o",
            markersize=2.8,
            color=series_colour(0),
            label="headroom",
        )
        over = [row for row in plot.rows if not row.headroom > 0]
        _crosses(axes, [row.operator for row in over], low)
        if plot.overflow is not None and plot.overflow.site.operator is not None:
            height = max(lacking, low) if math.isfinite(lacking) else low
            marks(
                axes,
                [plot.overflow.site.operator],
                [height],
                marker="v",
                markersize=7,
                color=series_colour(1),
                label="the overflow",
                zorder=5,
            )
        axes.axhline(0.0, color=DIM, linewidth=1.0)
        axes.set_ylim(low, MOST)
        axes.set_ylabel("headroom, bits", color=DIM)
        return _finished(figure, axes, plot)


def _figure(plot: OperatorPlot) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    places = [row.operator for row in plot.rows]
    axes.set_xlim(min(places, default=0) - 0.5, max(places, default=1) + 0.5)
    if plot.begins is not None:
        axes.axvline(plot.begins, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label=f"begins: op {plot.begins}")
    return figure, axes


def _crosses(axes: Axes, places: Iterable[int], height: float) -> None:
    x = list(places)
    marks(axes, x, [height] * len(x), marker="x", markersize=7, color=INK, zorder=5)


def _decades(values: list[float]) -> tuple[int, int]:
    """Whole decades around every error that there is, three at least."""
    logs = [math.log10(value) for value in values] or [-3.0, 0.0]
    low, high = math.floor(min(logs)), math.ceil(max(logs) + 0.1)
    return min(low, high - 3), high


def _inside(value: float, low: float, high: float) -> float:
    return high if not math.isfinite(value) else min(max(value, low), high)


def _finished(figure: Figure, axes: Axes, plot: OperatorPlot) -> Markup:
    calm(axes)
    axes.set_xlabel("operator", color=DIM)
    key(figure, 3)
    return page_element(figure, plot.name, plot.title)
