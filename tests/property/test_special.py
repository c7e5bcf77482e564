"""Elementwise and special functions on every float16 value, against float64 and within derived bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from fidelity.arithmetic import elementwise, special
from fidelity.arithmetic.float16 import from_float16

EVERY = from_float16(np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16))
FINITE = EVERY[np.isfinite(EVERY)]


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_two_operands_are_rounded_once(name: str) -> None:
    """Against float64, exact for +, - and * and 42 bits beyond a quotient's midpoint distance for /."""
    b = np.random.Generator(np.random.Philox(1)).permutation(EVERY)
    function = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}[name]
    with np.errstate(all="ignore"):
        expected = function(EVERY.astype(np.float64), b.astype(np.float64)).astype(np.float16).astype(np.float32)
    got = getattr(elementwise, name)(EVERY, b)
    assert np.array_equal(got, expected, equal_nan=True)


def test_squared_difference_rounds_twice() -> None:
    a, b = np.float32([2049, 300]), np.float32([0.5, -300])
    assert elementwise.squared_difference(np.float32([2048.0]), np.float32([0.5])).tolist() == [np.inf]
    assert elementwise.squared_difference(a[1:], b[1:]).tolist() == [np.inf]  # 600^2 is beyond float16
    assert elementwise.squared_difference(np.float32([128.0]), np.float32([0.03])).tolist() == [16384.0]


def test_roots() -> None:
    positive = FINITE[FINITE > 0]
    root = np.sqrt(positive.astype(np.float64)).astype(np.float16)
    assert np.array_equal(elementwise.square_root(positive), root.astype(np.float32))
    reciprocal = (1 / root.astype(np.float64)).astype(np.float16).astype(np.float32)
    assert np.array_equal(elementwise.reciprocal_root(positive), reciprocal)
    assert np.isnan(elementwise.square_root(np.float32([-1.0])))
    assert elementwise.reciprocal_root(np.float32([0.0])) == np.inf


def test_exp2_is_within_its_polynomials_error() -> None:
    """Mesa states 2.4e-7 for the polynomial; evaluation adds at most 3 roundings of 2^-24 of the result."""
    x = np.linspace(-120, 120, 200_001).astype(np.float32)
    with np.errstate(over="ignore"):
        relative = special.exp2_gallivm(x) / np.exp2(x.astype(np.float64)) - 1
    assert np.abs(relative).max() <= 2.4e-7 + 3 * 2.0**-24
    assert special.exp2_gallivm(np.float32([0.0, 3.0, -4.0])).tolist() == [1.0, 8.0, 0.0625]


def test_exponential_is_as_good_as_its_rounded_argument() -> None:
    """log2(e) is off by 2^-11 at most and so is the product: e^x by |x| 2 2^-11, then one rounding, in all 1 %."""
    x = FINITE[np.abs(FINITE) < 9]
    relative = special.exponential(x).astype(np.float64) / np.exp(x.astype(np.float64)) - 1
    assert np.all(np.abs(relative) <= (np.abs(x) * 2 + 1.1) * 2.0**-11)
    assert special.exponential(np.float32([12.0])) == np.inf


def test_gelu_is_near_the_function_and_not_far_better() -> None:
    """Seven float16 roundings of numbers at most 1 stand before the last product with x / 2."""
    x = FINITE[(np.abs(FINITE) < 20)].astype(np.float64)
    true = 0.5 * x * (1 + erf(x / np.sqrt(2)))
    error = np.abs(special.gelu(x.astype(np.float32)) - true)
    assert np.all(error <= 7 * 2.0**-11 * np.abs(x) + 2.0**-24)
    assert error.max() > 2.0**-12
