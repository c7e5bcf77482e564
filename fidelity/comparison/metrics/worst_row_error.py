"""The worst row: a token that is wrong among many that are right."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.outcome import Array, Measured, Outcome, RealArray, Undefined, finite_pair


def worst_row_error(actual: RealArray, reference: RealArray) -> Outcome:
    """Largest relative L2 error of a row (all but the last axis), with the row's index, [0, inf]; 0 is best.

    A zeroed class token in [197, 768] has 1.0 here and leaves a correlation of 0.997. A row whose
    reference is zero counts 0 when it is met exactly and Inf otherwise; a reference of nothing but
    zeros is Undefined. For an output of one row it equals `relative_l2`. Blind to columns.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    a, r = pair
    if not np.any(r):
        return Undefined(cause="zero_reference", why="every element is zero")
    error, size = _row_norms(a - r), _row_norms(r)
    relative = np.where(error > 0, np.inf, 0.0)
    np.divide(error, size, out=relative, where=size > 0)
    index = np.unravel_index(int(np.argmax(relative)), a.shape[:-1] or (1,))
    return Measured(float(np.max(relative)), index=tuple(int(i) for i in index))


def _row_norms(array: Array) -> Array:
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    norms: Array = np.sqrt(np.sum(np.square(rows), axis=1))
    return norms
