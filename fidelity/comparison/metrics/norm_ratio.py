"""Norm ratio: a scale error, by its name."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.correlation import norm
from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair


def norm_ratio(actual: RealArray, reference: RealArray) -> Outcome:
    """||actual|| / ||reference||, [0, inf); 1 is best.

    Undefined for a zero reference. Blind to everything but scale: any output of the right length
    has 1, whatever its direction.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    if not np.any(pair[1]):
        return Undefined(cause="zero_reference", why="every element is zero")
    return Measured(norm(pair[0]) / norm(pair[1]))
