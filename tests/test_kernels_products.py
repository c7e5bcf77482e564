"""Products, quotients and powers against loops of NumPy's scalars: what starts a sum, what rounds, in which order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import IEEE, Conversion
from fidelity.arithmetic.kernels import products
from fidelity.arithmetic.kernels.elementwise import binary
from fidelity.arithmetic.kernels.functions import power, unary
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.rules import Case, Elementwise, Function, Product, Range
from fidelity.arithmetic.summation import Accumulator

Single = NDArray[np.float32]
F, H = np.float32, np.float16
TRUNCATED = Conversion("toward_zero", "saturate")
HALF = Accumulator("float16")
TRUNCATING = Accumulator("float16", TRUNCATED)
EVERY = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(H).astype(F)


def uneven(seed: int, *shape: int) -> Single:
    generator = np.random.Generator(np.random.Philox(seed))
    return (generator.standard_normal(shape) * 2.0 ** generator.integers(-4, 5, shape)).astype(H).astype(F)


def truncated(x: F | float) -> H:
    near = H(x)
    return np.nextafter(near, H(0)) if abs(float(near)) > abs(float(x)) else near


def running(terms: Single, start: float = 0.0) -> H:
    total = H(start)
    for term in terms:
        total = H(total + H(term))
    return total


def rows_by_columns(x: Single, w: Single, bias: Single | None, rule: Product) -> Single:
    return products.fully_connected(x, products.weights(w, rule), bias, rule)


def test_a_bias_starts_the_sum_or_ends_it() -> None:
    x, w, bias = uneven(1, 9, 20), uneven(2, 7, 20), uneven(3, 7)
    first, last = (
        rows_by_columns(x, w, bias, Product(accumulator=HALF, cases=(Case(),), bias=where))  # type: ignore[arg-type]
        for where in ("first", "last")
    )
    for row in range(9):
        for column in range(7):
            terms = x[row] * w[column]
            assert first[row, column] == running(terms, float(bias[column]))
            assert last[row, column] == H(running(terms) + H(bias[column]))
    assert not np.array_equal(first, last)


def test_a_bias_is_added_in_the_accumulators_way_of_rounding() -> None:
    rule = Product(accumulator=TRUNCATING, cases=(Case(),), stored=IEEE)
    got = rows_by_columns(np.ones((1, 1), F), np.ones((2, 1), F), F([2.0**-11 + 2.0**-12, -(2.0**-13)]), rule)
    assert got.tolist() == [[1.0, 1 - 2.0**-11]]


def test_a_float32_sum_is_stored_as_the_rule_says_and_its_bias_is_not_rounded_before() -> None:
    one = np.ones((1, 1), F)
    for stored, expected in ((None, 1 + 2.0**-20), (IEEE, 1.0)):
        rule = Product(cases=(Case(),), stored=stored)
        assert rows_by_columns(one, one, F([2.0**-20]), rule).tolist() == [[expected]]


def test_factors_below_the_smallest_normal_are_flushed_where_the_accumulator_flushes() -> None:
    x, w = F([[2.0**-16, 1.0]]), F([[1024.0, 2.0]])
    for subnormals, expected in (("kept", 2 + 2.0**-6), ("flushed", 2.0)):
        conversion = Conversion(subnormals=subnormals)  # type: ignore[arg-type]
        rule = Product(accumulator=Accumulator("float16", conversion), cases=(Case(),))
        assert rows_by_columns(x, w, None, rule).tolist() == [[expected]]
        assert products.batch_matmul(w, x.T, rule).tolist() == [[expected]]


def test_rows_and_columns_choose_the_order() -> None:
    """Three rows of five columns are within the first case, five rows of three are not."""
    when = {"rows": Range(at_most=3), "columns": Range(at_least=5)}
    rule = Product(accumulator=HALF, cases=(Case(when=when, order=Order(parts=2)), Case()))
    a, b = uneven(4, 5, 40), uneven(5, 5, 40)
    for m, n in ((3, 5), (5, 3)):
        got = rows_by_columns(a[:m], b[:n], None, rule)
        again = products.batch_matmul(np.stack([a[:m]] * 4), b[:n].T[np.newaxis], rule)
        for row in range(m):
            for column in range(n):
                terms = a[row] * b[column]
                halves = H(running(terms[::2]) + running(terms[1::2]))
                assert got[row, column] == (halves if (m, n) == (3, 5) else running(terms))
        assert all(np.array_equal(each, got) for each in again)  # rows of one product of the four, not of all


@pytest.mark.parametrize(("strides", "dilations"), [((1, 1), (1, 1)), ((2, 1), (1, 2)), ((1, 3), (2, 1))])
def test_a_convolution_adds_rows_then_columns_then_channels(
    strides: tuple[int, int], dilations: tuple[int, int]
) -> None:
    x, w = uneven(6, 2, 7, 9, 3), uneven(7, 4, 2, 3, 3)
    rule = Product(accumulator=HALF, cases=(Case(),))
    window = products.Window(strides, dilations, before=(1, 0), after=(0, 2))
    got = products.conv_2d(x, products.weights(w, rule), (2, 3), window, None, rule)
    padded = np.zeros((2, 8, 11, 3), F)
    padded[:, 1:, :9] = x
    high = (8 - dilations[0] - 1) // strides[0] + 1
    wide = (11 - 2 * dilations[1] - 1) // strides[1] + 1
    assert got.shape == (2, high, wide, 4)
    for item, top, left, out in np.ndindex(got.shape):
        terms = [
            padded[item, top * strides[0] + r * dilations[0], left * strides[1] + c * dilations[1], k] * w[out, r, c, k]
            for r in range(2)
            for c in range(3)
            for k in range(3)
        ]
        assert got[item, top, left, out] == running(F(terms))


def test_a_reciprocal_division_rounds_the_reciprocal_as_a_step() -> None:
    a, b = uneven(8, 500), uneven(9, 500)
    by_reciprocal, wide, quotient = (
        binary("DIV", a, b, Elementwise(division=how, steps=steps, stored=IEEE))  # type: ignore[arg-type]
        for how, steps in (("reciprocal", TRUNCATED), ("reciprocal", None), ("quotient", TRUNCATED))
    )
    assert by_reciprocal.tolist() == [float(H(x * F(truncated(F(1) / y)))) for x, y in zip(a, b, strict=True)]
    assert wide.tolist() == [float(H(x * (F(1) / y))) for x, y in zip(a, b, strict=True)]
    assert quotient.tolist() == [float(H(x / y)) for x, y in zip(a, b, strict=True)]


def test_exceptions_of_a_function_are_looked_up_by_bits() -> None:
    seven, one = int(H(7).view(np.uint16)), int(H(1).view(np.uint16))
    plain = Function(stored=IEEE)
    other = plain.model_copy(update={"exceptions": ((one, seven), (0x8000, one))})
    differ = np.flatnonzero(unary("EXP", EVERY, plain) != unary("EXP", EVERY, other))
    differ = differ[~np.isnan(EVERY[differ])]
    assert differ.tolist() == [one]
    assert unary("EXP", F([1.0, -0.0, 0.0]), other).tolist() == [7.0, 1.0, 1.0]
    assert unary("NEG", F([-0.0]), other).tolist() == [1.0]


def half_log(x: float) -> H:
    return H(np.log2(np.float64(x)))


def test_a_power_by_logarithms_rounds_each_of_three_steps() -> None:
    x = np.abs(uneven(10, 300)) + F(2.0**-14)
    x = x.astype(H).astype(F)
    rule = Function(function="exp2_of_log2", stored=IEEE)
    got = power(x, F([0.7]), rule)
    expected = [H(F(np.exp2(np.float64(H(F(half_log(each)) * F(0.7)))))) for each in x]
    assert got.tolist() == [float(value) for value in expected]
    once = np.exp2(np.float64(H(0.00070429)))  # the one float16 whose power differs when it is rounded to float32 first
    assert H(once) != H(F(once))
    assert power(F([2.0]), F([H(0.00070429)]), rule).tolist() == [float(H(F(once)))]


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_one_square_or_cube_for_all_is_a_product_and_several_are_powers(exponent: float) -> None:
    x = np.minimum(np.abs(uneven(11, 300)), F(36))  # whose cube is a float16
    rule = Function(function="exp2_of_log2", stored=IEEE)
    squares = [H(each * each) for each in x]
    products_ = squares if exponent == 2 else [H(F(square) * each) for square, each in zip(squares, x, strict=True)]
    assert power(x, F([exponent]), rule).tolist() == [float(value) for value in products_]
    powers = [H(F(np.exp2(np.float64(H(F(half_log(each)) * F(exponent)))))) for each in x]
    assert power(x, np.full(300, exponent, F), rule).tolist() == [float(value) for value in powers]
    assert powers != products_


def test_powers_of_zeros_and_of_numbers_below() -> None:
    """Zero of either sign to any power, the zeroth and those below too, is zero on the device that was measured."""
    rule = Function(function="exp2_of_log2", stored=IEEE)
    zeros = F([-0.0, 0.0])
    for exponent in (-1.5, 0.5, 0.0):
        got = power(zeros, F([exponent]), rule)
        assert got.tolist() == [0.0, 0.0]
        assert not np.signbit(got).any()
    assert np.isnan(power(F([-2.0]), F([0.5]), rule)).all()
    assert power(F([-2.0]), F([3.0]), rule).tolist() == [-8.0]
    exact = Function(stored=IEEE)
    assert power(F([-2.0, 3.0, 0.0]), F([-2.0, 0.5, -1.0]), exact).tolist() == [0.25, float(H(np.sqrt(3.0))), np.inf]


def test_gelu_is_a_polynomial_of_truncated_constants_rounded_at_every_step() -> None:
    """Abramowitz and Stegun's 7.1.26, step by step, on some of all finite numbers."""
    p, root, log = F(truncated(0.3275911)), F(truncated(0.5**0.5)), F(H(np.log2(np.e)))
    a = [F(truncated(each)) for each in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)]
    rule = Function(function="abramowitz_stegun", stored=IEEE)
    for x in EVERY[np.abs(EVERY) < 8][::29]:
        z = F(H(x * root))
        t = F(H(F(1) / F(H(F(1) + F(H(abs(z) * p))))))
        horner = F(H(t * a[4]))
        for constant in a[3::-1]:
            horner = F(H(t * F(H(horner + constant))))
        decay = F(H(F(np.exp2(np.float64(H(z * F(H(z * -log))))))))
        erf = F(H(np.sign(z) * F(H(F(1) - F(H(horner * decay))))))
        expected = H(F(H(x * F(0.5))) * F(H(F(1) + erf)))
        assert unary("GELU", F([x]), rule)[0] == expected
