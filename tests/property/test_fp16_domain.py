"""What the LayerNorm contracts say of fp16 in numbers, held against the simulator: where each form overflows or sinks.

The device of this test is the plainest fp16 one: each operation rounds to fp16, sums run in order in
an fp16 accumulator. The card's phone behaves like this where it matters.
"""

from __future__ import annotations

import numpy as np
import pytest
from fp16_checks import PROFILES, SUBNORMAL

from fidelity.arithmetic.float16 import LARGEST
from fidelity.arithmetic.layernorm import PER_ROW, STOCK, NormOutcome, NormRows, Scale, rounding_error, simulate
from fidelity.models.counter_random import normal
from fidelity.rewrites.safe_layernorm import FIXED_SCALE, SafeLayerNormRewrite

WIDTH, EPS = 768, 1e-5
DEVICE = PROFILES["running-fp16"]
SAFE = Scale(kind="fixed", divisor=FIXED_SCALE)


def drawn(scale: Scale, deviation: float) -> NormOutcome:
    rows = normal(3, "rows", (4, WIDTH)) * np.float32(deviation)
    return simulate(NormRows(rows, EPS), scale, DEVICE)


def allowed(deviation: float, divisor: float) -> float:
    """Rounding of the sums, and q / v of what sinks among the subnormals (fp16_checks.py)."""
    return rounding_error(WIDTH) + SUBNORMAL * (divisor / deviation) ** 2


def test_stock_overflows_where_the_sum_of_squares_passes_the_largest_fp16() -> None:
    limit = np.sqrt(LARGEST / WIDTH)  # 9.24
    inside, outside = drawn(STOCK, 0.8 * limit), drawn(STOCK, 1.2 * limit)
    assert inside.overflowing == 0
    assert inside.worst_error < allowed(0.8 * limit, 1)
    assert outside.overflowing == 1
    assert outside.worst_error > 0.5
    # 0.8^2 of the largest is 0.64 bits below it, 1.2^2 0.53 bits above; drawn rows deviate by a few percent
    assert inside.headroom == pytest.approx(0.64, abs=0.15)
    assert outside.headroom == pytest.approx(-0.53, abs=0.15)
    assert inside.tightest == "sum of the variance"


def test_safe_holds_on_the_whole_domain_of_its_contract() -> None:
    domain = SafeLayerNormRewrite.contract.fp16_row_deviation
    assert domain is not None
    low, high = domain
    for deviation in np.geomspace(low, 0.95 * high, 12):  # 0.95: rows are drawn, their deviation varies
        found = drawn(SAFE, float(deviation))
        assert found.overflowing == 0, deviation
        assert found.worst_error < allowed(float(deviation), FIXED_SCALE), deviation


def test_safe_fails_outside_its_domain_as_the_contract_says() -> None:
    sunk, over = drawn(SAFE, 5e-3), drawn(SAFE, 1.2 * 295)
    assert (sunk.underflowing, sunk.overflowing) == (1, 0)
    assert sunk.worst_error > 0.3
    assert (over.underflowing, over.overflowing) == (0, 1)
    assert over.worst_error > 0.5
    zeros, flat = (simulate(NormRows(np.full((1, WIDTH), x, np.float32), EPS), SAFE, DEVICE) for x in (0.0, 3.0))
    assert zeros.worst_error == np.inf  # 0 times infinity
    assert flat.worst_error > 0.5  # the rounding of the mean is all that is left to normalise
    assert zeros.underflowing == flat.underflowing == 1


@pytest.mark.parametrize("deviation", [1e-3, 0.03, 1.0, 9.0, 60.0, 300.0, 3000.0, 1.2e4])
def test_row_scaled_holds_where_the_fixed_scale_does_not(deviation: float) -> None:
    found = drawn(PER_ROW, deviation)
    assert found.overflowing == 0
    assert found.worst_error < rounding_error(WIDTH)  # the largest number is 8 in the scaled domain: nothing sinks


def test_row_scaled_gives_zeros_for_a_row_of_zeros() -> None:
    found = simulate(NormRows(np.zeros((1, WIDTH), np.float32), EPS), PER_ROW, DEVICE)
    assert found.worst_error == 0
