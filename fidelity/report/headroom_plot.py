"""Where in the graph a format comes near its end: the headroom of every site, in execution order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from fidelity.prediction.site import Site
from fidelity.report.svg import DIM, INK, calm, drawing, key, marks, page_element, series_colour

_WIDTH, _HEIGHT = 4.2, 2.4  # inches of 72 units, as wide as the other plots
MOST = 20.0  # bits: what has more is drawn at the top edge, and is in no danger


@dataclass(frozen=True)
class HeadroomPlot:
    """What one plot shows. `name` makes its ids in the page unique."""

    name: str
    title: str
    sites: tuple[Site, ...]


def headroom_plot(plot: HeadroomPlot) -> Markup:
    """The plot as one <svg> element: operators to the right, bits upwards; same plot, same bytes.

    Results and inner parts have markers of their own. Where an overflow begins there is a cross on the
    lower edge.
    """
    with drawing(plot.name):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        kinds = (("results", True, "o"), ("inside operations", False, "^"))
        for index, (label, results, marker) in enumerate(kinds):
            sites = [site for site in plot.sites if (site.part == "result") == results and not site.overflows]
            x, y = [_place(site) for site in sites], [_bits(site) for site in sites]
            colour = series_colour(index)
            marks(axes, x, y, marker=marker, markersize=3, color=colour, label=label)
        over = [_place(site) for site in plot.sites if site.overflows]
        marks(axes, over, [0.0] * len(over), marker="x", markersize=8, color=INK)
        axes.set_ylim(0, MOST)
        axes.set_xlim(left=0, right=max((_place(site) for site in plot.sites), default=1) or 1)
        axes.set_xlabel("operator", color=DIM)
        axes.set_ylabel("headroom, bits", color=DIM)
        calm(axes)
        key(figure, 2)
        return page_element(figure, plot.name, plot.title)


def _place(site: Site) -> int:
    return 0 if site.operator is None else site.operator


def _bits(site: Site) -> float:
    return 0.0 if math.isnan(site.headroom) else min(max(site.headroom, 0.0), MOST)
