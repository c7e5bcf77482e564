"""Laws that metrics obey for every array: exact rational figures, scale, shift, permutation, bounds.

The oracle for sums is `fractions.Fraction`: every float is a rational number, so figures up to
one square root are exact.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fidelity.comparison.metrics import OUTPUT_METRICS, SET_METRICS
from fidelity.comparison.metrics.outcome import Measured, Undefined

# float32 values, as devices return them, over twelve decades and exactly zero
VALUES = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) >= 1e-6)
# the same by whole numbers, where constants and ties are common
INTEGERS = st.integers(-3, 3).map(float)
# Sums of 24 terms in float64 lose at most 24 * 2**-53 of the sum of magnitudes. Centring divides by
# deviations that float32 keeps above 2**-24 of the largest value: 24 * 2**-53 * 2**24 = 4e-8 at
# worst for one pass, squared away by the second; 1e-9 holds with room.
CENTRED = 1e-9
PLAIN = 1e-12


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=6))
    elements = draw(st.sampled_from([VALUES, INTEGERS]))
    actual, reference = (draw(hnp.arrays(np.float64, shape, elements=elements)) for _ in range(2))
    return actual, reference


@st.composite
def sets(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    count = draw(st.integers(3, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    common = generator.standard_normal((1, 12)) * draw(st.floats(0, 3))
    reference = {f"i{k}": common + generator.standard_normal((1, 12)) for k in range(count)}
    error = draw(st.floats(0, 2))
    actual = {name: array + error * generator.standard_normal((1, 12)) for name, array in reference.items()}
    return actual, reference


def figure(name: str, actual: np.ndarray, reference: np.ndarray) -> float | None:
    """The figure, or None when there is a named reason for none; never NaN."""
    outcome = OUTPUT_METRICS[name].function(actual, reference)
    if isinstance(outcome, Undefined):
        assert outcome.why
        return None
    assert not math.isnan(outcome.value)
    return outcome.value


def rationals(array: np.ndarray) -> list[Fraction]:
    return [Fraction(float(x)) for x in array.ravel()]


def root(value: Fraction) -> float:
    """Square root to float64 accuracy without leaving its range on the way."""
    scaled = value * 4**600
    return math.ldexp(float(Fraction(math.isqrt(int(scaled)))), -600)


@given(pairs())
def test_correlation_and_line_are_those_of_exact_arithmetic(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, r = map(rationals, pair)
    n = len(a)
    a_mean, r_mean = sum(a) / n, sum(r) / n
    saa, srr = sum((x - a_mean) ** 2 for x in a), sum((y - r_mean) ** 2 for y in r)
    sar = sum((x - a_mean) * (y - r_mean) for x, y in zip(a, r, strict=True))
    found = figure("correlation", *pair)
    assert (found is None) == (saa == 0 or srr == 0)
    if found is not None:
        expected = math.copysign(root(sar**2 / (saa * srr)), sar)
        assert found == pytest.approx(expected, abs=CENTRED)
    gradient, intercept = figure("slope", *pair), figure("offset", *pair)
    assert (gradient is None) == (intercept is None) == (srr == 0)
    if gradient is not None and intercept is not None:
        size = math.sqrt(float(saa / srr))  # a slope near 0 is a difference of terms of this size
        assert gradient == pytest.approx(float(sar / srr), rel=CENTRED, abs=CENTRED * size)
        rms = root(sum(y * y for y in r) / n)
        terms = (abs(float(a_mean)) + abs(float(sar / srr * r_mean)) + size * abs(float(r_mean))) / rms
        exact = float(a_mean - sar / srr * r_mean) / rms
        assert intercept == pytest.approx(exact, abs=CENTRED * (1 + terms))


@given(pairs())
def test_norms_and_errors_are_those_of_exact_arithmetic(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, r = map(rationals, pair)
    rr, aa = sum(y * y for y in r), sum(x * x for x in a)
    errors = [abs(x - y) for x, y in zip(a, r, strict=True)]
    assert figure("largest_absolute_error", *pair) == float(max(errors))
    for name, exact in (
        ("relative_l2", lambda: root(sum(e * e for e in errors) / rr)),
        ("norm_ratio", lambda: root(aa / rr)),
        ("peak_error", lambda: float(max(errors)) / root(rr / len(r))),
    ):
        found = figure(name, *pair)
        assert (found is None) == (rr == 0)
        if found is not None:
            assert found == pytest.approx(exact(), rel=PLAIN)
    found = figure("cosine", *pair)
    assert (found is None) == (rr == 0 or aa == 0)
    if found is not None:
        dot = sum(x * y for x, y in zip(a, r, strict=True))
        assert found == pytest.approx(math.copysign(root(dot**2 / (aa * rr)), dot), abs=PLAIN)


@given(pairs())
def test_every_figure_lies_in_the_range_that_the_registry_states(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for name, metric in OUTPUT_METRICS.items():
        found = figure(name, *pair)
        assert found is None or metric.scale.least <= found <= metric.scale.greatest


@given(pairs(), st.integers(-8, 8), st.booleans())
def test_a_common_power_of_two_changes_no_bit_of_a_figure_without_unit(
    pair: tuple[np.ndarray, np.ndarray], exponent: int, negative: bool
) -> None:
    factor = math.ldexp(-1.0 if negative else 1.0, exponent)
    for name, metric in OUTPUT_METRICS.items():
        if name in ("saturated_share",):
            continue  # 65,504 is absolute by definition
        before, after = figure(name, *pair), figure(name, pair[0] * factor, pair[1] * factor)
        if metric.scale.unit == "output":
            assert before is None or after == before * abs(factor)
        elif name == "offset" and before is not None and after is not None:
            assert after == math.copysign(1, factor) * before
        else:
            assert after == before, name


@given(pairs(), st.integers(-8, 8))
def test_what_correlation_is_blind_to_others_see(pair: tuple[np.ndarray, np.ndarray], exponent: int) -> None:
    factor = math.ldexp(1.0, exponent)
    reference = pair[1]
    assume(np.ptp(reference) > 0)
    scaled = factor * reference
    assert figure("correlation", scaled, reference) == pytest.approx(1, abs=PLAIN)
    assert figure("slope", scaled, reference) == pytest.approx(factor, rel=CENTRED)
    assert figure("norm_ratio", scaled, reference) == pytest.approx(factor, rel=PLAIN)
    assert figure("relative_l2", scaled, reference) == pytest.approx(abs(factor - 1), rel=PLAIN, abs=PLAIN)


@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_the_elements_matters_to_rows_only(
    pair: tuple[np.ndarray, np.ndarray], random: np.random.Generator
) -> None:
    order = list(range(pair[0].size))
    random.shuffle(order)
    shuffled = [array.ravel()[order].reshape(array.shape) for array in pair]
    for name in OUTPUT_METRICS:
        if name == "worst_row_error" and pair[0].ndim > 1:
            continue
        before, after = figure(name, *pair), figure(name, *shuffled)
        assert (before is None) == (after is None)
        if before is not None and after is not None and math.isfinite(before):
            # sums in another order; an offset or slope near 0 is a difference of larger terms
            size = 1 + (figure("norm_ratio", *pair) or 0) * 1e6
            assert after == pytest.approx(
                before, rel=CENTRED, abs=CENTRED * size if name in ("slope", "offset") else CENTRED
            )


@given(pairs())
def test_the_reference_and_the_arrays_are_left_alone(pair: tuple[np.ndarray, np.ndarray]) -> None:
    copies = [array.copy() for array in pair]
    for array in pair:
        array.flags.writeable = False
    for name in OUTPUT_METRICS:
        figure(name, *pair)
    for array, copy in zip(pair, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@given(pairs())
def test_norms_bound_each_other(pair: tuple[np.ndarray, np.ndarray]) -> None:
    # |‖a‖/‖r‖ - 1| <= ‖a - r‖/‖r‖ <= worst row, and ‖e‖ / sqrt(n) <= max |e|: triangle inequalities
    ratio, error = figure("norm_ratio", *pair), figure("relative_l2", *pair)
    row, peak = figure("worst_row_error", *pair), figure("peak_error", *pair)
    if None in (ratio, error, row, peak):
        return
    assert ratio is not None
    assert error is not None
    assert row is not None
    assert peak is not None
    slack = PLAIN * (1 + error)
    assert abs(ratio - 1) <= error + slack
    assert error <= row + slack
    assert error <= peak * (1 + PLAIN)


@given(pairs(), st.data())
def test_one_nan_anywhere_leaves_no_figure_but_its_own_count(
    pair: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, pair[0].size - 1))
    bad = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    spoilt = pair[0].copy()
    spoilt.flat[place] = bad
    for name in OUTPUT_METRICS:
        found = figure(name, spoilt, pair[1])
        if name == "non_finite_share":
            assert found == 1 / pair[0].size
        elif name != "saturated_share":
            assert found is None


@given(sets(), st.randoms(use_true_random=False))
def test_sets_have_no_order_and_figures_lie_in_range(
    arrays: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], random: np.random.Generator
) -> None:
    actual, reference = arrays
    names = list(actual)
    random.shuffle(names)
    for metric in SET_METRICS.values():
        found = metric.function(actual, reference)
        assert isinstance(found, Measured), found
        assert metric.scale.least <= found.value <= metric.scale.greatest
        shuffled = metric.function({n: actual[n] for n in names}, {n: reference[n] for n in reversed(names)})
        assert shuffled == found


@given(sets())
def test_a_perfect_set_is_perfect(arrays: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    reference = arrays[1]
    values = {name: metric.function(reference, reference) for name, metric in SET_METRICS.items()}
    assert values["centred_correlation"].value == pytest.approx(1, abs=PLAIN)
    assert values["input_dependence"].value == pytest.approx(1, abs=PLAIN)
    assert values["repeated_outputs"].value == values["frozen_share"].value == 0
    assert values["nearest_neighbour_agreement"].value == 1
    assert values["nearest_neighbour_regret"].value == 0
    assert values["misplacement"].value < 0


@given(sets())
def test_any_constant_output_is_caught_by_four_metrics(
    arrays: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
) -> None:
    actual, reference = arrays
    constant = dict.fromkeys(actual, actual["i0"])
    values = {name: metric.function(constant, reference) for name, metric in SET_METRICS.items()}
    # exactly 0 or less in real numbers: products with the centred references sum to zero
    assert values["centred_correlation"].value <= PLAIN
    assert values["input_dependence"].value == 0
    assert values["repeated_outputs"].value == math.comb(len(constant), 2)
    assert values["frozen_share"].value == 1
    assert values["nearest_neighbour_regret"].value > 0


@given(sets())
def test_the_centred_common_component_makes_no_difference(
    arrays: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
) -> None:
    actual, reference = arrays
    more = {name: array + 4.0 for name, array in reference.items()}
    shifted = {name: array + 4.0 for name, array in actual.items()}
    before = SET_METRICS["centred_correlation"].function(actual, reference)
    after = SET_METRICS["centred_correlation"].function(shifted, more)
    assert before.value == pytest.approx(after.value, abs=CENTRED)
