"""Running sums of terms: the C kernels where they compute just that, NumPy elsewhere, the same bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import IEEE, holds_float16
from fidelity.arithmetic.matmul import covers
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.packed import pack, partial_sums
from fidelity.arithmetic.summation import Accumulator
from fidelity.arithmetic.summation import partial_sums as partial_sums_by_numpy

Single = NDArray[np.float32]


def running_sums(terms: Single, order: Order, accumulator: Accumulator, observe: Observer = unobserved) -> Single:
    """`summation.partial_sums` of float32 `terms` [..., K], K >= 1: float32 [..., parts, lanes].

    A sum is a product with ones: exact, so that in float16 it can be fused with the addition. Rows of
    terms are the columns of that product, side by side in the kernel's vectors.
    Raises ValueError for no terms.
    """
    if not covers(accumulator) or order.dotted or terms.size == 0:
        sums = partial_sums_by_numpy(terms, order, accumulator, observe=observe)
    else:
        rows = terms.reshape(-1, terms.shape[-1])
        ones = np.ones((1, 1, rows.shape[1]), np.float32)
        peaks = None if observe is unobserved else np.empty((1, 1), np.float32)
        lanes = order.lanes if order.lanes_apart else 1
        plain = accumulator.format == "float32" or (accumulator.conversion == IEEE and holds_float16(rows))
        each = partial_sums(
            ones,
            pack(rows.T[np.newaxis]),
            order.sums_of_terms(rows.shape[1]),
            lanes * order.parts,
            accumulator,
            fused=not plain,
            peaks=peaks,
        )
        if peaks is not None:
            observe("peak", peaks)
        sums = each.reshape(lanes, order.parts, -1).transpose(2, 1, 0).reshape(*terms.shape[:-1], order.parts, lanes)
    observe("sum", sums)
    return sums
