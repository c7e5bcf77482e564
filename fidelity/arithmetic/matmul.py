"""Matrix products in any accumulator and order: the C kernel where it computes just that, NumPy elsewhere.

Both give the same bits. The kernel covers what takes a device's time, unfused float16 sums that
round to the nearest; without it the package works as well, some hundred times slower there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import IEEE
from fidelity.arithmetic.order import Order, combined
from fidelity.arithmetic.summation import Accumulator, adder, dot, holds_float16

Single = NDArray[np.float32]
_ELEMENTS = 1 << 24  # products that NumPy holds at a time, 64 MiB of float32


def matmul(a: Single, b: Single, order: Order, accumulator: Accumulator, *, fused: bool = False) -> Single:
    """a [M, K] times b [K, N], float32 [M, N]: `summation.dot` of every row with every column, bit for bit.

    Raises ValueError for shapes that do not fit, and what `summation.dot` raises.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or a.shape[1] == 0:
        raise ValueError(f"matmul takes [M, K] and [K, N], K at least 1, not {a.shape} and {b.shape}")
    if covers(accumulator, fused) and a.dtype == b.dtype == np.float32 and holds_float16(a) and holds_float16(b):
        return _compiled(a, b, order, accumulator)
    columns = np.ascontiguousarray(b.T)
    rows = max(1, _ELEMENTS // max(1, b.size))
    blocks = [
        dot(a[first : first + rows, np.newaxis], columns[np.newaxis], order, accumulator, fused=fused)
        for first in range(0, a.shape[0], rows)
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, b.shape[1]), np.float32)


def covers(accumulator: Accumulator, fused: bool) -> bool:
    """Whether the C kernel is there and computes this."""
    return bool(compiled.paths()) and not fused and accumulator == Accumulator("float16", IEEE)


def _compiled(a: Single, b: Single, order: Order, accumulator: Accumulator) -> Single:
    lanes = order.lanes if order.lanes_apart else 1
    parts = order.sums_of_terms(a.shape[1])
    sums = compiled.partial_sums(a, b, parts, lanes * order.parts)
    add = adder(accumulator)
    grid = sums.reshape(lanes, order.parts, *sums.shape[1:])
    return combined([combined(list(lane), order.combine, add) for lane in grid], order.combine_lanes, add)
