"""The two figures of a LayerNorm sweep, as SVG files that stand alone: the collapse by peak, the scales by magnitude.

Colours are the report's, light and dark, written into the file; lines are told apart by marker and
dashes as well. Same sweep, same bytes.
"""

from __future__ import annotations

import math
import re
from importlib.resources import files

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidelity.arithmetic.layernorm_sweep import LayerNormSweep, ScaleOutcome
from fidelity.report.plots import DASHES, MARKERS
from fidelity.report.svg import DIM, INK, calm, drawing, page_element, series_colour

_SIZE = (7.2, 4.0)
_FORMS = {"stock": "stock LayerNorm", "safe": "safe LayerNorm (1/32)", "row": "per-row scale"}
_LEAST = 1e-8  # a distance from 1 or an error below this is drawn here


def collapse_plot(sweep: LayerNormSweep) -> str:
    """Correlation with float64 over the peak magnitude, as it is and as its distance from 1."""
    with drawing("collapse"):
        return _collapse(sweep)


def scales_plot(sweep: LayerNormSweep) -> str:
    """Worst row error over the magnitude of the model's LayerNorm inputs, a line for each scale, a panel a profile."""
    with drawing("scales"):
        return _scales(sweep)


def _collapse(sweep: LayerNormSweep) -> str:
    figure, (above, below) = _figure(2)
    for index, (profile, form) in enumerate(dict.fromkeys((p.profile, p.form) for p in sweep.collapse)):
        points = [p for p in sweep.collapse if (p.profile, p.form) == (profile, form)]
        points.sort(key=lambda point: point.peak)
        peaks = [point.peak for point in points]
        label = f"{_FORMS.get(form, form)}, {profile}"
        for axes, shown in ((above, _itself), (below, _distance)):
            _line(axes, index, peaks, [shown(point.correlation) for point in points], label)
            ends = ([shown(point.best) for point in points], [shown(point.worst) for point in points])
            axes.vlines(peaks, *ends, color=series_colour(index), linewidth=0.8, alpha=0.6)
    above.set_ylim(min([0.0, *(point.worst for point in sweep.collapse)]) - 0.03, 1.05)
    above.set_ylabel("correlation with float64", color=DIM)
    below.set_yscale("log")
    lowest = math.floor(math.log10(min((_distance(p.best) for p in sweep.collapse), default=_LEAST)))
    below.set_ylim(10.0 ** (lowest - 0.2), 2.0)
    below.set_yticks([10.0**power for power in range(lowest, 1)], [_power(power) for power in range(lowest, 1)])
    below.set_ylabel("1 - correlation", color=DIM)
    below.set_xlabel("largest magnitude in the residual stream (lines: mean; bars: worst to best image)", color=DIM)
    return _finished(figure, above, f"Correlation by peak magnitude, {sweep.source}", "collapse")


def _scales(sweep: LayerNormSweep) -> str:
    profiles = list(dict.fromkeys(each.profile for each in sweep.magnitudes))
    figure, panels = _figure(max(1, len(profiles)))
    for axes, profile in zip(panels, profiles, strict=False):
        here = [each for each in sweep.magnitudes if each.profile == profile]
        for index, scale in enumerate(dict.fromkeys(each.outcome.scale for each in here)):
            along = [each for each in here if each.outcome.scale == scale]
            _line(
                axes, index, [each.magnitude for each in along], [_error(each) for each in along], _scale_label(scale)
            )
        axes.axhline(here[0].allowed_error, color=DIM, linestyle=(0, (2, 2)), linewidth=0.9)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_ylim(top=3.0)
        magnitudes = sorted({each.magnitude for each in here})
        axes.set_xticks(magnitudes, [_times(magnitude) for magnitude in magnitudes])
        lowest = math.floor(math.log10(min(_error(each) for each in here)))
        axes.set_yticks([10.0**power for power in range(lowest, 1)], [_power(power) for power in range(lowest, 1)])
        axes.set_title(profile, color=INK, fontsize=9.5, loc="left")
        axes.set_ylabel("worst relative error of a row", color=DIM)
    panels[-1].set_xlabel(
        "the model's LayerNorm inputs, multiplied by (dashed line: what rounding explains)", color=DIM
    )
    return _finished(figure, panels[0], f"LayerNorm error by magnitude and scale, {sweep.source}", "scales")


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(_SIZE[0], _SIZE[1] + 2.6 * (panels - 1)), layout="constrained")
    return figure, [figure.add_subplot(panels, 1, place + 1) for place in range(panels)]


def _line(axes: Axes, index: int, x: list[float], y: list[float], label: str) -> None:
    axes.plot(
        x,
        y,
        label=label,
        color=series_colour(index),
        marker=MARKERS[index % len(MARKERS)],
        markersize=5,
        linewidth=1.4,
        linestyle="-" if index == 0 else DASHES[(index - 1) % len(DASHES)],
        zorder=3,
    )


def _itself(correlation: float) -> float:
    return correlation


def _distance(correlation: float) -> float:
    return max(1 - correlation, _LEAST)


def _error(each: ScaleOutcome) -> float:
    """Drawn at 2 where it is infinite: the row is lost altogether at 1."""
    return min(max(each.outcome.worst_error, _LEAST), 2.0)


def _times(magnitude: float) -> str:
    return f"1/{1 / magnitude:g}" if magnitude < 1 else f"{magnitude:g}"


def _power(power: int) -> str:
    return f"1e{power}" if power else "1"


def _scale_label(scale: str) -> str:
    return {"none": "not divided", "row": "per-row scale"}.get(scale, f"divided by {scale}")


def _finished(figure: Figure, legend_of: Axes, title: str, name: str) -> str:
    for axes in figure.axes:
        calm(axes)
    handles, labels = legend_of.get_legend_handles_labels()
    columns = 1 if max(map(len, labels), default=0) > 27 else 3
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, labelcolor=INK)
    return _standing_alone(str(page_element(figure, name, title)))


def _standing_alone(element: str) -> str:
    """The page's element as a file: with the report's colours and a ground of its own."""
    opening, rest = element.split(">", 1)
    opening = opening.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    ground = '<rect width="100%" height="100%" rx="8" fill="var(--card)"/>'
    return f"{opening}>\n<style>{_style()}</style>\n{ground}{rest}"


def _style() -> str:
    """The variables of the report's stylesheet, light and dark."""
    css = (files("fidelity.report") / "templates" / "report.css").read_text("utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    light, dark = ("".join(re.findall(r"--[a-z0-9-]+:[^;]+;", block)) for block in blocks)
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
