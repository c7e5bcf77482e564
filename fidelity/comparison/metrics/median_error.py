"""The median error: what the ordinary elements do while a massive one carries every sum of squares."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair


def median_error(actual: RealArray, reference: RealArray) -> Outcome:
    """median |actual - reference| over median |reference|, [0, inf); 0 is best.

    With one channel at +300 and every other channel random, correlation is 0.99 and this is 1.4.
    For normally distributed elements and noise it equals `relative_l2`. Undefined when half of the
    reference or more is zero. Blind to whatever happens on less than half of the elements.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    a, r = pair
    typical = float(np.median(np.abs(r)))
    if typical == 0:
        return Undefined(cause="zero_reference", why="half of the elements or more are zero")
    return Measured(float(np.median(np.abs(a - r))) / typical)
