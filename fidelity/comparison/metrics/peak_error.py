"""The largest error in units of the reference's rms: one dead or offset channel."""

from __future__ import annotations

from math import sqrt

import numpy as np

from fidelity.comparison.metrics.correlation import norm
from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair


def peak_error(actual: RealArray, reference: RealArray) -> Outcome:
    """Largest |actual - reference| over the rms of the reference, with its index, [0, inf); 0 is best.

    A dead channel has about 1, noise of relative L2 error e about 4 e for a thousand elements.
    Undefined for a zero reference. Massive elements raise the rms and so hide errors on the
    others: `median_error` sees those.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    a, r = pair
    if not np.any(r):
        return Undefined(cause="zero_reference", why="every element is zero")
    error = np.abs(a - r)
    index = np.unravel_index(int(np.argmax(error)), error.shape)
    return Measured(float(np.max(error)) / (norm(r) / sqrt(r.size)), index=tuple(int(i) for i in index))
