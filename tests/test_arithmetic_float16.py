"""Conversions to float16, held against exact rationals and the list of all float16 values."""

from __future__ import annotations

import bisect
import itertools
import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import IEEE, LARGEST, SMALLEST_NORMAL, Conversion, from_float16, to_float16

ALL_BITS = np.arange(65536, dtype=np.uint32).astype(np.uint16)
VALUES = sorted(Fraction(struct.unpack("<e", struct.pack("<H", bits))[0]) for bits in range(0x7C00))
GRID = [*VALUES, Fraction(65536)]
RULES = [
    Conversion(rounding, overflow, subnormals)
    for rounding, overflow, subnormals in itertools.product(
        ("nearest_even", "toward_zero"), ("infinite", "saturate"), ("kept", "flushed")
    )
]


def exact(x: float, rule: Conversion) -> float:
    """What `x` becomes, by search among all float16 values and the one that would follow the last."""
    if not math.isfinite(x):
        return x
    size = Fraction(abs(x))
    above = bisect.bisect_left(GRID, size)
    if above == len(GRID):
        chosen = len(GRID) - 1
    elif GRID[above] == size:
        chosen = above
    elif rule.rounding == "toward_zero":
        chosen = above - 1
    else:
        down, up = size - GRID[above - 1], GRID[above] - size
        # the index is the bit pattern, so an even index is an even significand
        chosen = above if up < down or (up == down and above % 2 == 0) else above - 1
    if chosen == len(VALUES):
        result = float("inf") if rule.overflow == "infinite" else LARGEST
    else:
        result = float(GRID[chosen])
    if rule.subnormals == "flushed" and result < SMALLEST_NORMAL:
        result = 0.0
    return float(np.copysign(result, x))


def bits(x: NDArray[np.float16]) -> list[int]:
    return np.where(np.isnan(x), np.uint16(0x7E00), x.view(np.uint16)).tolist()


def interesting(dtype: type[np.floating]) -> NDArray[np.floating]:
    """Every float16 value, every midpoint, and the neighbours of both in the wider format."""
    halves = np.array([float(v) for v in VALUES])
    middles = (halves[1:] + halves[:-1]) / 2
    base = np.concatenate([halves, middles, [65519.996, 65520.0, 65535.9, 65536.0, 1e30, 1e-30]]).astype(dtype)
    near = np.concatenate([base, np.nextafter(base, dtype(np.inf)), np.nextafter(base, dtype(-np.inf))])
    return np.concatenate([near, -near, np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_value_midpoint_and_neighbour_is_rounded_exactly(rule: Conversion, dtype: type[np.floating]) -> None:
    x = interesting(dtype)[::7]  # 7 is coprime to the layout: all kinds of values stay in
    expected = np.array([exact(float(v), rule) for v in x]).astype(np.float16)
    assert bits(to_float16(x, rule)) == bits(expected)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_float16_value_survives_the_way_there_and_back(rule: Conversion) -> None:
    halves = ALL_BITS.view(np.float16)
    back = to_float16(from_float16(halves, rule.subnormals), rule)
    subnormal = (np.abs(halves) < np.float16(SMALLEST_NORMAL)) & (rule.subnormals == "flushed")
    expected = np.where(subnormal, np.copysign(np.float16(0), halves), halves)
    assert bits(back) == bits(expected)


def test_all_values_are_those_of_the_standard_library() -> None:
    known = [struct.unpack("<e", struct.pack("<H", b))[0] for b in range(65536)]
    assert np.array_equal(from_float16(ALL_BITS.view(np.float16)), np.array(known, np.float32), equal_nan=True)


def test_the_default_is_what_numpy_does() -> None:
    x = interesting(np.float32)
    with np.errstate(over="ignore"):
        assert bits(to_float16(x, IEEE)) == bits(x.astype(np.float16))


def test_the_measured_truncation() -> None:
    rule = Conversion("toward_zero", "saturate")
    x = np.array([76800.0, 2815.0, -2815.0, np.inf], np.float32)  # arithmetic.md, SUM over 768
    assert to_float16(x, rule).tolist() == [65504.0, 2814.0, -2814.0, np.inf]


def test_another_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match="float32 or float64"):
        to_float16(np.arange(3))  # type: ignore[arg-type]
