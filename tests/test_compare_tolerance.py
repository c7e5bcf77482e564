"""The derived tolerance: real sums keep it, real faults do not, and it grows as sqrt(K) and no faster."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.arithmetic.float16 import Conversion, round_to_float16
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.summation import Accumulator, dot
from fidelity.comparison.tolerance import EPS, Format, accumulation_tolerance, excess

ROWS = 200
ORDERS = (Order(), Order(lanes=4, parts=8, combine="halves"), Order(parts=4, dealing="block"))


def drawn(seed: int, terms: int, offset: float, accumulator: Format) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    sides = generator.standard_normal((2, ROWS, terms)) * 0.1 + offset * 0.1
    narrow = round_to_float16 if accumulator == "float16" else lambda x: x.astype(np.float32)
    return narrow(sides[0]), narrow(sides[1])


def worst(actual: np.ndarray, a: np.ndarray, b: np.ndarray, tolerance: float, stored: Format) -> float:
    products = a.astype(np.float64) * b.astype(np.float64)
    magnitude = np.abs(products).sum(axis=1)
    return excess(actual, products.sum(axis=1), magnitude, tolerance, stored, a.shape[1])


@given(
    seed=st.integers(0, 2**32),
    terms=st.integers(1, 1500),
    offset=st.sampled_from([0.0, 1.0, -3.0]),
    order=st.sampled_from(ORDERS),
    fused=st.booleans(),
    accumulator=st.sampled_from(["float16", "float32"]),
)
def test_sums_in_any_order_keep_it(
    seed: int, terms: int, offset: float, order: Order, fused: bool, accumulator: Format
) -> None:
    a, b = drawn(seed, terms, offset, accumulator)
    actual = dot(a, b, order, Accumulator(accumulator), fused=fused)
    assert worst(actual, a, b, accumulation_tolerance(terms, accumulator, accumulator), accumulator) <= 1


TOLERANCES: dict[str, Callable[[int, Format], float]] = {
    "K instead of its root": lambda terms, form: 4 * EPS[form] * terms,
    "no K at all": lambda terms, form: 4 * EPS[form],
    "the other format's eps": lambda terms, form: accumulation_tolerance(
        terms, "float32" if form == "float16" else "float16", "float32"
    ),
    "half an eps less": lambda terms, form: accumulation_tolerance(terms, form, form) / 64,
}


def sound(tolerance: Callable[[int, Format], float]) -> bool:
    """Whether fp16 and fp32 sums of many lengths keep it, and it is no more than a hundred times what they need."""
    for form in ("float16", "float32"):
        for terms in (4, 64, 1024):
            needed = 0.0
            for offset in (0.0, 2.0):
                a, b = drawn(terms, terms, offset, form)
                actual = dot(a, b, Order(), Accumulator(form))
                needed = max(needed, worst(actual, a, b, tolerance(terms, form), form))
            if not 0.01 <= needed <= 1:
                return False
    return True


def test_ours_is_sound_and_tight() -> None:
    assert sound(lambda terms, form: accumulation_tolerance(terms, form, form))


@pytest.mark.parametrize("name", TOLERANCES)
def test_a_broken_tolerance_is_too_wide_or_too_narrow(name: str) -> None:
    assert not sound(TOLERANCES[name])


def test_it_grows_as_the_root_of_the_terms() -> None:
    long, short = (accumulation_tolerance(terms, "float32", "float32") for terms in (40_000, 400))
    assert long / short == pytest.approx(10, rel=0.01)
    assert accumulation_tolerance(768, "float16", "float16") == pytest.approx(4 * 2**-10 * math.sqrt(769) + 2**-11)
    assert accumulation_tolerance(768, "float32", "float16") < 2**-10  # accumulated wide, stored narrow
    assert accumulation_tolerance(4, "float32", "float32", spec=0.01) == 0.01
    with pytest.raises(ValueError, match="0 terms"):
        accumulation_tolerance(0, "float16", "float16")


def test_faults_of_a_sum_are_outside() -> None:
    a, b = drawn(3, 512, 2.0, "float32")
    right = dot(a, b, Order(), Accumulator("float32"))
    tolerance = accumulation_tolerance(512, "float32", "float32")
    assert worst(right, a, b, tolerance, "float32") <= 1
    faults = {
        "a term left out": dot(a[:, 1:], b[:, 1:], Order(), Accumulator("float32")),
        "accumulated in fp16": dot(round_to_float16(a), round_to_float16(b), Order(), Accumulator("float16")),
        "NaN": np.where(np.arange(ROWS) == 7, np.float32(np.nan), right),
        "Inf": np.where(np.arange(ROWS) == 7, np.float32(np.inf), right),
        "another row": right[::-1],
    }
    for name, actual in faults.items():
        assert worst(actual, a, b, tolerance, "float32") > 1, name


def test_where_roundings_agree_it_does_not_hold_as_the_text_says() -> None:
    a = np.ones((1, 8192), np.float32)
    stuck = dot(a, a, Order(), Accumulator("float16"))
    assert stuck == 2048
    assert worst(stuck, a, a, accumulation_tolerance(8192, "float16", "float16"), "float16") > 1
    a, b = drawn(5, 2000, 2.0, "float16")
    truncated = dot(a, b, Order(), Accumulator("float16", Conversion("toward_zero")))
    assert worst(truncated, a, b, accumulation_tolerance(2000, "float16", "float16"), "float16") > 1


def test_the_excess_is_the_factor_that_would_pass() -> None:
    exact, magnitude = np.array([1.0, 2.0]), np.array([1.0, 2.0])
    actual = np.array([1.0, 2.02], np.float32)
    needed = excess(actual, exact, magnitude, 0.001, "float32", 4)
    assert needed == pytest.approx(10, rel=1e-5)
    assert excess(actual, exact, magnitude, 0.001 * needed * (1 + 1e-9), "float32", 4) <= 1
    assert excess(np.zeros(0, np.float32), np.zeros(0), np.zeros(0), 1.0, "float32", 1) == 0
