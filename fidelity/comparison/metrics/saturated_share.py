"""Share of saturated values: the mark that an overflow of fp16 leaves when it is clamped."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined

FP16_LARGEST = 65504.0


def saturated_share(actual: RealArray, reference: RealArray) -> Outcome:
    """Share of elements of the actual output with |x| >= 65504, fp16's largest finite, [0, 1]; 0 is best.

    Inf counts, NaN does not (`non_finite_share` counts both). The reference plays no part: an
    output that is really that large does not fit fp16 either way. Blind to an overflow inside the
    graph that a later normalisation hides.
    """
    del reference
    if actual.size == 0:
        return Undefined(cause="empty", why="no elements")
    if actual.dtype.kind not in "fiub":
        return Undefined(cause="not_real", why=f"dtype {actual.dtype}")
    saturated = np.abs(actual.astype(np.float64)) >= FP16_LARGEST
    return Measured(int(np.count_nonzero(saturated)) / actual.size)
