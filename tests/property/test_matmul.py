"""Every compiled path and the NumPy path give the bits of `summation.dot`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import Conversion, from_float16, round_to_float16
from fidelity.arithmetic.matmul import covers, matmul, plain_side, right_side
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.packed import pack, partial_sums
from fidelity.arithmetic.summation import Accumulator, combine_partial, dot, partial_products

Single = NDArray[np.float32]
HALF = Accumulator("float16")
ORDERS = (
    Order(),
    Order(lanes=4, parts=8, combine="halves"),
    Order(lanes=4, lanes_apart=True, parts=3, combine="neighbours"),
    Order(parts=5, dealing="block"),
)
ACCUMULATORS = st.one_of(
    st.just(HALF),
    st.builds(
        Accumulator,
        st.sampled_from(("float16", "float32")),
        st.builds(
            Conversion,
            st.sampled_from(("nearest_even", "toward_zero")),
            st.sampled_from(("infinite", "saturate")),
            st.sampled_from(("kept", "flushed")),
        ),
    ),
)
PATHS = pytest.mark.parametrize("path", compiled.paths())


def drawn(seed: int, shape: tuple[int, ...], spread: int) -> Single:
    generator = np.random.Generator(np.random.Philox(seed))
    return round_to_float16(generator.standard_normal(shape) * 2.0 ** generator.integers(-spread, spread, shape))


def same_bits(a: Single, b: Single) -> bool:
    """Of all but NaN, whose sign and payload are nobody's promise."""
    nan = np.isnan(a)
    return bool(np.array_equal(np.where(nan, 0, a).view(np.uint32), np.where(np.isnan(b), 0, b).view(np.uint32))) and (
        np.array_equal(nan, np.isnan(b))
    )


@PATHS
@given(
    st.sampled_from(ORDERS), ACCUMULATORS, st.booleans(), st.sampled_from((None, 0, 1)),
    st.integers(1, 9), st.integers(1, 80), st.integers(1, 70), st.integers(0, 2**32), st.integers(1, 15),
)  # fmt: skip
def test_matmul_is_dot_of_rows_and_columns(
    path: str, order: Order, accumulator: Accumulator, fused: bool, start: int | None,
    m: int, k: int, n: int, seed: int, spread: int,
) -> None:  # fmt: skip
    """A spread of 15 reaches subnormal products and infinite sums; NaN comes of the latter. A start may hold -0,
    and need not hold float16 values (1)."""
    a, b = drawn(seed, (2, m, k), spread), drawn(seed + 1, (2, k, n), spread)
    begin = None if start is None else drawn(seed + 2, (n,), spread) * np.float32(1 + start * 0.2345)
    if begin is not None and seed % 2:
        begin[seed % n] = -0.0
    with compiled.on_path(None):
        columns = b.swapaxes(1, 2)[:, np.newaxis]
        partial = partial_products(a[:, :, np.newaxis], columns, order, accumulator, fused=fused, start=begin)
        expected = combine_partial(partial, order, accumulator)
    with compiled.on_path(path):
        assert same_bits(matmul(a, right_side(b), order, accumulator, fused=fused, start=begin), expected)


@PATHS
@given(st.integers(0, 2**32), st.sampled_from(ORDERS), st.integers(1, 40), st.booleans())
def test_float32_sums_of_float32_numbers(path: str, seed: int, order: Order, k: int, fused: bool) -> None:
    generator = np.random.Generator(np.random.Philox(seed))
    a, b = generator.standard_normal((3, k)).astype(np.float32), generator.standard_normal((k, 40)).astype(np.float32)
    expected = dot(a[:, None], b.T[None], order, Accumulator("float32"), fused=fused)
    with compiled.on_path(path):
        assert same_bits(matmul(a, right_side(b), order, Accumulator("float32"), fused=fused), expected)


@PATHS
@pytest.mark.parametrize("rows", [1, 3, 70])
def test_sums_that_overflow_on_the_way(path: str, rows: int) -> None:
    """Up to 65504, over it, over it and back, by a product alone, and by infinities and NaN that are given:
    what the fast loop must notice is in one row of many, each time another one."""
    b = np.full((6, 33), 256, np.float32)
    b[3, 32] = 255.875
    cases = np.array(
        [
            [128, 127, 0, 0, 0, 0],  # 65280
            [128, 127, 0, 0.875, 0, 0],  # 65504
            [128, 127, 0, 0.9375, 0, 0],  # 65520, a tie that rounds to infinity
            [128, 128, -128, 0, 0, 0],
            [-128, 256, 0, 0, 0, 0],  # the product overflows, their sum would not
            [np.inf, -1, 0, 0, 0, 0],
            [np.nan, 0, 0, 0, 0, 0],
        ],
        np.float32,
    )
    for case, place in zip(cases, range(0, 7 * 11, 11), strict=True):
        a = drawn(5, (rows, 6), 3)
        a[place % rows] = case
        expected = dot(a[:, None], b.T[None], Order(), HALF)
        with compiled.on_path(path):
            assert same_bits(matmul(a, right_side(b), Order(), HALF), expected)
            huge = b.copy()
            huge[2] = [65504.0, np.inf, np.nan] * 11
            assert same_bits(matmul(a, right_side(huge), Order(), HALF), dot(a[:, None], huge.T[None], Order(), HALF))


@PATHS
@pytest.mark.parametrize(
    "accumulator", [HALF, Accumulator("float16", Conversion("toward_zero")), Accumulator("float32")]
)
@pytest.mark.parametrize("fused", [False, True])
def test_minus_zero_stays_where_every_term_is_one(path: str, accumulator: Accumulator, fused: bool) -> None:
    a, b = np.full((1, 3), -0.0, np.float32), np.ones((3, 2), np.float32)
    start = np.array([-0.0, 0.0], np.float32)
    with compiled.on_path(path):
        got = matmul(a, right_side(b), Order(), accumulator, fused=fused, start=start)
    assert np.signbit(got).tolist() == [[True, False]]


@PATHS
def test_a_start_that_float16_does_not_hold_is_added_to_before_it_is_rounded(path: str) -> None:
    """1 + 2^-11 is midway between float16 values, and 2^-24 is lost in a float32 sum with it: a tie, to even."""
    start, small = np.array([1 + 2.0**-11], np.float32), np.array([[2.0**-12]], np.float32)
    with compiled.on_path(path):
        assert matmul(small, right_side(small), Order(), HALF, start=start).tolist() == [[1 + 2.0**-10]]


@PATHS
def test_what_a_fused_sum_loses_in_float64_still_breaks_a_tie(path: str) -> None:
    """64.03125 is midway between 64 and 64.0625; 3 * 2^-48 is 3/4 of float64's last place there, so that the sum
    rounds to an odd neighbour of the tie, and must not be stepped from there onto it."""
    a, b = np.array([[3 * 2.0**-24]], np.float32), np.array([[2.0**-24]], np.float32)
    start = np.array([64.03125], np.float32)
    with compiled.on_path(path):
        got = matmul(a, right_side(b), Order(), HALF, fused=True, start=start)
        below = matmul(-a, right_side(b), Order(), HALF, fused=True, start=start + np.float32(0.0625))
    assert got.tolist() == [[64.0625]]
    assert below.tolist() == [[64.0625]]


@PATHS
def test_every_product_and_sum_is_rounded_as_numpy_does(path: str) -> None:
    """All float16 values times 1 added to some number: each value, each way of rounding the sum. Then times it."""
    every = from_float16(np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16))
    first = np.array([1, 2.0**-14, 65504, 0.1, 1 + 2.0**-10, 3 * 2.0**-24], np.float16).astype(np.float32)
    a = np.stack([first, np.ones_like(first)], axis=1)
    with compiled.on_path(path), np.errstate(over="ignore", invalid="ignore"):
        got = matmul(a, right_side(np.stack([np.ones_like(every), every])), Order(), HALF)
        expected = (first[:, None].astype(np.float64) + every).astype(np.float16).astype(np.float32)
        assert np.array_equal(got, expected, equal_nan=True)
        got = matmul(first[:, None], right_side(every[None]), Order(), HALF)
        expected = (first[:, None].astype(np.float64) * every).astype(np.float16).astype(np.float32)
        assert np.array_equal(got, expected, equal_nan=True)


@PATHS
@given(st.integers(0, 2**32), st.sampled_from(ORDERS), st.integers(1, 60), ACCUMULATORS)
def test_peaks_are_the_largest_that_any_running_sum_reached(
    path: str, seed: int, order: Order, k: int, accumulator: Accumulator
) -> None:
    """The running sum after t terms is the whole sum of the first t of its part."""
    a, b = drawn(seed, (1, 5, k), 6), drawn(seed + 1, (1, k, 37), 6)
    parts = order.sums_of_terms(k)
    count = int(parts.max()) + 1
    expected = np.zeros((1, 5), np.float32)
    peaks = np.empty((1, 5), np.float32)
    with compiled.on_path(path):
        for terms in range(1, k + 1):
            sums = partial_sums(a[:, :, :terms], pack(b[:, :terms]), parts[:terms], count, accumulator)
            expected = np.maximum(expected, np.abs(sums).max(axis=(0, 3)))
        got = partial_sums(a, pack(b), parts, count, accumulator, peaks=peaks)
        assert same_bits(got, partial_sums(a, pack(b), parts, count, accumulator))
    assert same_bits(peaks, expected)


def test_the_observer_sees_a_sum_that_went_over_and_came_back() -> None:
    seen: dict[str, float] = {}

    def observe(part: str, values: Single) -> None:
        seen[part] = float(np.abs(values).max())

    a = np.array([[60000, -59000]], np.float32)
    for path in (None, *compiled.paths()):
        seen.clear()
        with compiled.on_path(path):
            matmul(a, right_side(np.ones((2, 1), np.float32)), Order(), Accumulator("float32"), observe=observe)
        assert seen == {"peak": 60000, "sum": 1000}


@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**32))
def test_packing_takes_any_strides(columns: int, terms: int, how: int, seed: int) -> None:
    whole = drawn(seed, (2, terms + 2, 2 * columns), 3)
    b = (
        whole[:, :terms, :columns],
        whole[:, :terms, ::2],
        whole[:, -3::-1, :columns],
        np.broadcast_to(whole[:1, :terms, :columns], (2, terms, columns)),
        np.asfortranarray(whole[:, :terms, :columns]),
        whole.astype(">f4")[:, :terms, :columns].astype(np.float32),
    )[how]
    packed = pack(b)
    assert np.array_equal(packed.matrix, b)
    assert np.array_equal(packed.greatest.max(axis=1), np.abs(b).max(axis=2))


def test_what_the_kernels_do_not_cover_is_computed_by_numpy() -> None:
    corrected = Accumulator("float16_corrected")
    assert not covers(corrected)
    a, b = drawn(1, (3, 40), 4), drawn(2, (40, 5), 4)
    for side in (right_side(b), plain_side(b)):
        assert same_bits(matmul(a, side, Order(), corrected), dot(a[:, None], b.T[None], Order(), corrected))
    with pytest.raises(ValueError, match="no corrected accumulator"):
        partial_sums(a[None], pack(b[None]), np.zeros(40, np.int32), 1, corrected)


def test_without_the_kernels_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = drawn(3, (20, 70), 8), drawn(4, (70, 33), 8)
    with_them = matmul(a, right_side(b), ORDERS[1], HALF)
    monkeypatch.setattr(compiled, "path", lambda: None)
    assert not covers(HALF)
    assert same_bits(matmul(a, right_side(b), ORDERS[1], HALF), with_them)


def test_what_does_not_fit_is_refused() -> None:
    one = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match=r"\[..., M, K\] and \[..., K, N\]"):
        matmul(np.ones((2, 3), np.float32), right_side(np.ones((4, 2), np.float32)), Order(), HALF)
    with pytest.raises(ValueError, match=r"\[..., M, K\] and \[..., K, N\]"):
        matmul(np.ones((2, 1, 1), np.float32), right_side(np.ones((3, 1, 1), np.float32)), Order(), HALF)
    for path in (None, *compiled.paths()):
        with compiled.on_path(path), pytest.raises(ValueError, match="convert the factors first"):
            matmul(np.full((1, 1), 0.1, np.float32), right_side(one), Order(), HALF)
    with pytest.raises(ValueError, match="do not fit each other"):
        partial_sums(np.ones((1, 2, 3), np.float32), pack(one[None]), np.zeros(3, np.int32), 1, HALF)
    for parts in ([1], [-1]):
        with pytest.raises(ValueError, match="of 1"):
            partial_sums(one[None], pack(one[None]), np.array(parts, np.int32), 1, HALF)
    with pytest.raises(ValueError, match="a start"):
        partial_sums(one[None], pack(one[None]), np.zeros(1, np.int32), 1, HALF, begin=np.ones(2, np.float32))
