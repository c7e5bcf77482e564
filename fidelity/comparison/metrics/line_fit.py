"""Slope and offset of the least-squares line actual ~ slope * reference + offset.

One fit, two figures: they name the two errors that a correlation cannot see.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from fidelity.comparison.metrics.correlation import centred, norm
from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair


def slope(actual: RealArray, reference: RealArray) -> Outcome:
    """Slope of the least-squares fit of actual on reference, (-inf, inf); 1 is best.

    It equals correlation times the ratio of deviations, so noise lowers it a little and a scale
    error shows in full. Undefined for a constant reference. Blind to an offset.
    """
    fit = _fit(actual, reference)
    return fit if isinstance(fit, Undefined) else Measured(fit[0])


def offset(actual: RealArray, reference: RealArray) -> Outcome:
    """Offset of the least-squares fit in multiples of the reference's rms, (-inf, inf); 0 is best.

    Without a unit, so that one limit serves every scale of output. Undefined for a constant
    reference. Blind to an offset on few channels: `peak_error` sees that.
    """
    fit = _fit(actual, reference)
    return fit if isinstance(fit, Undefined) else Measured(fit[1])


def _fit(actual: RealArray, reference: RealArray) -> tuple[float, float] | Undefined:
    """(slope, offset / rms of the reference)."""
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    a, r = pair
    if np.ptp(r) == 0:
        return Undefined(cause="constant_reference", why=f"every element is {r.flat[0]:g}")
    deviation = centred(r)
    size = norm(deviation)
    gradient = float(np.sum((deviation / size) * (centred(a) / size)))
    intercept = float(np.mean(a)) - gradient * float(np.mean(r))
    return gradient, intercept / (norm(r) / sqrt(r.size))
