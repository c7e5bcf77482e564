"""Sums and dot products in any accumulator and any order, bit for bit, in plain NumPy.

The definition that every faster kernel is held against. All leading axes are computed at once;
time is one NumPy addition a round of the order. Every partial sum starts at +0, as kernels do: so
filling up with zeros changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from fidelity.arithmetic.float16 import IEEE, Conversion, holds_float16, round_to_float16
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.order import Order, combined_grid

Format = Literal["float16", "float16_corrected", "float32"]
Wide = NDArray[np.floating[Any]]
Single = NDArray[np.float32]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Accumulator:
    """What a running sum is kept in, and how each addition is rounded into it.

    `float16_corrected` keeps beside the float16 sum a float32 one of what each addition lost
    (Neumaier 1974), added at the end; once the sum overflows it is NaN, infinity less infinity.
    `conversion` is that of float16 sums; float32 rounds to the nearest, ties to even.
    """

    format: Format = "float32"
    conversion: Conversion = IEEE


def total(terms: Single, order: Order, accumulator: Accumulator) -> Single:
    """Sum over the last axis of float32 `terms` [..., K], K >= 1; float32 [...], in the accumulator's format.

    Float16 accumulators round each term as it is added, the first one included. NaN and infinity
    follow IEEE 754. Raises TypeError for another dtype, ValueError for no terms.
    """
    if terms.dtype != np.float32:
        raise TypeError(f"terms are float32 arrays, not {terms.dtype}")
    return _total(terms, order, accumulator)


def dot(a: Single, b: Single, order: Order, accumulator: Accumulator, *, fused: bool = False) -> Single:
    """Sum over the last axis of a * b, float32 [..., K], broadcast; float32 [...].

    Unfused, each product is rounded to the accumulator's format before it is added. Fused, product
    and sum are rounded once (fused multiply-add). For a float16 accumulator `a` and `b` must hold
    float16 values: their product has 22 bits, so that float32 holds it exactly before it is rounded.
    Raises TypeError for another dtype, ValueError for no terms, for values that are not float16
    where they must be, and for fused with a corrected accumulator.
    """
    return combine_partial(partial_products(a, b, order, accumulator, fused=fused), order, accumulator)


def partial_products(
    a: Single,
    b: Single,
    order: Order,
    accumulator: Accumulator,
    *,
    fused: bool = False,
    start: Single | None = None,
    observe: Observer = unobserved,
) -> Single:
    """The running sums of a `dot` before they are combined, as `partial_sums` gives them."""
    if a.dtype != np.float32 or b.dtype != np.float32:
        raise TypeError(f"factors are float32 arrays, not {a.dtype} and {b.dtype}")
    half = accumulator.format != "float32"
    if half and not (holds_float16(a) and holds_float16(b)):
        raise ValueError("a float16 accumulator multiplies float16 values; convert the factors first (float16.py)")
    if fused and accumulator.format == "float16_corrected":
        raise ValueError("a corrected accumulator has no fused form: the correction needs the rounded product")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if fused:
            return partial_sums(a.astype(np.float64) * b.astype(np.float64), order, accumulator, start, observe)
        product = a * b
        kept = round_to_float16(product, accumulator.conversion) if half else product
        return partial_sums(kept, order, accumulator, start, observe)


def _total(terms: Wide, order: Order, accumulator: Accumulator) -> Single:
    return combine_partial(partial_sums(terms, order, accumulator), order, accumulator)


def partial_sums(
    terms: Wide,
    order: Order,
    accumulator: Accumulator,
    start: Single | None = None,
    observe: Observer = unobserved,
) -> Single:
    """The running sums of `terms` [..., K] before they are combined: float32 [..., parts, lanes].

    `lanes` is 1 unless they are kept apart. A corrected accumulator has one more axis of two, sum
    and correction. `terms` may be float64 where product and sum are rounded once. `start`, which
    broadcasts to [...], is what the first of them starts from instead of zero.
    `observe` is shown the largest magnitude that each of them reached.
    Raises ValueError for no terms.
    """
    if terms.ndim == 0 or terms.shape[-1] == 0:
        raise ValueError(f"nothing to add: terms have shape {terms.shape}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        dealt = _deal(terms, order)  # [rounds, lanes in turn, ..., parts, lanes apart]
        add, dealt = _adding(accumulator, dealt)
        sums = np.zeros(dealt.shape[2:], np.float32)
        if start is not None:
            first = sums[..., 0, 0, 0] if accumulator.format == "float16_corrected" else sums[..., 0, 0]
            first[...] = start
        peaks = np.zeros_like(sums)
        for step in _slices(dealt, add) if order.dotted else dealt.reshape(-1, *dealt.shape[2:]):
            sums = add(sums, step)
            if observe is not unobserved:
                np.maximum(peaks, np.abs(sums), out=peaks)
        observe("peak", peaks[..., 0] if accumulator.format == "float16_corrected" else peaks)
        return sums


def _slices(dealt: Wide, add: Callable[[Single, Wide], Single]) -> Iterator[Single]:
    """The sum of each slice by itself, [..., parts, 1], round by round."""
    for lanes in dealt:
        here = np.zeros(lanes.shape[1:], np.float32)
        for step in lanes:
            here = add(here, step)
        yield here


def combine_partial(sums: Single, order: Order, accumulator: Accumulator) -> Single:
    """What `partial_sums` gave, combined to one sum: float32 [...], in the accumulator's format."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if accumulator.format != "float16_corrected":
            return _combine(sums, order, adder(accumulator))
        both = _combine(np.moveaxis(sums, -1, 0), order, _corrected_adder(accumulator.conversion))
        return round_to_float16(both[0] + both[1], accumulator.conversion)


def _adding(accumulator: Accumulator, dealt: Wide) -> tuple[Callable[[Single, Wide], Single], Wide]:
    """How a term is added to a running sum, and the terms as that wants them."""
    if accumulator.format != "float16_corrected":
        return adder(accumulator), dealt
    add = _corrected_adder(accumulator.conversion)
    return (
        lambda left, right: np.moveaxis(add(np.moveaxis(left, -1, 0), np.moveaxis(right, -1, 0)), 0, -1),
        np.stack([dealt, np.zeros_like(dealt)], axis=-1),
    )


def _deal(terms: Wide, order: Order) -> Wide:
    """Terms arranged by who adds them when: [rounds, lanes in turn, ..., parts, lanes apart]."""
    count = terms.shape[-1]
    rounds = order.rounds(count)
    filling = rounds * order.parts * order.lanes - count
    filled = np.concatenate([terms, np.zeros((*terms.shape[:-1], filling), terms.dtype)], axis=-1)
    grid = (rounds, order.parts) if order.dealing == "stride" else (order.parts, rounds)
    dealt = filled.reshape(*terms.shape[:-1], *grid, order.lanes)
    dealt = np.moveaxis(dealt, -3 if order.dealing == "stride" else -2, 0)  # [rounds, ..., parts, lanes]
    if order.lanes_apart:
        return dealt[:, np.newaxis]
    return np.moveaxis(dealt, -1, 1)[..., np.newaxis]


def _combine(sums: Single, order: Order, add: Callable[[Single, Wide], Single]) -> Single:
    """Partial sums [..., parts, lanes] to [...]."""
    lanes = [[sums[..., part, lane] for part in range(sums.shape[-2])] for lane in range(sums.shape[-1])]
    return combined_grid(lanes, order, add)


def _corrected_adder(conversion: Conversion) -> Callable[[Single, Wide], Single]:
    """Adds pairs of sum and correction, which are the first axis."""

    def add(left: Single, right: Wide) -> Single:
        s, x = left[0], right[0].astype(np.float32)
        t = round_to_float16(add_to_odd(s, x), conversion)
        lost = np.where(np.abs(s) >= np.abs(x), (s - t) + x, (x - t) + s)
        return np.stack([t, left[1] + right[1].astype(np.float32) + lost])

    return add


def adder(accumulator: Accumulator) -> Callable[[Single, Wide], Single]:
    """How one number is added to a sum that is not corrected, elementwise."""
    if accumulator.format == "float32":
        return _add_float32
    return lambda s, x: round_to_float16(add_to_odd(s, x), accumulator.conversion)


def _add_float32(s: Single, x: Wide) -> Single:
    """float32 sum of a float32 number and a float32 or (fused) float64 one, rounded once."""
    return np.asarray(s + x if x.dtype == np.float32 else add_to_odd(s, x), np.float32)


def add_to_odd(s: Single, x: Wide) -> NDArray[np.float64]:
    """s + x in float64, rounded to odd where it is not exact.

    Such a sum rounds again as the exact one would, by any rule, to any format of at most 51 bits
    (Boldo and Melquiond 2008). The error of the first rounding is Knuth's TwoSum.
    """
    a, b = s.astype(np.float64), x.astype(np.float64)
    near: NDArray[np.float64] = a + b
    back = near - a
    lost = (a - (near - back)) + (b - back)
    even = (near.view(np.uint64) & np.uint64(1)) == 0
    toward = np.where(lost > 0, np.inf, -np.inf)
    return np.where(np.isfinite(near) & (lost != 0) & even, np.nextafter(near, toward), near)
