"""SOFTMAX and LAYER_NORM kernels against loops of NumPy's scalars, one row and one thread at a time.

Which maximum a thread starts from, in which groups threads meet, and what is rounded on the way each
move the last bit of a result: every one is compared to the bit.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import IEEE, Conversion
from fidelity.arithmetic.kernels.elementwise import binary
from fidelity.arithmetic.kernels.layer_norm import layer_norm
from fidelity.arithmetic.kernels.softmax import softmax
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.profile import load_profile
from fidelity.arithmetic.rules import Case, Elementwise, LayerNorm, Range, Share, Softmax
from fidelity.arithmetic.summation import Accumulator

Single = NDArray[np.float32]
F, H = np.float32, np.float16
TRUNCATED = Conversion("toward_zero", "saturate")


def rows(seed: int, count: int, width: int, scale: float = 3.0) -> Single:
    generator = np.random.Generator(np.random.Philox(seed))
    return (generator.standard_normal((count, width)) * scale).astype(H).astype(F)


def e(x: F) -> F:
    return F(np.exp(np.float64(x)))


def truncated(x: F) -> H:
    near = H(x)
    return np.nextafter(near, H(0)) if abs(F(near)) > abs(x) else near


def one_pass(row: Single, lanes: int, parts: int, groups: tuple[int, ...]) -> tuple[F, F]:
    """Maximum and sum: slices of a row dealt in turn to threads, which all start from the row's first number."""
    threads = []
    for part in range(parts):
        most, total = row[0], F(0)
        for first in range(part * lanes, len(row), parts * lanes):
            here = row[first : first + lanes]
            moved = max(most, here.max())
            powers = e(here[0] - moved)
            for value in here[1:]:
                powers = powers + e(value - moved)
            total = total * e(most - moved) + powers
            most = moved
        threads.append((most, total))
    for size in (*groups, len(threads)):
        threads = [met(threads[first : first + size]) for first in range(0, len(threads), size)]
    return threads[0]


def met(threads: list[tuple[F, F]]) -> tuple[F, F]:
    most, total = threads[0]
    for other, more in threads[1:]:
        both = max(most, other)
        most, total = both, total * e(most - both) + more * e(other - both)
    return most, total


@pytest.mark.parametrize(
    ("lanes", "parts", "groups", "width"),
    [(1, 1, (), 9), (4, 1, (), 30), (2, 3, (), 31), (2, 8, (4, 2), 64), (2, 8, (2, 4), 64), (4, 12, (3,), 101)],
)
def test_online_sums_are_those_of_threads_that_start_from_the_first_number(
    lanes: int, parts: int, groups: tuple[int, ...], width: int
) -> None:
    """The first rows begin with their maximum, so that no thread's maximum ever moves; the last end with it."""
    x = rows(1, 40, width)
    x[:10, 0] = x[:10].max(axis=1) + 2
    x[30:, -1] = x[30:].max(axis=1) + 2
    order = Order(lanes=lanes, parts=parts, combine=groups or "running")
    rule = Softmax(passes="online", lanes=lanes, shared=(Case(order=order),), shares=(Share(),))
    got = softmax(x, rule)
    for row, result in zip(x, got, strict=True):
        most, total = one_pass(row, lanes, parts, groups)
        expected = [e(value - most) * (F(1) / total) for value in row]
        assert result.tolist() == F(expected).tolist()


def test_orders_of_threads_show_in_some_bit() -> None:
    """What the test above compares is told apart by its rows: no two of these sums are all alike."""
    x = rows(1, 40, 64)
    x[:10, 0] += 8
    variants = [(2, 8, (4, 2)), (2, 8, (2, 4)), (2, 8, ()), (2, 4, ()), (4, 8, ())]
    sums = {tuple(float(one_pass(row, *variant)[1]) for row in x) for variant in variants}
    assert len(sums) == len(variants)


def test_the_number_of_rows_decides_how_many_threads_share_one() -> None:
    few = Case(when={"rows": Range(at_most=2)}, order=Order(lanes=2, parts=4))
    rule = Softmax(passes="online", lanes=2, shared=(few, Case(order=Order(lanes=2))), shares=(Share(),))
    x = rows(2, 3, 40)
    for count, parts in ((2, 4), (3, 1)):
        for row, result in zip(x[:count], softmax(x[:count], rule), strict=True):
            most, total = one_pass(row, 2, parts, ())
            assert result[0] == e(row[0] - most) * (F(1) / total)


@pytest.mark.parametrize("quotient", [None, TRUNCATED])
def test_two_passes_round_every_step(quotient: Conversion | None) -> None:
    """Numbers that are no float16 values, so that the difference rounds."""
    x = rows(3, 20, 50) * F(1.0003)
    rule = Softmax(
        steps=IEEE,
        accumulator=Accumulator("float16"),
        shares=(Share(quotient=quotient, stored=None if quotient is None else IEEE),),
        order=Order(),
    )
    for row, result in zip(x, softmax(x, rule), strict=True):
        powers = [H(e(F(H(value - row.max())))) for value in row]
        total = H(0)
        for power in powers:
            total = H(total + power)
        if quotient is None:
            expected = [F(power) / F(total) for power in powers]
        else:
            expected = [H(F(power) * F(truncated(F(1) / F(total)))) for power in powers]
        assert result.tolist() == [float(value) for value in expected]


def test_an_online_quotient_is_of_float16_powers() -> None:
    """e^x in float16 is 2 to the product with log2(e), both float16; the maximum is a float16 already."""
    x = rows(4, 20, 33) * F(1.0003)
    share = Share(quotient=TRUNCATED, stored=IEEE)
    rule = Softmax(passes="online", lanes=4, shares=(share,))
    for row, result in zip(x, softmax(x, rule), strict=True):
        most, total = one_pass(row, 4, 1, ())
        inverse = F(truncated(F(1) / total))
        for value, got in zip(row, result, strict=True):
            product = H(F(H(value - F(H(most)))) * F(H(np.log2(np.e))))
            assert got == H(F(H(F(np.exp2(np.float64(product))))) * inverse)


@pytest.mark.parametrize(("absorbed", "other"), [(False, IEEE), (True, IEEE), (True, None)])
def test_what_is_stored_changes_where_a_reader_is_computed_together(absorbed: bool, other: Conversion | None) -> None:
    x = rows(5, 6, 20)
    rule = Softmax(passes="online", shares=(Share(stored=TRUNCATED, stored_absorbed=other),))
    wide = softmax(x, Softmax(passes="online", shares=(Share(),)))
    convert = H if absorbed and other is not None else truncated
    expected = [[float(convert(value)) for value in row] for row in wide]
    assert softmax(x, rule, absorbed=absorbed).tolist() == expected
    norm = LayerNorm(cases=(Case(),), stored=TRUNCATED, stored_absorbed=other)
    wide = layer_norm(x, F(1e-5), LayerNorm(cases=(Case(),)))
    expected = [[float(convert(value)) for value in row] for row in wide]
    assert layer_norm(x, F(1e-5), norm, absorbed=absorbed).tolist() == expected


def added(terms: list[F], parts: int) -> F:
    sums = [F(0)] * parts
    for place, term in enumerate(terms):
        sums[place % parts] = sums[place % parts] + term
    total = sums[0]
    for partial in sums[1:]:
        total = total + partial
    return total


@pytest.mark.parametrize("variance", ["squares", "deviations"])
def test_a_layernorm_multiplies_float32_sums_by_a_float32_share(variance: str) -> None:
    """Three by two rows of 23 around 9, where the squares cancel; six rows are more than the first case takes."""
    x = rows(6, 6, 23) + F(9)
    few = Case(when={"rows": Range(at_most=5)}, order=Order())
    rule = LayerNorm(variance=variance, cases=(few, Case(order=Order(parts=4))))
    eps = F(1e-3)
    for count, parts in ((6, 4), (4, 1)):
        got = layer_norm(x[:count].reshape(-1, 2, 23), eps, rule).reshape(count, 23)
        for row, result in zip(x[:count], got, strict=True):
            share = F(1) / F(23)
            mean = added(list(row), parts) * share
            if variance == "squares":
                spread = added([value * value for value in row], parts) * share - mean * mean
            else:
                spread = added([(value - mean) * (value - mean) for value in row], parts) * share
            expected = [(value - mean) * (F(1) / np.sqrt(spread + eps)) for value in row]
            assert result.tolist() == F(expected).tolist()


def test_the_measured_softmax_shares_rows_among_threads() -> None:
    """12 rows of 33 slices: 64 threads in groups of eight. Its exponential is off by 2^-22, and 13 rows take another
    way, so that only float16 results are alike."""
    rule = load_profile("mldrift-webgpu-lavapipe").rules["SOFTMAX"]
    assert isinstance(rule, Softmax)
    x = rows(7, 13, 132)
    exact = np.exp(x.astype(np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    for count in (12, 13):
        np.testing.assert_allclose(softmax(x[:count], rule), exact[:count], rtol=2.0**-10, atol=2.0**-24)


def test_inner_sites_are_shown() -> None:
    """Of softmax: the greatest, the sum, and the powers where they are stored. Of a LayerNorm: sums, mean, variance."""
    x = rows(8, 4, 32)
    seen: dict[str, list[Single]] = {}

    def observe(part: str, values: Single) -> None:
        seen.setdefault(part, []).append(values.copy())

    softmax(x, Softmax(passes="online", shares=(Share(quotient=IEEE),)), observe=observe)
    assert seen["greatest"][0].tolist() == x.max(axis=1).tolist()
    assert seen["sum"][0].tolist() == [float(one_pass(row, 1, 1, ())[1]) for row in x]
    assert seen["power"][0].max() == 1
    seen.clear()
    softmax(x, Softmax(shares=(Share(),)), observe=observe)
    assert seen["difference"][0].max() == 0
    assert seen["power"][0].max() == 1
    assert seen["sum"][-1].reshape(-1).tolist() == [float(added([e(v - row.max()) for v in row], 1)) for row in x]
    seen.clear()
    layer_norm(x, F(0), LayerNorm(cases=(Case(order=Order(parts=2)),)), observe=observe)
    assert [values.shape for values in seen["sum"]] == [(4, 2, 1), (4,), (4, 2, 1), (4,)]
    np.testing.assert_allclose(seen["mean"][1][:, 0], x.astype(np.float64).var(axis=1), rtol=1e-5)
    seen.clear()
    binary("SQUARED_DIFFERENCE", x, -x, Elementwise(steps=IEEE, stored=IEEE), observe)
    assert seen["difference"][0].tolist() == (2 * x).tolist()
