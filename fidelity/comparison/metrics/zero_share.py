"""Share of zeros where there should be none: dead channels, dead tokens, a dead LayerNorm."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair

CLEAR_OF_ZERO = 0.1
"""A reference element counts when its magnitude is at least this share of the median magnitude.

A GPU that flushes subnormals returns exact zeros for the smallest elements, rightly. For normally
distributed elements a tenth of the median is 0.067 rms, which is 4.8 deviations of the noise that
the loosest default limit allows (relative L2 0.0141): rounding cannot bring such an element to zero.
"""


def zero_share(actual: RealArray, reference: RealArray) -> Outcome:
    """Share of elements that are exactly zero though their reference is clearly not, [0, 1]; 0 is best.

    `index` is the first such element. Undefined for a zero reference. Blind to a dead element
    that got a bias added afterwards: `frozen_share` sees that, over the inputs.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    a, r = pair
    if not np.any(r):
        return Undefined(cause="zero_reference", why="every element is zero")
    lost = (a == 0) & (r != 0) & (np.abs(r) >= CLEAR_OF_ZERO * np.median(np.abs(r)))
    where = np.argwhere(lost)
    index = tuple(int(i) for i in where[0]) if len(where) else ()
    return Measured(len(where) / a.size, index=index)
