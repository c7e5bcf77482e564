"""The largest relative error: shows wrong small elements, and can be judged only beside others."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair


def largest_relative_error(actual: RealArray, reference: RealArray) -> Outcome:
    """Largest |actual - reference| / |reference| over elements, with its index, [0, inf]; 0 is best.

    An element whose reference is zero counts 0 when it is met exactly and Inf otherwise; a
    reference of nothing but zeros is Undefined. Sound arithmetic gives large figures here wherever
    a sum cancels to nearly nothing, so it locates and does not decide: the default policy sets no
    limit on it.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    a, r = pair
    if not np.any(r):
        return Undefined(cause="zero_reference", why="every element is zero")
    error = np.abs(a - r)
    relative = np.where(error > 0, np.inf, 0.0)
    np.divide(error, np.abs(r), out=relative, where=r != 0)
    index = np.unravel_index(int(np.argmax(relative)), relative.shape)
    return Measured(float(np.max(relative)), index=tuple(int(i) for i in index))
