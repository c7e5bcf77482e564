"""Share of NaN and Inf: counted, because every other metric can only refuse them."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined


def non_finite_share(actual: RealArray, reference: RealArray) -> Outcome:
    """Share of elements of the actual output that are NaN or Inf, [0, 1]; 0 is best.

    `index` is the first such element. The reference plays no part: where it is not finite either,
    it is the reference that is refused. Blind to every finite error.
    """
    del reference
    if actual.size == 0:
        return Undefined(cause="empty", why="no elements")
    if actual.dtype.kind not in "fiub":
        return Undefined(cause="not_real", why=f"dtype {actual.dtype}")
    where = np.argwhere(~np.isfinite(actual))
    index = tuple(int(i) for i in where[0]) if len(where) else ()
    return Measured(len(where) / actual.size, index=index)
