"""What the LayerNorm contracts say of fp16, held against arithmetic: every step rounded to fp16.

The device of this test is the plainest fp16 one: each operation rounds to fp16, sums run in order
in an fp16 accumulator. Real devices differ (arithmetic profiles come with prediction); the card's
phone behaves like this where it matters.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.models.counter_random import normal
from fidelity.rewrites.safe_layernorm import (
    FIXED_SCALE,
    FP16_LARGEST,
    SMALLEST_AMAX,
    SafeLayerNormRewrite,
    row_target,
)

WIDTH, EPS = 768, 1e-5
Half = NDArray[np.float16]
# A running fp16 sum of K terms errs by up to sqrt(K) roundings of 2^-11 at random: 768^0.5 / 2048 =
# 0.0135 relative in the variance, half of it in the deviation; twice that is allowed.
WITHIN = 0.02


def rows(deviation: float, count: int = 4) -> NDArray[np.float64]:
    return normal(3, "rows", (count, WIDTH)).astype(np.float64) * deviation


def running_sum(values: Half) -> Half:
    total = np.zeros(values.shape[0], dtype=np.float16)
    for column in values.T:
        total = (total + column).astype(np.float16)
    return total[:, None]


def layernorm16(x: NDArray[np.float64], scale: Half | float, eps: Half | float) -> NDArray[np.float64]:
    """(row x scale) normalised with `eps`, every step in fp16."""
    with np.errstate(all="ignore"):
        scaled = (x.astype(np.float16) * np.float16(scale)).astype(np.float16)
        centred = scaled - (running_sum(scaled) / np.float16(WIDTH)).astype(np.float16)
        variance = (running_sum((centred * centred).astype(np.float16)) / np.float16(WIDTH)).astype(np.float16)
        root = np.sqrt((variance + np.asarray(eps, dtype=np.float16)).astype(np.float16))
        return (centred * (np.float16(1) / root)).astype(np.float16).astype(np.float64)


def row_scaled16(x: NDArray[np.float64]) -> NDArray[np.float64]:
    amax = np.abs(x.astype(np.float16)).max(axis=-1, keepdims=True)
    scale = (np.float16(row_target(WIDTH)) / np.maximum(amax, np.float16(SMALLEST_AMAX))).astype(np.float16)
    return layernorm16(x, scale, ((scale * scale).astype(np.float16) * np.float16(EPS)).astype(np.float16))


def error(got: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    centred = x - x.mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPS)
    gap = np.linalg.norm(got - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    return float(np.where(np.isfinite(gap), gap, np.inf).max())


def stock(x: NDArray[np.float64]) -> float:
    return error(layernorm16(x, 1.0, EPS), x)


def safe(x: NDArray[np.float64]) -> float:
    return error(layernorm16(x, 1 / FIXED_SCALE, EPS / FIXED_SCALE**2), x)


def test_stock_overflows_where_the_sum_of_squares_passes_the_largest_fp16() -> None:
    limit = np.sqrt(FP16_LARGEST / WIDTH)  # 9.24
    assert stock(rows(0.8 * limit)) < WITHIN
    assert stock(rows(1.2 * limit)) > 0.5


def test_safe_holds_on_the_whole_domain_of_its_contract() -> None:
    domain = SafeLayerNormRewrite.contract.fp16_row_deviation
    assert domain is not None
    low, high = domain
    for deviation in np.geomspace(low, 0.95 * high, 12):  # 0.95: rows are drawn, their deviation varies
        assert safe(rows(float(deviation))) < 0.05, deviation


def test_safe_fails_outside_its_domain_as_the_contract_says() -> None:
    assert safe(rows(5e-3)) > 0.3
    assert safe(rows(1.2 * 295)) > 0.5
    assert safe(np.full((1, WIDTH), 3.0)) == np.inf  # 0 times infinity


@pytest.mark.parametrize("deviation", [1e-3, 0.03, 1.0, 9.0, 60.0, 300.0, 3000.0, 1.2e4])
def test_row_scaled_holds_where_the_fixed_scale_does_not(deviation: float) -> None:
    assert error(row_scaled16(rows(deviation)), rows(deviation)) < 0.05


def test_row_scaled_gives_zeros_for_a_row_of_zeros() -> None:
    assert (row_scaled16(np.zeros((1, WIDTH))) == 0).all()
