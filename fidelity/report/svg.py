"""A matplotlib figure as one SVG element of the page, whatever the figure shows.

Drawn without pyplot (no global figure), with text as text. Colours are left to the page: each is
drawn as a placeholder and becomes a CSS variable, so one plot fits light, dark and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import escape

import matplotlib.style
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, DIM, LINE = "#0000f0", "#0000f1", "#0000f2"  # beside #0000e0 ... #0000e7, the series' colours
VARIABLES = {INK: "--ink", DIM: "--dim", LINE: "--line"}
COLOURS = 8  # --series-0 ... in the stylesheet
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def series_colour(index: int) -> str:
    """The placeholder of a series' colour."""
    return f"#0000e{index % COLOURS}"


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """The settings to draw under, whatever the user's own are: same plot, same bytes."""
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.0, "text.parse_math": False}
    with matplotlib.style.context(settings, after_reset=True):
        yield


def calm(axes: Axes) -> None:
    """The page's own axes: a thin grid behind the data, no frame, no ticks but their labels."""
    axes.minorticks_off()
    axes.grid(axis="both", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def marks(axes: Axes, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    """Markers without a line, whole even on an edge. None for no points: their empty box, in the corner of
    the figure, would bend its layout."""
    if len(x):
        axes.plot(x, y, linestyle="", clip_on=False, **style)


def key(figure: Figure, columns: int) -> None:
    """The legend above the axes, of what has a label; none when nothing has."""
    labelled = [pair for axes in figure.axes[:1] for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    if labelled:
        handles, labels = zip(*labelled, strict=True)
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=columns,
            frameon=False,
            labelcolor=INK,
            borderaxespad=0,
            columnspacing=1.2,
        )


def page_element(figure: Figure, name: str, title: str) -> Markup:
    """The figure as an <svg> element; `name` makes its ids in the page unique."""
    FigureCanvasSVG(figure)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata=_NO_METADATA)
    return _inline(stream.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> Markup:
    """matplotlib's SVG file as an element of a page: no prologue, own ids, the page's colours and font.

    Only tags are touched, never the text between them: a tensor may be called `id="x` or `#0000f0`.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: _page_tag(tag.group(), name), svg)
    view = re.search(r'viewBox="[^"]+"', svg)
    opening = f'<svg class="plot" role="img" {view.group() if view else ""}><title>{escape(title)}</title>'
    return Markup(opening + svg[svg.index(">") + 1 :])  # noqa: S704 - matplotlib escapes what it writes


def _page_tag(tag: str, name: str) -> str:
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag).replace("xlink:href", "href")
    tag = re.sub(r"#0000e(\d)", r"var(--series-\1)", tag)
    tag = re.sub(r"#0000f\d", lambda match: f"var({VARIABLES[match.group()]})", tag)
    return re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", tag)
