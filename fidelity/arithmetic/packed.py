"""Products and sums by the C kernels: numbers laid out for them, and the partial sums of a product.

The kernels read the right side of a product in blocks of 32 columns, term by term: contiguous, and
each block fits a core's cache. The layout is made once for weights that never change.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import IEEE, compiled_rule, holds_float16
from fidelity.arithmetic.summation import Accumulator

Single = NDArray[np.float32]
_HALF, _SINGLE, _SINGLE_FUSED, _RULED, _RULED_FUSED = range(5)  # enum arithmetic of kernels.c
_ROWS_AT_ONCE = 64  # ROWS_AT_ONCE of kernels.c
_SMALL = 1 << 18  # multiplications that take less time than handing them to another thread


class _Packing(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("start", "to", "greatest")),
        *((name, ctypes.c_int64) for name in ("items", "columns", "terms")),
        ("steps", ctypes.c_int64 * 3),
    )


class _Product(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "b", "greatest", "begin", "sums", "peaks", "term", "start")),
        *((name, ctypes.c_int64) for name in ("items", "rows", "terms", "columns", "parts")),
        ("harmless", ctypes.c_float),
        ("arithmetic", ctypes.c_int32),
        ("conversion", compiled.Conversion),
    )


class _Statistics(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "greatest", "sums")),
        *((name, ctypes.c_int64) for name in ("blocks", "terms", "lanes")),
    )


@dataclass(frozen=True)
class Packed:
    """Matrices [items, terms, columns] as the kernels read them.

    `blocks` [items, column blocks, terms, 32] has zeros after the last column; `greatest`, without
    the last axis, is the largest magnitude there.
    """

    blocks: Single
    greatest: Single
    columns: int

    @property
    def matrix(self) -> Single:
        """[items, terms, columns], a copy."""
        items, _, terms, _ = self.blocks.shape
        return self.blocks.transpose(0, 2, 1, 3).reshape(items, terms, -1)[:, :, : self.columns]


def pack(b: Single) -> Packed:
    """float32 `b` [items, terms, columns], whatever its strides."""
    if any(step % b.itemsize for step in b.strides) or not b.flags.aligned:
        b = np.ascontiguousarray(b)
    items, terms, columns = b.shape
    blocks = -(-columns // compiled.COLUMNS)
    packed = np.empty((items, blocks, terms, compiled.COLUMNS), np.float32)
    greatest = np.empty((items, blocks, terms), np.float32)
    item, term, column = (step // b.itemsize for step in b.strides)
    work = _Packing(
        *(array.ctypes.data for array in (b, packed, greatest)), items, columns, terms, (item, column, term)
    )
    compiled.share_out("fidelity_pack", work, items * blocks if packed.size > _SMALL else 1)
    return Packed(packed, greatest, columns)


def partial_sums(
    a: Single,
    b: Packed,
    parts: NDArray[np.int32],
    count: int,
    accumulator: Accumulator,
    *,
    fused: bool = False,
    begin: Single | None = None,
    peaks: Single | None = None,
) -> Single:
    """Partial sums [count, items, M, N] of a [items, M, K] times b [items, K, N]; term k goes to parts[k].

    Each is a running sum over its terms in ascending order, from zero, the first from `begin` [N],
    rounded as `summation.partial_products` does. Accumulators in float16 take float16 values.
    `peaks` [items, M], where given, receives the largest magnitude that any of a row's running
    sums reached, NaN where one was. Raises ValueError for shapes that do not fit, and for a corrected accumulator.
    """
    items, rows, terms = a.shape
    if b.blocks.shape[0] != items or b.blocks.shape[2] != terms or parts.shape != (terms,):
        raise ValueError(f"a {a.shape}, b {b.blocks.shape} packed and parts {parts.shape} do not fit each other")
    if terms and not 0 <= parts.min() <= parts.max() < count:
        raise ValueError(f"parts from {parts.min()} to {parts.max()} of {count}")
    if accumulator.format == "float16_corrected":
        raise ValueError("the kernels have no corrected accumulator")
    a = np.require(a, np.float32, ("C", "A"))
    term = np.argsort(parts, kind="stable").astype(np.int32)
    start = np.concatenate([[0], np.bincount(parts, minlength=count).cumsum()]).astype(np.int32)
    sums = np.empty((count, items, rows, b.columns), np.float32)
    first = None if begin is None else _filled(begin, b)
    reached = None if peaks is None else np.empty((b.blocks.shape[1], items, rows), np.float32)
    arrays = (a, b.blocks, b.greatest, first, sums, reached, term, start)
    work = _Product(
        *(None if array is None else array.ctypes.data for array in arrays),
        items,
        rows,
        terms,
        b.columns,
        count,
        _harmless(terms, begin),
        _arithmetic(accumulator, fused, begin),
        compiled_rule(accumulator.conversion),
    )
    small = items * rows * terms * b.columns <= _SMALL
    units = items * b.blocks.shape[1] * -(-rows // _ROWS_AT_ONCE)
    compiled.share_out("fidelity_multiply", work, 1 if small else units)
    if peaks is not None and reached is not None:
        np.max(reached, axis=0, out=peaks, initial=0)
    return sums


def softmax_statistics(rows: Single, lanes: int) -> tuple[Single, Single]:
    """Greatest and sum of e^(x - greatest) of every row of [rows, K], K >= 1, as kernels/softmax.py defines them."""
    if rows.ndim != 2 or rows.shape[1] == 0 or lanes < 1:
        raise ValueError(f"a softmax of {rows.shape} in slices of {lanes}")
    packed = pack(rows.T[np.newaxis])
    blocks = packed.blocks.shape[1]
    greatest, sums = np.empty((2, blocks * compiled.COLUMNS), np.float32)
    work = _Statistics(*(array.ctypes.data for array in (packed.blocks, greatest, sums)), blocks, rows.shape[1], lanes)
    compiled.share_out("fidelity_softmax_statistics", work, 1 if packed.blocks.size <= _SMALL else blocks)
    return greatest[: rows.shape[0]], sums[: rows.shape[0]]


def _filled(begin: Single, b: Packed) -> Single:
    """[N] with zeros up to whole blocks."""
    if begin.shape != (b.columns,):
        raise ValueError(f"a start {begin.shape} for {b.columns} columns")
    filled = np.zeros(b.blocks.shape[1] * compiled.COLUMNS, np.float32)
    filled[: b.columns] = begin
    return filled


def _arithmetic(accumulator: Accumulator, fused: bool, begin: Single | None) -> int:
    if accumulator.format == "float32":
        return _SINGLE_FUSED if fused else _SINGLE
    if fused:
        return _RULED_FUSED
    plain = begin is None or (holds_float16(begin) and not np.any(np.signbit(begin) & (begin == 0)))
    return _HALF if plain and accumulator.conversion == IEEE else _RULED


def _harmless(terms: int, begin: Single | None) -> float:
    """The largest sum of |a b| that cannot overflow float16, in any order and with any signs.

    With u = 2^-11, rounding makes a product at most |p| (1 + u) + 2^-25, and each sum at most (1 + u) times as
    large. The kernel adds up |a b| in float32, some per cent too small at the very worst.
    """
    growth = (1 + 2.0**-11) ** min(terms + 1, 1 << 14)  # beyond, nothing is harmless
    first = 0.0 if begin is None or begin.size == 0 else float(np.abs(begin).max())
    return 65504 / growth / 1.1 - first - terms * 2.0**-25 if terms < 1 << 14 else 0.0
