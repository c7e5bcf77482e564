"""Matrix products in any accumulator and order: the C kernels where they compute just that, NumPy elsewhere.

Both give the same bits. The kernels cover every accumulator but the corrected one; without them
the package works as well, some hundred times slower there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import holds_float16
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.order import Order, combined_grid
from fidelity.arithmetic.packed import Packed, pack, partial_sums
from fidelity.arithmetic.summation import Accumulator, adder, combine_partial, partial_products

Single = NDArray[np.float32]
_ELEMENTS = 1 << 24  # products that NumPy holds at a time, 64 MiB of float32


@dataclass(frozen=True)
class Right:
    """The right side of a product, float32 [..., K, N], made ready once for any number of products.

    `values` are packed for the C kernels, or plain. `float16` says that every value is one.
    """

    values: Packed | Single
    lead: tuple[int, ...]
    float16: bool

    @property
    def columns(self) -> int:
        """N."""
        return self.values.columns if isinstance(self.values, Packed) else self.values.shape[-1]

    @property
    def terms(self) -> int:
        """K."""
        values = self.values.blocks if isinstance(self.values, Packed) else self.values
        return int(values.shape[-2])

    @property
    def matrix(self) -> Single:
        """[items, K, N]."""
        return self.values.matrix if isinstance(self.values, Packed) else self.values

    @property
    def packed(self) -> Packed:
        """For the C kernels."""
        return self.values if isinstance(self.values, Packed) else pack(self.values)


def right_side(b: Single) -> Right:
    """`b` [..., K, N] for products in some order, packed where there are kernels."""
    plain = plain_side(b)
    return plain if compiled.path() is None else Right(plain.packed, plain.lead, plain.float16)


def plain_side(b: Single) -> Right:
    """`b` [..., K, N] as it lies, for products whose order is left to the host's library."""
    return Right(b.reshape(-1, *b.shape[-2:]), b.shape[:-2], holds_float16(b))


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
    """a [..., M, K] times b [..., K, N], float32 [..., M, N]: `summation.dot` of rows with columns, bit for bit.

    Leading axes are the same. `order` None leaves a float32 sum to the host's library. `start` [N] is what
    the first partial sum starts from. Raises ValueError for shapes that do not fit, and what `summation.dot` raises.
    """
    if a.ndim < 2 or a.shape[:-2] != b.lead or a.shape[-1] != b.terms or b.terms == 0:
        wanted = (*b.lead, b.terms, b.columns)
        raise ValueError(f"matmul takes [..., M, K] and [..., K, N], K at least 1, not {a.shape} and {wanted}")
    items = a.reshape(-1, *a.shape[-2:])
    with np.errstate(all="ignore"):
        if order is None:
            whole = items @ b.matrix
            observe("sum", whole)
            whole = whole if start is None else whole + start
        elif covers(accumulator) and not order.dotted:
            whole = _compiled(items, b, order, accumulator, fused, start, observe)
        else:
            each = [
                _by_numpy(rows, matrix, order, accumulator, fused, start, observe)
                for rows, matrix in zip(items, b.matrix, strict=True)
            ]
            whole = np.stack(each) if each else np.zeros((0, a.shape[-2], b.columns), np.float32)
    return whole.reshape(*a.shape[:-1], b.columns)


def covers(accumulator: Accumulator) -> bool:
    """Whether the C kernels are there and compute sums in this accumulator."""
    return compiled.path() is not None and accumulator.format != "float16_corrected"


def _compiled(
    a: Single,
    b: Right,
    order: Order,
    accumulator: Accumulator,
    fused: bool,
    start: Single | None,
    observe: Observer,
) -> Single:
    if accumulator.format != "float32" and not (b.float16 and holds_float16(a)):
        raise ValueError("a float16 accumulator multiplies float16 values; convert the factors first (float16.py)")
    lanes = order.lanes if order.lanes_apart else 1
    parts = order.sums_of_terms(a.shape[-1])
    peaks = None if observe is unobserved else np.empty(a.shape[:2], np.float32)
    sums = partial_sums(a, b.packed, parts, lanes * order.parts, accumulator, fused=fused, begin=start, peaks=peaks)
    if peaks is not None:
        observe("peak", peaks)
        observe("sum", sums)
    grid: list[list[Single]] = [list(lane) for lane in sums.reshape(lanes, order.parts, *sums.shape[1:])]
    if len(grid) == len(grid[0]) == 1:
        return grid[0][0]
    whole = combined_grid(grid, order, adder(accumulator))
    observe("sum", whole)
    return whole


def _by_numpy(
    a: Single,
    b: Single,
    order: Order,
    accumulator: Accumulator,
    fused: bool,
    start: Single | None,
    observe: Observer,
) -> Single:
    """As many rows at a time as memory allows."""
    columns = np.ascontiguousarray(b.T)
    rows = max(1, _ELEMENTS // max(1, b.size))
    blocks = []
    for first in range(0, a.shape[0], rows):
        block = a[first : first + rows, np.newaxis]
        partial = partial_products(
            block, columns[np.newaxis], order, accumulator, fused=fused, start=start, observe=observe
        )
        observe("sum", partial)
        blocks.append(combine_partial(partial, order, accumulator))
    whole = np.concatenate(blocks) if blocks else np.zeros((0, b.shape[1]), np.float32)
    observe("sum", whole)
    return whole
