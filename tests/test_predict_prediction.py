"""The verdict before any device: fail-closed on overflow, on what is lacking, and on the expected figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_compare_cases import CPU_FP32, GPU_FP16, PHOTOGRAPHS, POLICY, Arrays, codes, references, with_noise

from fidelity.arithmetic.profile import load_profile
from fidelity.comparison.expectation import ProfileId
from fidelity.comparison.policy import Limit
from fidelity.gating.predicting import judge_prediction
from fidelity.prediction.expected import Expected, Lacking
from fidelity.prediction.predicted import Predicted
from fidelity.prediction.prediction import Prediction, compare_expected, judge_expected, run_kind
from fidelity.prediction.site import Site

TRUTH = {name: keyed["embedding"] for name, keyed in references().items()}
SITE = Site(
    operator=24,
    name="SQUARED_DIFFERENCE",
    tensor="t",
    module="EvaBlock_0.norm1",
    part="result",
    largest_finite=65504.0,
    magnitude=12.0,
    headroom=12.4,
    input="cat",
)
OVER = SITE.model_copy(update={"magnitude": float("inf"), "headroom": float("-inf"), "non_finite": 34})


def expected(**changes: object) -> Expected:
    sound: dict[str, object] = {
        "model": "model.tflite",
        "model_sha256": "ab" * 32,
        "profile": ProfileId(name="gpu-of-the-tests", sha256="cd" * 32, measured=True),
        "inputs": dict.fromkeys(TRUTH, "ef" * 32),
        "outputs": (),
        "sites": (SITE,),
        "first_overflow": None,
        "lacking": (),
        "unreached": 0,
        "versions": {},
    }
    return Expected.model_validate(sound | changes)


def prediction(outputs: Arrays | None, **changes: object) -> Prediction:
    """The prediction of these outputs; None: held against nothing."""
    of = expected(**changes)
    comparison = None if outputs is None else compare_expected(outputs, TRUTH, "embedding", PHOTOGRAPHS)
    return Prediction(
        expected=of,
        weights_dtype="float16",
        reference=None if outputs is None else "timm:x",
        comparison=comparison,
        judgement=judge_expected(of, comparison, GPU_FP16, POLICY),
    )


GOOD = with_noise(references(), 0.005)


def test_within_the_limits_and_without_overflow_it_passes() -> None:
    made = prediction(GOOD)
    assert made.passed, made.judgement.findings
    assert made.judgement.findings == ()
    assert {check.metric for check in made.judgement.checks} == set(POLICY.limits_of(GPU_FP16) or ()) - {"error_ratio"}
    assert Prediction.model_validate_json(made.to_json()) == made


def test_an_overflow_fails_although_every_figure_is_good_and_is_named() -> None:
    made = prediction(GOOD, sites=(OVER, SITE), first_overflow=OVER)
    assert codes(made.judgement) == {"overflow"}
    (finding,) = made.judgement.findings
    assert "first overflow: op 24 SQUARED_DIFFERENCE result in EvaBlock_0.norm1: 34 values" in finding.message
    assert "more sites" not in finding.message
    two = prediction(GOOD, sites=(OVER, OVER, SITE), first_overflow=OVER)
    assert "(1 more sites overflow)" in two.judgement.findings[0].message


def test_an_error_beyond_a_limit_fails_as_a_runs_does() -> None:
    made = prediction(with_noise(references(), 0.03))
    assert codes(made.judgement) == {"outside_limit"}


def test_a_collapse_is_named() -> None:
    constant = {name: {"embedding": np.full((1, 1024), 1 / 32, np.float32)} for name in TRUTH}
    assert "expected_collapse" in codes(prediction(constant).judgement)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_expected_output_that_is_not_finite_fails(bad: float) -> None:
    outputs = {name: {"embedding": keyed["embedding"].copy()} for name, keyed in GOOD.items()}
    outputs["cat"]["embedding"][0, 3] = bad
    assert {"non_finite_actual", "undefined_metric"} <= codes(prediction(outputs).judgement)


def test_an_operation_that_is_lacking_fails_and_nothing_is_said_of_the_output() -> None:
    lacks = (Lacking(operator=12, name="CUMSUM", reason="the emulator does not have the operation CUMSUM"),)
    made = prediction({name: {} for name in TRUTH}, lacking=lacks, unreached=7)
    assert {"emulator_lacks", "missing_output"} <= codes(made.judgement)
    assert "op 12 CUMSUM" in made.judgement.findings[0].message
    assert not prediction(None, lacking=lacks).passed


def test_without_a_reference_only_overflow_is_judged_and_that_is_said() -> None:
    made = prediction(None)
    assert made.passed
    assert made.judgement.checks == ()
    assert codes(made.judgement, "suspicious") == {"no_reference"}
    assert not prediction(None, sites=(OVER,), first_overflow=OVER).passed


def test_a_stored_prediction_is_judged_again_under_another_policy(tmp_path: Path) -> None:
    prediction(GOOD).write(tmp_path / "p.json")
    stored = Prediction.read(tmp_path / "p.json")
    assert judge_prediction(stored, POLICY) == stored
    runs = tuple(
        run.model_copy(update={"limits": run.limits | {"relative_l2": Limit(at_most=1e-6)}}) for run in POLICY.runs
    )
    strict = POLICY.model_copy(update={"name": "strict", "runs": runs})
    again = judge_prediction(stored, strict)
    assert not again.passed
    assert again.judgement.policy == "strict"
    assert again.expected == stored.expected


def test_a_kind_that_the_policy_does_not_list_cannot_pass() -> None:
    of = expected()
    comparison = compare_expected(GOOD, TRUTH, "embedding", PHOTOGRAPHS)
    none = POLICY.model_copy(update={"runs": tuple(run for run in POLICY.runs if run.kind == CPU_FP32)})
    assert codes(judge_expected(of, comparison, GPU_FP16, none)) == {"no_limits"}


def test_the_kind_of_run_that_a_profile_makes() -> None:
    assert run_kind(load_profile("mldrift-webgpu-lavapipe"), "float16") == GPU_FP16
    assert run_kind(load_profile("ieee-fp32"), "float16").precision == "fp32"
    for sums_alone in ("card-mali-opencl", "card-mali-opencl-pairwise"):  # what is stored stays float32 there
        assert run_kind(load_profile(sums_alone), "float32").precision == "fp16"


def test_what_is_expected_of_a_run_has_the_first_overflow_and_what_is_lacking() -> None:
    made = Predicted(prediction(GOOD, sites=(OVER,), first_overflow=OVER), GOOD)
    truth = references()
    of = made.of(GOOD, truth, ["cat", "coffee"])
    assert [row.input for row in of.outputs] == ["cat", "coffee"]
    assert {row.ratio for row in of.outputs} == {1.0}
    assert of.overflow == OVER.told()
    assert of.lacking is None
    assert of.comparison == made.prediction.comparison
