"""Each metric of one output against an oracle that shares no code with it, and its named refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

from fidelity.comparison.metrics import OUTPUT_METRICS
from fidelity.comparison.metrics.outcome import Measured, Undefined

# Sums of n products in float64 are off by at most n * 2**-53 of the sum of magnitudes: 1e-13 for 1024.
TIGHT = 1e-12


def value(name: str, actual: np.ndarray, reference: np.ndarray) -> float:
    """The figure of a metric that must have one."""
    outcome = OUTPUT_METRICS[name].function(actual, reference)
    assert isinstance(outcome, Measured), outcome
    return outcome.value


def cause(name: str, actual: np.ndarray, reference: np.ndarray) -> str:
    """The cause of a metric that must have no figure."""
    outcome = OUTPUT_METRICS[name].function(actual, reference)
    assert isinstance(outcome, Undefined), outcome
    assert outcome.why
    return outcome.cause


def noisy_pair(shape: tuple[int, ...] = (197, 64), seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A reference off centre and an actual with another scale, offset and noise; nothing is trivial."""
    generator = np.random.default_rng(seed)
    reference = generator.standard_normal(shape) + 0.3
    return 0.9 * reference + 0.05 + 0.1 * generator.standard_normal(shape), reference


ORACLES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "correlation": lambda a, r: scipy.stats.pearsonr(a.ravel(), r.ravel()).statistic,
    "cosine": lambda a, r: 1 - scipy.spatial.distance.cosine(a.ravel(), r.ravel()),
    "slope": lambda a, r: scipy.stats.linregress(r.ravel(), a.ravel()).slope,
    "offset": lambda a, r: (
        scipy.stats.linregress(r.ravel(), a.ravel()).intercept / math.sqrt(math.fsum((r * r).ravel()) / r.size)
    ),
    "relative_l2": lambda a, r: math.dist(a.ravel(), r.ravel()) / math.hypot(*r.ravel()),
    "norm_ratio": lambda a, r: math.hypot(*a.ravel()) / math.hypot(*r.ravel()),
    "largest_absolute_error": lambda a, r: scipy.spatial.distance.chebyshev(a.ravel(), r.ravel()),
    "largest_relative_error": lambda a, r: max(
        abs(x - y) / abs(y) for x, y in zip(a.ravel().tolist(), r.ravel().tolist(), strict=True)
    ),
    "peak_error": lambda a, r: (
        scipy.spatial.distance.chebyshev(a.ravel(), r.ravel()) / (math.hypot(*r.ravel()) / math.sqrt(r.size))
    ),
    "median_error": lambda a, r: (
        scipy.stats.scoreatpercentile(abs(a - r).ravel(), 50) / scipy.stats.scoreatpercentile(abs(r).ravel(), 50)
    ),
    "worst_row_error": lambda a, r: max(
        math.dist(x, y) / math.hypot(*y)
        for x, y in zip(a.reshape(-1, a.shape[-1]), r.reshape(-1, a.shape[-1]), strict=True)
    ),
    "zero_share": lambda a, r: float(np.mean(a == 0)),
    "saturated_share": lambda a, r: float(np.mean(abs(a) >= 65504)),
    "non_finite_share": lambda a, r: sum(not math.isfinite(x) for x in a.ravel().tolist()) / a.size,
}


@pytest.mark.parametrize("name", OUTPUT_METRICS)
@pytest.mark.parametrize("shape", [(1, 1024), (197, 64), (2, 3, 5, 7), (9,)])
def test_each_metric_agrees_with_an_independent_oracle(name: str, shape: tuple[int, ...]) -> None:
    actual, reference = noisy_pair(shape)
    assert value(name, actual, reference) == pytest.approx(ORACLES[name](actual, reference), rel=TIGHT, abs=TIGHT)


@pytest.mark.parametrize("name", OUTPUT_METRICS)
def test_a_perfect_copy_has_the_figure_to_aim_at(name: str) -> None:
    reference = noisy_pair()[1]
    metric = OUTPUT_METRICS[name]
    assert value(name, reference, reference) == pytest.approx(metric.scale.ideal, abs=TIGHT)
    assert metric.meaning.endswith(".")


def test_exact_rational_figures_of_a_case_done_by_hand() -> None:
    # r = (1, 2, 3, 6), a = (2, 3, 7, 8): means 3 and 5, Srr = 14, Saa = 26, Sra = 17
    reference, actual = np.array([[1.0, 2, 3, 6]]), np.array([[2.0, 3, 7, 8]])
    gradient = Fraction(17, 14)
    rms = math.sqrt(Fraction(50, 4))
    assert value("correlation", actual, reference) == pytest.approx(17 / math.sqrt(14 * 26), rel=1e-15)
    assert value("slope", actual, reference) == pytest.approx(float(gradient), rel=1e-15)
    assert value("offset", actual, reference) == pytest.approx(float(5 - 3 * gradient) / rms, rel=1e-15)
    assert value("cosine", actual, reference) == pytest.approx(77 / math.sqrt(50 * 126), rel=1e-15)
    assert value("relative_l2", actual, reference) == pytest.approx(math.sqrt(Fraction(22, 50)), rel=1e-15)
    assert value("norm_ratio", actual, reference) == pytest.approx(math.sqrt(Fraction(126, 50)), rel=1e-15)
    assert value("largest_absolute_error", actual, reference) == 4
    assert value("largest_relative_error", actual, reference) == pytest.approx(4 / 3, rel=1e-15)
    assert value("peak_error", actual, reference) == pytest.approx(4 / rms, rel=1e-15)
    assert value("median_error", actual, reference) == pytest.approx(1.5 / 2.5, rel=1e-15)


@pytest.mark.parametrize("name", ["largest_absolute_error", "largest_relative_error", "peak_error"])
def test_the_largest_error_says_where_it_is(name: str) -> None:
    reference = np.ones((4, 5))
    actual = reference.copy()
    actual[2, 3] = 1.5
    outcome = OUTPUT_METRICS[name].function(actual, reference)
    assert isinstance(outcome, Measured)
    assert (outcome.index, outcome.value) == ((2, 3), 0.5)


def test_the_worst_row_says_which_row_it_is() -> None:
    reference = noisy_pair((2, 3, 8))[1]
    actual = reference.copy()
    actual[1, 2] *= 1.25
    outcome = OUTPUT_METRICS["worst_row_error"].function(actual, reference)
    assert isinstance(outcome, Measured)
    assert outcome.index == (1, 2)
    assert outcome.value == pytest.approx(0.25, rel=TIGHT)


def test_shares_count_elements_and_name_the_first() -> None:
    reference = np.full((2, 4), 3.0)
    actual = np.array([[1, 0, np.nan, -np.inf], [65504, -65504, 65503, 0]])
    assert value("saturated_share", actual, reference) == 3 / 8
    bad = OUTPUT_METRICS["non_finite_share"].function(actual, reference)
    assert isinstance(bad, Measured)
    assert (bad.value, bad.index) == (2 / 8, (0, 2))
    finite = np.where(np.isfinite(actual), actual, 1)
    zero = OUTPUT_METRICS["zero_share"].function(finite, reference)
    assert isinstance(zero, Measured)
    assert (zero.value, zero.index) == (2 / 8, (0, 1))


def test_a_flushed_subnormal_is_not_a_lost_element() -> None:
    reference = np.array([[1.0, -1, 1e-6, 0, 2, 3]])
    flushed = np.array([[1.0, -1, 0, 0, 2, 3]])
    dead = np.array([[1.0, 0, 0, 0, 2, 3]])
    assert value("zero_share", flushed, reference) == 0
    assert value("zero_share", dead, reference) == 1 / 6


def test_zero_share_of_a_sparse_reference_counts_every_non_zero_element() -> None:
    reference = np.array([[0.0, 0, 0, 0, 5]])
    assert value("zero_share", np.zeros((1, 5)), reference) == 1 / 5


def test_zero_reference_elements_are_met_exactly_or_infinitely_far_off() -> None:
    reference = np.array([[0.0, 2], [0, 0]])
    assert value("largest_relative_error", reference, reference) == 0
    assert value("worst_row_error", reference, reference) == 0
    wrong = np.array([[0.0, 2], [0, 1e-30]])
    assert value("largest_relative_error", wrong, reference) == math.inf
    assert value("worst_row_error", wrong, reference) == math.inf


NEEDS_FINITE = sorted(set(OUTPUT_METRICS) - {"saturated_share", "non_finite_share"})


@pytest.mark.parametrize("name", NEEDS_FINITE)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_element_on_either_side_is_named_and_never_a_figure(name: str, bad: float) -> None:
    actual, reference = noisy_pair()
    spoilt = reference.copy()
    spoilt[5, 5] = bad
    assert cause(name, spoilt, reference) == "non_finite_actual"
    assert cause(name, actual, spoilt) == "non_finite_reference"


@pytest.mark.parametrize("name", NEEDS_FINITE)
def test_other_shapes_nothing_and_non_numbers_are_named(name: str) -> None:
    actual, reference = noisy_pair()
    # same size, and broadcastable: what a careless subtraction would accept
    assert cause(name, actual.reshape(64, 197), reference) == "shape_mismatch"
    assert cause(name, actual[:1], reference) == "shape_mismatch"
    assert cause(name, np.zeros((1, 0)), np.zeros((1, 0))) == "empty"
    assert cause(name, actual.astype(complex), reference) == "not_real"
    assert cause(name, reference * 1e300, reference) == "out_of_range"
    assert cause(name, actual, reference * 1e-300) == "out_of_range"


@pytest.mark.parametrize("name", ["saturated_share", "non_finite_share"])
def test_shares_refuse_nothing_and_non_numbers(name: str) -> None:
    assert cause(name, np.zeros((1, 0)), np.zeros((1, 0))) == "empty"
    assert cause(name, np.array(["text"]), np.zeros(1)) == "not_real"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("correlation", "constant_reference"),
        ("slope", "constant_reference"),
        ("offset", "constant_reference"),
        ("cosine", "zero_reference"),
        ("relative_l2", "zero_reference"),
        ("norm_ratio", "zero_reference"),
        ("peak_error", "zero_reference"),
        ("median_error", "zero_reference"),
        ("worst_row_error", "zero_reference"),
        ("largest_relative_error", "zero_reference"),
        ("zero_share", "zero_reference"),
    ],
)
def test_a_zero_reference_is_named_even_when_it_is_met(name: str, expected: str) -> None:
    zero = np.zeros((1, 64))
    assert cause(name, noisy_pair((1, 64))[0], zero) == expected
    assert cause(name, zero, zero) == expected


@pytest.mark.parametrize("level", [0.1, 1 / 3, 1e-30, 7e37])
def test_a_constant_output_has_no_correlation_whatever_its_mean_rounds_to(level: float) -> None:
    reference = noisy_pair((1, 1023))[1]
    constant = np.full((1, 1023), level)
    assert cause("correlation", constant, reference) == "constant_actual"
    assert cause("correlation", reference, constant) == "constant_reference"


def test_a_zero_output_has_no_cosine_and_full_error() -> None:
    reference = noisy_pair((1, 64))[1]
    zero = np.zeros_like(reference)
    assert cause("cosine", zero, reference) == "zero_actual"
    assert value("relative_l2", zero, reference) == 1
    assert value("norm_ratio", zero, reference) == 0
    assert value("zero_share", zero, reference) > 0.9


def test_fp16_and_float32_arrays_are_widened_before_anything_is_summed() -> None:
    # 65,504 squared and summed in fp16 is Inf; 4096 + 1 stays 4096
    reference = np.linspace(1, 60000, 4096, dtype=np.float16).reshape(1, -1)
    assert value("relative_l2", reference, reference) == 0
    assert value("correlation", reference, reference) == pytest.approx(1, abs=1e-15)
    wide = reference.astype(np.float64)
    assert value("norm_ratio", reference / np.float16(2), reference) == value("norm_ratio", wide / 2, wide)


def test_correlation_survives_a_mean_that_dwarfs_the_deviation() -> None:
    # float32 values near 2**20 are 0.0625 apart; a one-pass formula in float64 loses all digits
    generator = np.random.default_rng(5)
    reference = (2**20 + generator.standard_normal(1000)).astype(np.float32)
    actual = (2**20 + generator.standard_normal(1000)).astype(np.float32)
    exact = float(np.corrcoef(actual.astype(float) - 2**20, reference.astype(float) - 2**20)[0, 1])
    assert value("correlation", actual, reference) == pytest.approx(exact, abs=1e-12)


def test_correlation_survives_a_deviation_of_the_last_bits_of_a_float64_reference() -> None:
    # The mean of a thousand numbers near 1 is off by some 2**-53, as large as what it is taken from:
    # only a second centring finds the correlation of the whole numbers in the last bits.
    steps = np.random.default_rng(6).integers(-2, 3, (2, 1001))
    actual, reference = (1 + row * 2.0**-52 for row in steps)
    exact = float(np.corrcoef(steps)[0, 1])
    assert value("correlation", actual, reference) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("name", ["correlation", "cosine"])
def test_rounding_never_lifts_a_perfect_copy_above_one(name: str) -> None:
    generator = np.random.default_rng(12)
    rows = generator.standard_normal((300, 7))
    assert max(value(name, row, row) for row in rows) == 1
    assert min(value(name, -row, row) for row in rows) == -1


def test_scalars_have_figures_where_they_mean_something() -> None:
    assert value("relative_l2", np.array(1.5), np.array(1.0)) == 0.5
    assert value("worst_row_error", np.array(1.5), np.array(1.0)) == 0.5
    assert cause("correlation", np.array(1.5), np.array(1.0)) == "constant_reference"
