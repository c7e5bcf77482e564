"""Elementwise and special functions on every float16 value, against float64 and within derived bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from fidelity.arithmetic import special
from fidelity.arithmetic.float16 import IEEE, from_float16
from fidelity.arithmetic.kernels.elementwise import binary
from fidelity.arithmetic.kernels.functions import unary
from fidelity.arithmetic.rules import Elementwise, Function

EVERY = from_float16(np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16))
FINITE = EVERY[np.isfinite(EVERY)]


HALF = Elementwise(steps=IEEE, stored=IEEE)


@pytest.mark.parametrize(
    ("kind", "function"), [("ADD", np.add), ("SUB", np.subtract), ("MUL", np.multiply), ("DIV", np.divide)]
)
def test_two_operands_are_rounded_once(kind: str, function: np.ufunc) -> None:
    """Against float64, exact for +, - and * and 42 bits beyond a quotient's midpoint distance for /."""
    b = np.random.Generator(np.random.Philox(1)).permutation(EVERY)
    with np.errstate(all="ignore"):
        expected = function(EVERY.astype(np.float64), b.astype(np.float64)).astype(np.float16).astype(np.float32)
    got = binary(kind, EVERY, b, HALF)
    assert np.array_equal(got, expected, equal_nan=True)


def test_squared_difference_rounds_twice() -> None:
    def squared(a: float, b: float) -> float:
        return float(binary("SQUARED_DIFFERENCE", np.float32([a]), np.float32([b]), HALF)[0])

    assert squared(2048, 0.5) == np.inf
    assert squared(300, -300) == np.inf  # 600^2 is beyond float16
    assert squared(128, 0.03) == 16384.0
    wide = Elementwise(stored=IEEE)
    assert binary("SQUARED_DIFFERENCE", np.float32([128.0]), np.float32([0.03]), wide)[0] == 16376.0


def test_roots() -> None:
    positive = FINITE[FINITE > 0]
    root = np.sqrt(positive.astype(np.float64)).astype(np.float16)
    assert np.array_equal(unary("SQRT", positive, Function(stored=IEEE)), root.astype(np.float32))
    reciprocal = (1 / root.astype(np.float64)).astype(np.float16).astype(np.float32)
    twice = Function(function="reciprocal_of_root", stored=IEEE)
    assert np.array_equal(unary("RSQRT", positive, twice), reciprocal)
    assert np.isnan(unary("SQRT", np.float32([-1.0]), Function(stored=IEEE)))
    assert unary("RSQRT", np.float32([0.0]), twice) == np.inf
    once = unary("RSQRT", positive, Function(stored=IEEE))
    assert np.mean(once != reciprocal) > 0.1  # rounding twice is another function


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
