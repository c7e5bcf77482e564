"""Cosine: what retrieval and zero-shot classification compute from an embedding."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.correlation import norm
from fidelity.comparison.metrics.outcome import Array, Measured, Outcome, RealArray, Undefined, finite_pair


def cosine(actual: RealArray, reference: RealArray) -> Outcome:
    """Cosine of the angle between the two outputs, in [-1, 1]; 1 is best.

    Undefined for a zero vector on either side. Blind to scale (x0.5 and x10 have 1.0):
    `norm_ratio` sees that. With a large mean in common (an offset of 300 on both) it is near 1
    whatever the rest does: `correlation` sees that.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    if not np.any(pair[1]):
        return Undefined(cause="zero_reference", why="every element is zero")
    if not np.any(pair[0]):
        return Undefined(cause="zero_actual", why="every element is zero")
    return Measured(cosine_of(*pair))


def cosine_of(a: Array, b: Array) -> float:
    """Cosine of two finite non-zero arrays of one shape."""
    return min(1.0, max(-1.0, float(np.sum((a / norm(a)) * (b / norm(b))))))
