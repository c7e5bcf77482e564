"""Relative L2 error: the error's energy beside the signal's; sees scale and offset too."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.correlation import norm
from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair


def relative_l2(actual: RealArray, reference: RealArray) -> Outcome:
    """||actual - reference|| / ||reference|| over all elements, [0, inf); 0 is best.

    For vectors of unit length it is sqrt(2 (1 - cosine)). Undefined for a zero reference. An
    all-zero output has exactly 1. Blind to where the error is: one wrong channel of 1024 moves it
    by 3 %, `peak_error` by 100 %; and to what is small beside massive elements: `median_error`.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    if not np.any(pair[1]):
        return Undefined(cause="zero_reference", why="every element is zero")
    return Measured(norm(pair[0] - pair[1]) / norm(pair[1]))
