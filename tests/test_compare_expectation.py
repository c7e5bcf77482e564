"""Three sides, truth, expected and actual: whose fault an error is, and what no ratio can excuse."""

from __future__ import annotations

import numpy as np
import pytest
from test_compare_cases import (
    CPU_FP32,
    GPU_FP16,
    NAMES,
    POLICY,
    Arrays,
    as_run,
    codes,
    expectation,
    facts,
    failed_metrics,
    measured,
    references,
    verdict,
    with_noise,
)

from fidelity.comparison.comparison import compare
from fidelity.comparison.expectation import Expectation, identical_share
from fidelity.comparison.metrics.error_ratio import error_ratio
from fidelity.comparison.metrics.outcome import Measured, Undefined
from fidelity.comparison.verdict import judge

TRUTH = np.array([[3.0, 4.0]])
FP16 = with_noise(references(), 0.006)  # what fp16 gives, well inside the fixed limits


def value(actual: np.ndarray, expected: np.ndarray) -> float | str:
    outcome = error_ratio(actual, expected, TRUTH)
    return outcome.value if isinstance(outcome, Measured) else outcome.cause


def test_the_ratio_is_the_devices_error_over_the_expected_one() -> None:
    off, near = TRUTH + np.array([[0.0, 0.3]]), TRUTH + np.array([[0.1, 0.0]])
    assert value(off, near) == pytest.approx(3)
    assert value(near, off) == pytest.approx(1 / 3)
    assert value(TRUTH, off) == 0
    assert value(TRUTH * np.nan, off) == "non_finite_actual"
    assert value(off, TRUTH * np.nan) == "non_finite_expected"
    assert value(off[:, :1], off) == "shape_mismatch"
    assert value(off, off[:, :1]) == "shape_mismatch"


def test_equal_bits_have_exactly_one_whatever_the_error() -> None:
    for error in (0.0, 1e-7, 0.1, 3.0):
        same = (TRUTH + error).astype(np.float32)
        assert value(same, same.copy()) == 1.0


def test_an_error_where_none_is_expected_has_a_name_and_no_infinity() -> None:
    assert value(TRUTH + 1e-3, TRUTH) == "zero_expected_error"
    assert value(TRUTH, TRUTH + 0.0) == 1.0  # none, as expected


def test_the_worst_input_decides() -> None:
    run = {**FP16, "coffee": with_noise(references(), 0.013)["coffee"]}  # within relative L2 0.01414
    judgement = verdict(run, expected=FP16)
    assert failed_metrics(judgement) == {"error_ratio"}
    assert codes(judgement) == {"worse_than_expected"}
    (check,) = [check for check in judgement.checks if check.metric == "error_ratio"]
    assert check.inputs == ("coffee",)
    assert check.worst == pytest.approx(0.013 / 0.006, rel=1e-3)


def test_either_limit_alone_fails_a_run() -> None:
    cases = {
        # (error of the device, expected error): codes of the findings that say whose fault it is
        (0.006, 0.006): set(),
        (0.013, 0.006): {"worse_than_expected"},
        (0.03, 0.03): {"as_expected"},
        (0.03, 0.006): {"worse_than_expected"},
    }
    for (actual, expected), wanted in cases.items():
        judgement = verdict(with_noise(references(), actual, seed=3), expected=with_noise(references(), expected))
        assert codes(judgement) - {"outside_limit"} == wanted, (actual, expected)
        assert judgement.passed == (not wanted)
        assert ("relative_l2" in failed_metrics(judgement)) == (actual == 0.03)


def test_the_findings_say_which_case_it_is_and_the_first_overflow() -> None:
    run = with_noise(references(), 0.03)
    whole = expectation(run, run, overflow="op 24 SQUARED_DIFFERENCE")
    judgement = judge(measured(run), facts(), POLICY, expectation=whole)
    (finding,) = [finding for finding in judgement.findings if finding.code == "as_expected"]
    assert "as fp16 arithmetic on this device must give, and not good enough: rewrite" in finding.message
    assert "op 24 SQUARED_DIFFERENCE" in finding.message
    worse = verdict(run, expected=FP16)
    assert any("worse than this arithmetic explains: something is wrong" in f.message for f in worse.findings)


def test_what_could_not_be_measured_is_not_blamed_on_the_arithmetic() -> None:
    few = {name: FP16[name] for name in ("cat", "coffee")}
    comparison = compare(few, references(), ("cat", "coffee"), asked=few)
    judgement = judge(comparison, facts(asked=tuple(few)), POLICY, expectation=expectation(few, FP16))
    assert codes(judgement) == {"undefined_metric"}


def constant() -> Arrays:
    return {name: {"embedding": np.full((1, 1024), 1 / 32, np.float32)} for name in NAMES}


def test_a_collapse_that_was_expected_fails_although_the_ratio_is_one() -> None:
    judgement = verdict(constant(), expected=constant())
    (check,) = [check for check in judgement.checks if check.metric == "error_ratio"]
    assert (check.worst, check.passed) == (1.0, True)
    assert {"collapse", "expected_collapse", "as_expected"} <= codes(judgement)


def test_an_expected_collapse_fails_even_where_the_device_is_right() -> None:
    judgement = verdict(FP16, expected=constant())
    assert "expected_collapse" in codes(judgement)
    assert "better_than_expected" in codes(judgement, "suspicious")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_expected_output_that_is_not_finite_fails_by_name(bad: float) -> None:
    expected = {name: {"embedding": keyed["embedding"].copy()} for name, keyed in FP16.items()}
    expected["cat"]["embedding"][0, 7] = bad
    judgement = verdict(FP16, expected=expected)
    assert "non_finite_expected" in codes(judgement)
    both = verdict(expected, expected=expected)
    assert {"non_finite_actual", "undefined_metric"} <= codes(both)


def test_an_expected_output_without_error_fails_a_device_that_has_one() -> None:
    exact = {name: {"embedding": keyed["embedding"].astype(np.float32)} for name, keyed in references().items()}
    truth = {name: {"embedding": keyed["embedding"].astype(np.float64)} for name, keyed in exact.items()}
    assert "zero_expected_error" in codes(verdict(with_noise(truth, 0.006), truth, expected=exact))
    assert verdict(exact, truth, expected=exact).passed


def test_an_input_that_nothing_is_expected_of_fails_the_check() -> None:
    expected = {name: keyed for name, keyed in FP16.items() if name != "cat"}
    judgement = verdict(FP16, expected=expected)
    assert failed_metrics(judgement) == {"error_ratio"}
    (finding,) = [finding for finding in judgement.findings if finding.metric == "error_ratio"]
    assert "cat" in finding.message
    assert not verdict(FP16, expected={}).passed


def test_without_a_profile_the_fixed_limits_decide_and_somebody_is_told() -> None:
    judgement = verdict(FP16, device_asked="gpu:llvmpipe")
    assert judgement.passed
    (finding,) = judgement.findings
    assert (finding.code, finding.severity) == ("no_profile", "suspicious")
    assert "fidelity reveal --device DEVICE" in finding.message
    assert "error_ratio" not in {check.metric for check in judgement.checks}
    assert verdict(as_run(references()), kind=CPU_FP32).findings == ()  # nobody emulates a CPU


def test_an_operation_that_cannot_be_emulated_is_told() -> None:
    lacking = expectation(FP16, {}, lacking="op 12 CUMSUM: the emulator does not have the operation CUMSUM")
    judgement = judge(measured(FP16), facts(GPU_FP16), POLICY, expectation=lacking)
    assert judgement.passed
    assert codes(judgement, "suspicious") == {"emulator_lacks"}
    assert "op 12 CUMSUM" in judgement.findings[0].message


def test_an_error_far_below_the_expected_one_is_suspicious() -> None:
    judgement = verdict(with_noise(references(), 0.001), expected=FP16)
    assert judgement.passed
    assert codes(judgement, "suspicious") == {"better_than_expected"}
    assert verdict(with_noise(references(), 0.005), expected=FP16).findings == ()


def test_a_stored_expectation_is_read_back_with_its_nan() -> None:
    expected = {name: {"embedding": keyed["embedding"] * np.float32(np.nan)} for name, keyed in FP16.items()}
    whole = expectation(FP16, expected)
    assert Expectation.model_validate_json(whole.to_json()) == whole
    assert {row.undefined.cause for row in whole.outputs if row.undefined} == {"non_finite_expected"}


def test_identical_bits() -> None:
    ones = np.ones((1, 4), np.float32)
    assert identical_share(ones, ones) == 1
    assert identical_share(np.float32([[1, 1, 1, np.nextafter(1, 2, dtype=np.float32)]]), ones) == 0.75
    assert identical_share(np.float32([0.0]), np.float32([-0.0])) == 0
    assert identical_share(np.float32([np.nan]), np.float32([np.nan])) == 1
    assert identical_share(ones, ones.astype(np.float64)) is None
    assert identical_share(ones, ones[:, :2]) is None
    half = expectation(
        FP16, {name: {"embedding": np.where(np.arange(1024) < 512, k["embedding"], 0)} for name, k in FP16.items()}
    )
    assert half.identical_share == 0.5


def naive(actual: np.ndarray, expected: np.ndarray, truth: np.ndarray) -> float:
    """How the ratio is written when nobody thinks of zero."""
    return float(np.linalg.norm(actual - truth) / np.linalg.norm(expected - truth))


MUTANTS = {
    "the wrong way round": lambda a, e, t: naive(e, a, t),
    "from the expected output instead of the truth": lambda a, e, t: float(
        np.linalg.norm(a - e) / np.linalg.norm(e - t)
    ),
    "squared": lambda a, e, t: naive(a, e, t) ** 2,
    "a difference": lambda a, e, t: float(np.linalg.norm(a - t) - np.linalg.norm(e - t)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_ratio_disagrees(name: str) -> None:
    truth, actual, expected = (
        side["cat"]["embedding"] for side in (references(), with_noise(references(), 0.02), FP16)
    )
    outcome = error_ratio(actual, expected, truth)
    assert isinstance(outcome, Measured)
    assert outcome.value == pytest.approx(0.02 / 0.006, rel=1e-4)
    assert MUTANTS[name](actual, expected, truth) != pytest.approx(outcome.value, rel=0.05)


def test_a_naive_ratio_passes_what_ours_names() -> None:
    with np.errstate(all="ignore"):
        assert (
            not naive(FP16["cat"]["embedding"], FP16["cat"]["embedding"] * np.nan, references()["cat"]["embedding"]) > 2
        )
    outcome = error_ratio(FP16["cat"]["embedding"], FP16["cat"]["embedding"] * np.nan, references()["cat"]["embedding"])
    assert isinstance(outcome, Undefined)


def test_the_mean_ratio_passes_what_the_worst_does_not() -> None:
    run = {**FP16, "coffee": with_noise(references(), 0.0139)["coffee"]}
    ratios = [row.ratio for row in expectation(run, FP16).outputs if row.ratio is not None]
    assert np.mean(ratios) < 2 < max(ratios)
    assert not verdict(run, expected=FP16).passed
