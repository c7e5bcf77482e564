"""Every metric, by name: one a file, pure functions of (actual, reference), in float64.

Metrics know no limits; `policy` has those. The order here is the order in reports.
"""

from __future__ import annotations

from math import inf

from fidelity.comparison.metrics.common_component import centred_correlation, input_dependence, input_signal
from fidelity.comparison.metrics.correlation import correlation
from fidelity.comparison.metrics.cosine import cosine
from fidelity.comparison.metrics.error_ratio import error_ratio
from fidelity.comparison.metrics.frozen_share import frozen_share
from fidelity.comparison.metrics.largest_absolute_error import largest_absolute_error
from fidelity.comparison.metrics.largest_relative_error import largest_relative_error
from fidelity.comparison.metrics.line_fit import offset, slope
from fidelity.comparison.metrics.median_error import median_error
from fidelity.comparison.metrics.metric import OutputMetric, Scale, SetMetric, ThreeWayMetric
from fidelity.comparison.metrics.misplacement import misplacement
from fidelity.comparison.metrics.nearest_neighbour import (
    nearest_neighbour_agreement,
    nearest_neighbour_margin,
    nearest_neighbour_regret,
)
from fidelity.comparison.metrics.non_finite_share import non_finite_share
from fidelity.comparison.metrics.norm_ratio import norm_ratio
from fidelity.comparison.metrics.peak_error import peak_error
from fidelity.comparison.metrics.relative_l2 import relative_l2
from fidelity.comparison.metrics.repeated_outputs import repeated_outputs
from fidelity.comparison.metrics.saturated_share import saturated_share
from fidelity.comparison.metrics.worst_row_error import worst_row_error
from fidelity.comparison.metrics.zero_share import zero_share

_AGREEMENT = Scale("higher", ideal=1, unit="", least=-1, greatest=1)
_ERROR = Scale("lower", ideal=0, unit="", least=0, greatest=inf)
_RATIO = Scale("nearer", ideal=1, unit="", least=0, greatest=inf)
_SHARE = Scale("lower", ideal=0, unit="share", least=0, greatest=1)

_PER_OUTPUT = (
    OutputMetric("correlation", correlation, _AGREEMENT),
    OutputMetric("cosine", cosine, _AGREEMENT),
    OutputMetric("relative_l2", relative_l2, _ERROR),
    OutputMetric("median_error", median_error, _ERROR),
    OutputMetric("worst_row_error", worst_row_error, _ERROR),
    OutputMetric("peak_error", peak_error, Scale("lower", 0, "reference rms", 0, inf)),
    OutputMetric("largest_absolute_error", largest_absolute_error, Scale("lower", 0, "output", 0, inf)),
    OutputMetric("largest_relative_error", largest_relative_error, _ERROR),
    OutputMetric("slope", slope, Scale("nearer", 1, "", -inf, inf)),
    OutputMetric("offset", offset, Scale("nearer", 0, "reference rms", -inf, inf)),
    OutputMetric("norm_ratio", norm_ratio, _RATIO),
    OutputMetric("zero_share", zero_share, _SHARE),
    OutputMetric("saturated_share", saturated_share, _SHARE),
    OutputMetric("non_finite_share", non_finite_share, _SHARE),
)
_OVER_SET = (
    SetMetric("centred_correlation", centred_correlation, _AGREEMENT),
    SetMetric("input_signal", input_signal, Scale("higher", 1, "share", 0, inf)),
    SetMetric("input_dependence", input_dependence, _RATIO),
    SetMetric("repeated_outputs", repeated_outputs, Scale("lower", 0, "count", 0, inf)),
    SetMetric("frozen_share", frozen_share, _SHARE),
    SetMetric("misplacement", misplacement, Scale("lower", 0, "", -2, 2)),
    SetMetric(
        "nearest_neighbour_agreement",
        nearest_neighbour_agreement,
        Scale("higher", 1, "share", 0, 1),
        over="photographs",
    ),
    SetMetric(
        "nearest_neighbour_regret",
        nearest_neighbour_regret,
        Scale("lower", 0, "", 0, 2),
        over="photographs",
    ),
    SetMetric(
        "nearest_neighbour_margin",
        nearest_neighbour_margin,
        Scale("higher", 2, "", 0, 2),
        over="photographs",
    ),
)

OUTPUT_METRICS = {metric.name: metric for metric in _PER_OUTPUT}
SET_METRICS = {metric.name: metric for metric in _OVER_SET}
ERROR_RATIO = ThreeWayMetric("error_ratio", error_ratio, Scale("lower", ideal=1, unit="", least=0, greatest=inf))
METRICS: dict[str, OutputMetric | SetMetric | ThreeWayMetric] = {
    **OUTPUT_METRICS,
    **SET_METRICS,
    ERROR_RATIO.name: ERROR_RATIO,
}
"""Every metric that a policy may limit."""

__all__ = [
    "ERROR_RATIO",
    "METRICS",
    "OUTPUT_METRICS",
    "SET_METRICS",
    "OutputMetric",
    "Scale",
    "SetMetric",
    "ThreeWayMetric",
]
