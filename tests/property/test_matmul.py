"""Every compiled path and the NumPy path give the bits of `summation.dot`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import Conversion, round_to_float16
from fidelity.arithmetic.matmul import Right, covers, right_side
from fidelity.arithmetic.matmul import matmul as product
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.summation import Accumulator, dot

HALF = Accumulator("float16")
ORDERS = (
    Order(),
    Order(lanes=4, parts=8, combine="halves"),
    Order(lanes=4, lanes_apart=True, parts=3, combine="neighbours"),
    Order(parts=5, dealing="block"),
)


def matmul(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    order: Order,
    accumulator: Accumulator,
    *,
    fused: bool = False,
) -> NDArray[np.float32]:
    right: Right = right_side(b)
    return product(a, right, order, accumulator, fused=fused)


def drawn(seed: int, shape: tuple[int, int], spread: int) -> NDArray[np.float32]:
    generator = np.random.Generator(np.random.Philox(seed))
    return round_to_float16(generator.standard_normal(shape) * 2.0 ** generator.integers(-spread, spread, shape))


def same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b)))


@given(
    st.sampled_from(ORDERS), st.integers(1, 35), st.integers(1, 80), st.integers(1, 70),
    st.integers(0, 2**32), st.integers(1, 15),
)  # fmt: skip
def test_matmul_is_dot_of_rows_and_columns(order: Order, m: int, k: int, n: int, seed: int, spread: int) -> None:
    """A spread of 15 reaches subnormal products and infinite sums; NaN comes of the latter."""
    a, b = drawn(seed, (m, k), spread), drawn(seed + 1, (k, n), spread)
    expected = dot(a[:, None], b.T[None], order, HALF)
    nan = np.isnan(expected)  # the sign of a NaN is nobody's promise
    assert same_bits(np.where(nan, 0, matmul(a, b, order, HALF)), np.where(nan, 0, expected))
    assert np.array_equal(np.isnan(matmul(a, b, order, HALF)), nan)


@pytest.mark.parametrize("path", compiled.paths())
def test_every_compiled_path_rounds_every_product_and_sum_as_numpy_does(path: str) -> None:
    """All finite float16 values times 1 added to 1: each value, each way of rounding the sum."""
    every = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    every = np.concatenate([every, -every, [np.inf, -np.inf, np.nan]]).astype(np.float32)
    first = np.array([1, 2.0**-14, 65504, 0.1], np.float16).astype(np.float32)
    a = np.stack([first, np.ones(4, np.float32)], axis=1)
    b = compiled.padded(np.stack([np.ones_like(every), every]))
    got = compiled.partial_sums(a, b, np.zeros(2, np.int32), 1, path)[0, :, : every.size]
    with np.errstate(over="ignore", invalid="ignore"):
        expected = (first[:, None].astype(np.float64) + every).astype(np.float16).astype(np.float32)
    assert np.array_equal(got, expected, equal_nan=True)
    b = compiled.padded(every[None])
    scaled = compiled.partial_sums(first[:, None], b, np.zeros(1, np.int32), 1, path)[0, :, : every.size]
    with np.errstate(over="ignore", invalid="ignore"):
        expected = (first[:, None].astype(np.float64) * every).astype(np.float16).astype(np.float32)
    assert np.array_equal(scaled, expected, equal_nan=True)


@pytest.mark.parametrize("accumulator", [Accumulator("float16", Conversion("toward_zero")), Accumulator("float32")])
@pytest.mark.parametrize("fused", [False, True])
def test_what_the_kernel_does_not_cover_is_computed_by_numpy(accumulator: Accumulator, fused: bool) -> None:
    assert not covers(accumulator, fused)
    a, b = drawn(1, (3, 40), 4), drawn(2, (40, 5), 4)
    assert same_bits(
        matmul(a, b, Order(), accumulator, fused=fused), dot(a[:, None], b.T[None], Order(), accumulator, fused=fused)
    )


def test_without_the_kernel_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = drawn(3, (20, 70), 8), drawn(4, (70, 33), 8)
    with_it = matmul(a, b, ORDERS[1], HALF)
    monkeypatch.setattr(compiled, "paths", lambda: ())
    assert not covers(HALF, fused=False)
    assert same_bits(matmul(a, b, ORDERS[1], HALF), with_it)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[M, K\] and \[K, N\]"):
        matmul(np.ones((2, 3), np.float32), np.ones((4, 2), np.float32), Order(), HALF)
    with pytest.raises(ValueError, match="not available"):
        compiled.partial_sums(
            np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), np.zeros(1, np.int32), 1, "neon"
        )
    with pytest.raises(ValueError, match="convert the factors first"):
        matmul(np.full((1, 1), 0.1, np.float32), np.ones((1, 1), np.float32), Order(), HALF)
