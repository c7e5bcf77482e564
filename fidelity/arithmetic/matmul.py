"""Matrix products in any accumulator and order: the C kernel where it computes just that, NumPy elsewhere.

Both give the same bits. The kernel covers what takes a device's time, unfused float16 sums that
round to the nearest; without it the package works as well, some hundred times slower there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import IEEE
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.order import Order, combined
from fidelity.arithmetic.summation import Accumulator, adder, combine_partial, holds_float16, partial_products

Single = NDArray[np.float32]
_ELEMENTS = 1 << 24  # products that NumPy holds at a time, 64 MiB of float32


@dataclass(frozen=True)
class Right:
    """The right side of a product, float32 [K, padded N] as the C kernel reads it, checked once.

    `columns` is N, without the filling; `float16` says that every value is one.
    """

    values: Single
    columns: int
    float16: bool

    @property
    def matrix(self) -> Single:
        """[K, N]."""
        return self.values[:, : self.columns]


def right_side(b: Single) -> Right:
    """`b` [K, N] for any number of products."""
    return Right(compiled.padded(b), b.shape[1], holds_float16(b))


def matmul(
    a: Single,
    b: Right,
    order: Order | None,
    accumulator: Accumulator,
    *,
    fused: bool = False,
    start: Single | None = None,
    observe: Observer = unobserved,
) -> Single:
    """a [M, K] times b [K, N], float32 [M, N]: `summation.dot` of every row with every column, bit for bit.

    `order` None leaves a float32 sum to the host's library. `start` [N] is what the
    first partial sum starts from. Raises ValueError for shapes that do not fit, and what `summation.dot` raises.
    """
    if a.ndim != 2 or a.shape[1] != b.values.shape[0] or a.shape[1] == 0:
        raise ValueError(f"matmul takes [M, K] and [K, N], K at least 1, not {a.shape} and {b.matrix.shape}")
    with np.errstate(all="ignore"):
        if order is None:
            product = a @ b.matrix
            observe("sum", product)
            return product if start is None else product + start
        if start is None and covers(accumulator, fused) and b.float16 and holds_float16(a):
            return _compiled(a, b, order, accumulator, observe)
        columns = np.ascontiguousarray(b.matrix.T)
        rows = max(1, _ELEMENTS // max(1, b.values.size))
        blocks = []
        for first in range(0, a.shape[0], rows):
            block = a[first : first + rows, np.newaxis]
            partial = partial_products(block, columns[np.newaxis], order, accumulator, fused=fused, start=start)
            observe("sum", partial)
            blocks.append(combine_partial(partial, order, accumulator))
        whole = np.concatenate(blocks) if blocks else np.zeros((0, b.columns), np.float32)
        observe("sum", whole)
        return whole


def covers(accumulator: Accumulator, fused: bool) -> bool:
    """Whether the C kernel is there and computes this."""
    return bool(compiled.paths()) and not fused and accumulator == Accumulator("float16", IEEE)


def _compiled(a: Single, b: Right, order: Order, accumulator: Accumulator, observe: Observer) -> Single:
    lanes = order.lanes if order.lanes_apart else 1
    parts = order.sums_of_terms(a.shape[1])
    sums = compiled.partial_sums(a, b.values, parts, lanes * order.parts)[:, :, : b.columns]
    observe("sum", sums)
    if sums.shape[0] == 1:
        return np.ascontiguousarray(sums[0])
    grid = sums.reshape(lanes, order.parts, *sums.shape[1:])
    add = adder(accumulator)
    return combined([combined(list(lane), order.combine, add) for lane in grid], order.combine_lanes, add)
