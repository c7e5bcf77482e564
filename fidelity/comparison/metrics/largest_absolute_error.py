"""The largest absolute error: which single number is furthest off."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair


def largest_absolute_error(actual: RealArray, reference: RealArray) -> Outcome:
    """Largest |actual - reference| with its index, in the output's unit, [0, inf); 0 is best.

    No value is good or bad without the output's scale, so the default policy limits `peak_error`,
    the same in multiples of the reference's rms. Blind to how many elements are wrong.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    error = np.abs(pair[0] - pair[1])
    index = np.unravel_index(int(np.argmax(error)), error.shape)
    return Measured(float(np.max(error)), index=tuple(int(i) for i in index))
