"""Sums and dots in every accumulator and order, held against exact rationals added along the explicit tree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import Conversion, round_to_float16
from fidelity.arithmetic.order import Order, Tree, tree
from fidelity.arithmetic.running import running_sums
from fidelity.arithmetic.summation import Accumulator, dot, partial_sums, total

HOWS = ("running", "halves", "neighbours", "fours")
CONVERSIONS = st.builds(
    Conversion,
    st.sampled_from(("nearest_even", "toward_zero")),
    st.sampled_from(("infinite", "saturate")),
    st.sampled_from(("kept", "flushed")),
)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    lanes = draw(st.sampled_from((1, 2, 4, 8)))
    return Order(
        lanes=lanes,
        lanes_apart=lanes > 1 and draw(st.booleans()),
        parts=draw(st.one_of(st.integers(1, 9), st.sampled_from((16, 17, 33, 64, 70)))),
        dealing=draw(st.sampled_from(("stride", "block"))),
        combine=draw(st.sampled_from(HOWS)),
        combine_lanes=draw(st.sampled_from(HOWS)),
    )


def drawn(seed: int, count: int, spread: int) -> NDArray[np.float32]:
    """float16 values whose exponents spread so far that the order of a sum shows."""
    generator = np.random.Generator(np.random.Philox(seed))
    exponents = generator.integers(-spread, min(spread, 14) + 1, count)
    return round_to_float16(generator.standard_normal(count) * 2.0**exponents)


def rounded(value: Fraction, accumulator: Accumulator) -> Fraction | float:
    """To the accumulator's format, once; float for an infinity."""
    digits = 24 if accumulator.format == "float32" else 11
    lowest = -149 if accumulator.format == "float32" else -24
    rule = accumulator.conversion if accumulator.format == "float16" else Conversion()
    size = abs(value)
    if size == 0:
        return value
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > size
    unit = Fraction(2) ** max(exponent - digits + 1, lowest)
    whole = int(size / unit) if rule.rounding == "toward_zero" else round(size / unit)  # round: ties to even
    result = whole * unit
    if digits == 11 and result >= 65536:
        result = Fraction(65504) if rule.overflow == "saturate" else None
    if result is None:
        return float("inf") if value > 0 else float("-inf")
    if digits == 11 and rule.subnormals == "flushed" and result < Fraction(1, 2**14):
        result = Fraction(0)
    return result if value > 0 else -result


def along(node: Tree, terms: list[Fraction | float], accumulator: Accumulator) -> Fraction | float:
    """The tree evaluated."""
    if isinstance(node, int):
        return terms[node]
    return add(along(node[0], terms, accumulator), along(node[1], terms, accumulator), accumulator)


def add(left: Fraction | float, right: Fraction | float, accumulator: Accumulator) -> Fraction | float:
    if isinstance(left, float) or isinstance(right, float):
        return float(left) + float(right)
    return rounded(left + right, accumulator)


def plainly(order: Order, terms: list[Fraction], accumulator: Accumulator) -> Fraction | float:
    """The order carried out term by term, as its docstring reads: every partial sum starts at zero."""
    slices = -(-len(terms) // order.lanes)
    block = -(-slices // order.parts)
    lanes = order.lanes if order.lanes_apart else 1
    sums: list[list[Fraction | float]] = [[Fraction(0)] * order.parts for _ in range(lanes)]
    for index, term in enumerate(terms):
        at = index // order.lanes
        part = at % order.parts if order.dealing == "stride" else at // block
        lane = index % order.lanes if order.lanes_apart else 0
        sums[lane][part] = add(sums[lane][part], term, accumulator)
    over = [fold(parts, order.combine, accumulator) for parts in sums]
    return fold(over, order.combine_lanes, accumulator)


def fold(values: list[Fraction | float], how: str, accumulator: Accumulator) -> Fraction | float:
    several = Order(parts=len(values), combine=how)  # type: ignore[arg-type]
    return along(tree(several, len(values)), values, accumulator)


def same(got: np.float32, expected: Fraction | float) -> bool:
    wanted = np.float32(float(expected))
    return bool(got == wanted or (np.isnan(got) and np.isnan(wanted)))


@given(
    orders(), CONVERSIONS, st.sampled_from(("float16", "float32")), st.integers(1, 90),
    st.integers(0, 2**32), st.integers(0, 14),
)  # fmt: skip
def test_a_sum_is_its_tree(order: Order, conversion: Conversion, form: str, count: int, seed: int, spread: int) -> None:
    terms = drawn(seed, count, spread)
    accumulator = Accumulator(form, conversion)  # type: ignore[arg-type]
    got = total(terms, order, accumulator)
    assert same(got, plainly(order, [Fraction(float(t)) for t in terms], accumulator))


@given(orders(), CONVERSIONS, st.sampled_from(("float16", "float32")), st.integers(1, 90), st.integers(0, 2**32))
def test_running_sums_are_the_same_by_every_path(
    order: Order, conversion: Conversion, form: str, count: int, seed: int
) -> None:
    """Terms that are float16 values, and terms that are not; what was reached on the way too."""
    accumulator = Accumulator(form, conversion)  # type: ignore[arg-type]
    for scale in (1, 1.2345):
        terms = drawn(seed, 6 * count, 14).reshape(3, 2, count) * np.float32(scale)
        expected: dict[str, NDArray[np.float32]] = {}
        sums = partial_sums(terms, order, accumulator, observe=expected.__setitem__)
        for path in compiled.paths():
            seen: dict[str, NDArray[np.float32]] = {}
            with compiled.on_path(path):
                got = running_sums(terms, order, accumulator, seen.__setitem__)
            assert np.array_equal(got, sums, equal_nan=True)
            assert np.array_equal(np.signbit(got) | np.isnan(got), np.signbit(sums) | np.isnan(sums))
            assert np.array_equal(seen["peak"].max(), expected["peak"].max(), equal_nan=True)


@given(orders(), st.integers(1, 90), st.integers(0, 2**32), st.integers(0, 14))
def test_the_tree_decides_a_sum_of_terms_that_the_accumulator_holds(
    order: Order, count: int, seed: int, spread: int
) -> None:
    terms = drawn(seed, count, spread)
    accumulator = Accumulator("float16")
    expected = along(tree(order, count), [Fraction(float(t)) for t in terms], accumulator)
    assert same(total(terms, order, accumulator), expected)


@given(orders(), CONVERSIONS, st.integers(1, 60), st.integers(0, 2**32), st.integers(0, 8), st.booleans())
def test_a_dot_in_float16_is_its_tree(
    order: Order, conversion: Conversion, count: int, seed: int, spread: int, fused: bool
) -> None:
    a, b = drawn(seed, count, spread), drawn(seed + 1, count, spread)
    accumulator = Accumulator("float16", conversion)
    products = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)]
    if not fused:
        products = [rounded(p, accumulator) for p in products]  # type: ignore[misc]
        if any(isinstance(p, float) for p in products):
            return  # an infinite product is followed by NaN rules that a rational cannot walk
    got = dot(a, b, order, accumulator, fused=fused)
    assert same(got, plainly(order, products, accumulator))


@given(orders(), st.integers(1, 60), st.integers(0, 2**32))
def test_a_fused_float32_dot_rounds_once(order: Order, count: int, seed: int) -> None:
    generator = np.random.Generator(np.random.Philox(seed))
    a, b = generator.standard_normal((2, count)).astype(np.float32)
    products = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)]
    accumulator = Accumulator("float32")
    expected = plainly(order, products, accumulator)
    assert same(dot(a, b, order, accumulator, fused=True), expected)


@given(orders(), st.integers(1, 200))
def test_every_term_is_added_once(order: Order, count: int) -> None:
    def leaves(node: Tree) -> list[int]:
        return [node] if isinstance(node, int) else [*leaves(node[0]), *leaves(node[1])]

    assert sorted(leaves(tree(order, count))) == list(range(count))


@given(orders(), st.integers(1, 40), st.integers(0, 2**32))
def test_leading_axes_are_computed_alone(order: Order, count: int, seed: int) -> None:
    terms = drawn(seed, 6 * count, 8).reshape(2, 3, count)
    for accumulator in (Accumulator("float16"), Accumulator("float16_corrected"), Accumulator("float32")):
        together = total(terms, order, accumulator)
        alone = [[total(terms[i, j], order, accumulator) for j in range(3)] for i in range(2)]
        assert np.array_equal(together, np.array(alone, np.float32), equal_nan=True)


@given(orders(), st.integers(1, 300), st.integers(0, 2**32))
def test_a_corrected_sum_is_as_good_as_one_rounding(order: Order, count: int, seed: int) -> None:
    """The corrections are exact or rounded to 24 bits, so K of them lose at most K 2^-24 of the terms' size."""
    terms = drawn(seed, count, 3)
    got = float(total(terms, order, Accumulator("float16_corrected")))
    true, size = float(terms.astype(np.float64).sum()), float(np.abs(terms.astype(np.float64)).sum())
    assert abs(got - true) <= 2.0**-11 * abs(true) + 2 * count * 2.0**-24 * size + 2.0**-25


def test_known_sums() -> None:
    ones = np.ones(4096, np.float32)
    assert total(ones, Order(), Accumulator("float16")) == 2048  # 2048 + 1 is a tie, to even
    assert total(ones, Order(parts=8), Accumulator("float16")) == 4096
    assert total(ones, Order(parts=4096, combine="neighbours"), Accumulator("float16")) == 4096
    assert total(ones, Order(), Accumulator("float16_corrected")) == 4096
    assert total(np.full(768, 100, np.float32), Order(), Accumulator("float16")) == np.inf
    saturating = Accumulator("float16", Conversion("toward_zero", "saturate"))
    assert total(np.full(768, 100, np.float32), Order(), saturating) == 65504


def test_a_fused_product_keeps_what_rounding_it_loses() -> None:
    a = np.array([1 + 2.0**-10, -1], np.float32)
    b = np.array([1 + 2.0**-10, 1 + 2.0**-9], np.float32)
    order, half = Order(), Accumulator("float16")
    assert dot(a[::-1], b[::-1], order, half, fused=True) == 2.0**-20
    assert dot(a[::-1], b[::-1], order, half) == 0


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order(), ((((0, 1), 2), 3), 4)),
        (Order(parts=2), (((0, 2), 4), (1, 3))),
        (Order(parts=2, dealing="block"), (((0, 1), 2), (3, 4))),
        (Order(parts=5, combine="neighbours"), (((0, 1), (2, 3)), 4)),
        (Order(parts=4, combine="halves"), (((0, 4), 2), (1, 3))),
        (Order(lanes=2, lanes_apart=True), (((0, 2), 4), (1, 3))),
        (Order(lanes=2, parts=2), ((((0, 1), 4)), (2, 3))),
    ],
)
def test_trees_by_hand(order: Order, expected: Tree) -> None:
    assert tree(order, 5) == expected


def test_fours() -> None:
    def depth(node: Tree) -> int:
        return 0 if isinstance(node, int) else 1 + max(depth(node[0]), depth(node[1]))

    assert depth(tree(Order(parts=64, combine="fours"), 64)) == 3 + 15
    assert depth(tree(Order(parts=16, combine="fours"), 16)) == 15


def test_what_cannot_be_added_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to add"):
        total(np.zeros((2, 0), np.float32), Order(), Accumulator())
    with pytest.raises(TypeError, match="float32"):
        total(np.zeros(3), Order(), Accumulator())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="convert the factors first"):
        dot(np.array([0.1], np.float32), np.ones(1, np.float32), Order(), Accumulator("float16"))
    with pytest.raises(ValueError, match="no fused form"):
        dot(np.ones(1, np.float32), np.ones(1, np.float32), Order(), Accumulator("float16_corrected"), fused=True)
    with pytest.raises(ValueError, match="counts from 1"):
        Order(parts=0)
    with pytest.raises(ValueError, match="single lane"):
        Order(lanes_apart=True)
    with pytest.raises(ValueError, match="no terms"):
        tree(Order(), 0)
