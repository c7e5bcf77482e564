"""The tests of the tests: metrics and limits broken on purpose must disagree with the oracle's cases.

Each mutant is a mistake that someone has made (anchors.md), written as a metric of its own. A case
that every mutant passes would prove nothing about the metric either.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from test_compare_cases import GPU_FP16, NAMES, POLICY, as_run, references, with_noise
from test_compare_metrics import ORACLES, TIGHT, noisy_pair

from fidelity.comparison.comparison import compare
from fidelity.comparison.metrics import OUTPUT_METRICS, SET_METRICS
from fidelity.comparison.metrics.outcome import Measured
from fidelity.comparison.policy import Limit

Figure = Callable[[np.ndarray, np.ndarray], float]


def cosine_for_correlation(a: np.ndarray, r: np.ndarray) -> float:
    """Forgets the mean."""
    return float((a * r).sum() / math.sqrt((a * a).sum() * (r * r).sum()))


def covariance_for_correlation(a: np.ndarray, r: np.ndarray) -> float:
    """Forgets to divide by the deviations."""
    return float(((a - a.mean()) * (r - r.mean())).mean())


def mean_of_row_correlations(a: np.ndarray, r: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, r, strict=True)]))


def one_pass_correlation(a: np.ndarray, r: np.ndarray) -> float:
    """E[xy] - E[x] E[y], which cancels when the mean dwarfs the deviation."""
    a, r = a + 1000, r + 1000
    covariance = (a * r).mean() - a.mean() * r.mean()
    return float(covariance / math.sqrt(((a * a).mean() - a.mean() ** 2) * ((r * r).mean() - r.mean() ** 2)))


def fp16_correlation(a: np.ndarray, r: np.ndarray) -> float:
    """Computes in the precision of what it measures."""
    a, r = a.astype(np.float16), r.astype(np.float16)
    a, r = a - a.mean(dtype=np.float16), r - r.mean(dtype=np.float16)
    a, r = a / np.sqrt((a * a).sum(dtype=np.float16)), r / np.sqrt((r * r).sum(dtype=np.float16))
    return float((a * r).sum(dtype=np.float16))


def float32_relative_l2(a: np.ndarray, r: np.ndarray) -> float:
    a, r = a.astype(np.float32), r.astype(np.float32)
    return float(np.linalg.norm(a - r) / np.linalg.norm(r))


def over_the_actual(a: np.ndarray, r: np.ndarray) -> float:
    """Divides by the norm of the wrong side: an output that is too large looks better."""
    return float(np.linalg.norm(a - r) / np.linalg.norm(a))


def swapped_slope(a: np.ndarray, r: np.ndarray) -> float:
    """Fits the reference on the actual output."""
    return float(np.polyfit(a.ravel(), r.ravel(), 1)[0])


def slope_through_origin(a: np.ndarray, r: np.ndarray) -> float:
    return float((a * r).sum() / (r * r).sum())


def difference_of_means(a: np.ndarray, r: np.ndarray) -> float:
    """An offset that forgets the slope."""
    return float((a.mean() - r.mean()) / np.sqrt((r * r).mean()))


MUTANTS: list[tuple[str, Figure]] = [
    ("correlation", cosine_for_correlation),
    ("correlation", covariance_for_correlation),
    ("correlation", mean_of_row_correlations),
    ("correlation", one_pass_correlation),
    ("correlation", fp16_correlation),
    ("correlation", lambda a, r: float(np.corrcoef(a.ravel(), r.ravel())[0, 1] ** 2)),
    ("cosine", lambda a, r: float(np.corrcoef(a.ravel(), r.ravel())[0, 1])),
    ("cosine", lambda a, r: float((a * r).sum() / (r * r).sum())),
    ("relative_l2", float32_relative_l2),
    ("relative_l2", over_the_actual),
    ("relative_l2", lambda a, r: float(((a - r) ** 2).sum() / (r**2).sum())),
    ("relative_l2", lambda a, r: float(abs(np.linalg.norm(a) - np.linalg.norm(r)) / np.linalg.norm(r))),
    ("slope", swapped_slope),
    ("slope", slope_through_origin),
    ("offset", difference_of_means),
    ("offset", lambda a, r: float(np.polyfit(r.ravel(), a.ravel(), 1)[1])),
    ("norm_ratio", lambda a, r: float(np.linalg.norm(r) / np.linalg.norm(a))),
    ("norm_ratio", lambda a, r: float(np.linalg.norm(a) ** 2 / np.linalg.norm(r) ** 2)),
    ("largest_absolute_error", lambda a, r: float((a - r).max())),
    ("largest_absolute_error", lambda a, r: float(abs(a - r).mean())),
    ("largest_absolute_error", lambda a, r: float(abs(abs(a) - abs(r)).max())),
    ("largest_relative_error", lambda a, r: float(abs(a - r).max() / abs(r).max())),
    ("largest_relative_error", lambda a, r: float((abs(a - r) / abs(a)).max())),
    ("peak_error", lambda a, r: float(abs(a - r).max() / abs(r).max())),
    ("peak_error", lambda a, r: float(abs(a - r).max() / np.std(r))),
    ("median_error", lambda a, r: float(np.median(abs(a - r) / abs(r)))),
    ("median_error", lambda a, r: float(np.mean(abs(a - r)) / np.mean(abs(r)))),
    ("worst_row_error", lambda a, r: float(np.linalg.norm(a - r) / np.linalg.norm(r))),
    (
        "worst_row_error",
        lambda a, r: float(np.mean(np.linalg.norm(a - r, axis=1) / np.linalg.norm(r, axis=1))),
    ),
    (
        "worst_row_error",
        lambda a, r: float(np.max(np.linalg.norm(a - r, axis=0) / np.linalg.norm(r, axis=0))),
    ),
]


def test_the_oracle_case_accepts_the_metrics_themselves() -> None:
    actual, reference = oracle_case()
    for name in {name for name, _ in MUTANTS}:
        outcome = OUTPUT_METRICS[name].function(actual, reference)
        assert isinstance(outcome, Measured)
        assert outcome.value == pytest.approx(ORACLES[name](actual, reference), rel=TIGHT, abs=TIGHT)


@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=lambda n: f"{MUTANTS[n][0]}-{n}")
def test_a_broken_metric_disagrees_with_the_oracle(number: int) -> None:
    name, mutant = MUTANTS[number]
    actual, reference = oracle_case()
    assert mutant(actual, reference) != pytest.approx(ORACLES[name](actual, reference), rel=TIGHT, abs=TIGHT)


def oracle_case() -> tuple[np.ndarray, np.ndarray]:
    """The case of test_compare_metrics, its largest error negative and across zero: a missing abs shows."""
    actual, reference = noisy_pair()
    place = np.argmin(np.abs(reference - 1))
    actual.flat[place] -= 7 * np.abs(actual - reference).max()
    return actual, reference


def naive_pass(figure: float, limit: Limit) -> bool:
    """Fails only when the figure is below the limit, as `if corr < 0.99: fail` does."""
    fails = (limit.at_least is not None and figure < limit.at_least) or (
        limit.at_most is not None and figure > limit.at_most
    )
    return not fails


def test_a_naive_comparison_passes_nan_and_ours_does_not() -> None:
    limit = Limit(at_least=0.99)
    assert naive_pass(math.nan, limit)
    assert not limit.excess(math.nan) <= 0
    for figure in (0.98, 0.99, 1.0):
        assert naive_pass(figure, limit) == (limit.excess(figure) <= 0)


def test_the_mean_over_inputs_passes_what_the_worst_does_not() -> None:
    run = as_run(references())
    run["cat"] = with_noise(references(), 0.03)["cat"]
    comparison = compare(run, references(), NAMES)
    limits = POLICY.limits_of(GPU_FP16)
    assert limits is not None
    figures = [record.metrics["correlation"] for record in comparison.outputs]
    assert limits["correlation"].excess(float(np.mean(figures))) <= 0
    assert limits["correlation"].excess(min(figures)) > 0


def test_nan_turned_into_zero_before_comparing_would_all_but_pass() -> None:
    run = as_run(references())
    smallest = int(np.argmin(np.abs(references()["cat"]["embedding"])))
    run["cat"]["embedding"][0, smallest] = np.nan
    repaired = np.nan_to_num(run["cat"]["embedding"])
    repaired_outcome = OUTPUT_METRICS["correlation"].function(repaired, references()["cat"]["embedding"])
    assert isinstance(repaired_outcome, Measured)
    assert repaired_outcome.value > 0.999999
    assert not isinstance(
        OUTPUT_METRICS["correlation"].function(run["cat"]["embedding"], references()["cat"]["embedding"]),
        Measured,
    )


def pooled_centred_correlation(actual: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """One correlation of all inputs together: a single lost input drowns."""
    common = np.mean(list(reference.values()), axis=0)
    a = np.concatenate([actual[name] - common for name in reference])
    r = np.concatenate([reference[name] - common for name in reference])
    return float(np.corrcoef(a.ravel(), r.ravel())[0, 1])


def centred_by_itself(actual: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """Each side less its own mean: a common error of all outputs disappears."""
    a_mean, r_mean = (np.mean(list(side.values()), axis=0) for side in (actual, reference))
    return min(
        float(np.corrcoef((actual[n] - a_mean).ravel(), (reference[n] - r_mean).ravel())[0, 1]) for n in reference
    )


def test_broken_centred_correlations_miss_what_the_metric_sees() -> None:
    reference = {name: keyed["embedding"] for name, keyed in references().items()}
    generator = np.random.default_rng(8)
    one_lost = {name: array.copy() for name, array in reference.items()}
    one_lost["cat"] = reference["cat"][:, ::-1]
    drift = 0.02 * generator.standard_normal((1, 1024))
    shifted = {name: array + drift for name, array in reference.items()}
    for actual, mutant in ((one_lost, pooled_centred_correlation), (shifted, centred_by_itself)):
        outcome = SET_METRICS["centred_correlation"].function(actual, reference)
        assert isinstance(outcome, Measured)
        assert mutant(actual, reference) > outcome.value + 0.1


def agreement_by_first_index(actual: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """argmax on both sides: of ties it takes the first, so alike constants agree."""

    def nearest(side: dict[str, np.ndarray]) -> list[int]:
        rows = np.concatenate(list(side.values()))
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -np.inf)
        return [int(i) for i in np.argmax(cosines, axis=1)]

    pairs = zip(nearest(actual), nearest(reference), strict=True)
    return float(np.mean([a == r for a, r in pairs]))


def test_an_agreement_that_breaks_ties_by_order_credits_a_constant() -> None:
    reference = {name: keyed["embedding"] for name, keyed in references().items()}
    reference["black"] = reference["astronaut"] + 0.1 * reference["black"]  # its neighbour comes first
    constant = dict.fromkeys(reference, np.full((1, 1024), 1 / 32))
    assert agreement_by_first_index(constant, reference) > 0
    outcome = SET_METRICS["nearest_neighbour_agreement"].function(constant, reference)
    assert isinstance(outcome, Measured)
    assert outcome.value == 0
