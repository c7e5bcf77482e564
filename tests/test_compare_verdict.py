"""judge: fail-closed on every fact of the run, worst input decides, and findings a person can read."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_compare_cases import (
    CPU_FP32,
    GPU_FP16,
    KINDS,
    NAMES,
    POLICY,
    as_run,
    codes,
    facts,
    failed_metrics,
    measured,
    references,
    verdict,
    with_noise,
)

from fidelity.comparison.comparison import Comparison, compare
from fidelity.comparison.judgement import Judgement
from fidelity.comparison.policy import Policy
from fidelity.comparison.run_facts import RunFacts, RunKind, device_family, run_facts
from fidelity.comparison.verdict import identical_to_cpu, judge
from fidelity.devices.job import Job, JobInput, JobResult, Refusal, Residency, RunOutput

PERFECT = as_run(references())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_sound_run_of_each_kind_passes_without_a_finding(kind: RunKind) -> None:
    judgement = verdict(PERFECT, kind=kind, expected=PERFECT)
    assert judgement.passed, judgement.findings
    assert judgement.findings == ()
    assert all(check.passed for check in judgement.checks)


FACTS_THAT_FAIL = {
    "crashed": ({"status": "crashed", "error": "signal 11"}, "run_failed"),
    "timeout": ({"status": "timeout"}, "run_failed"),
    "refused": ({"status": "refused"}, "run_failed"),
    "no residency": ({"residency": None}, "not_resident"),
    "one node short": (
        {"residency": Residency(nodes_on_device=816, nodes_total=817, partitions=1, source="t")},
        "not_resident",
    ),
    "two partitions": (
        {"residency": Residency(nodes_on_device=817, nodes_total=817, partitions=2, source="t")},
        "not_resident",
    ),
    "no nodes": (
        {"residency": Residency(nodes_on_device=0, nodes_total=0, partitions=1, source="t")},
        "not_resident",
    ),
    "a repeat differed": (
        {"deterministic": dict.fromkeys(NAMES, True) | {"cat": False}},
        "not_deterministic",
    ),
    "never repeated": ({"deterministic": dict.fromkeys(NAMES)}, "determinism_unknown"),
    "no repeats recorded": ({"deterministic": {}}, "determinism_unknown"),
    "fp32 asked, fp16 had": ({"precision_asked": "fp32"}, "precision_not_had"),
    "precision unknown": (
        {"kind": RunKind(device="gpu", precision="unknown", weights="float16")},
        "precision_unknown",
    ),
    "kind without limits": (
        {"kind": RunKind(device="cpu", precision="fp16", weights="float16")},
        "no_limits",
    ),
    "gpu asked, cpu ran": ({"kind": CPU_FP32, "device_asked": "gpu"}, "wrong_device"),
    "another model": ({"model_sha256_had": "cd" * 32}, "wrong_model"),
    "more asked than compared": ({"asked": (*NAMES, "zebra")}, "not_compared"),
    "nothing asked": ({"asked": ()}, "not_compared"),
}


@pytest.mark.parametrize("fault", FACTS_THAT_FAIL)
def test_perfect_figures_do_not_pass_when_the_run_is_at_fault(fault: str) -> None:
    changes, code = FACTS_THAT_FAIL[fault]
    judgement = verdict(PERFECT, **changes)
    assert not judgement.passed
    assert code in codes(judgement)


def test_one_repeated_input_is_enough_for_determinism() -> None:
    assert verdict(PERFECT, deterministic=dict.fromkeys(NAMES) | {"cat": True}).passed


def test_the_cpu_needs_no_residency_and_a_gpu_by_any_name_does() -> None:
    assert verdict(PERFECT, kind=CPU_FP32, residency=None).passed
    for device in ("gpu", "gpu:0", "android:serial", "CPU"):
        assert device_family(device) == "gpu"


def test_refusals_are_told_with_the_count() -> None:
    refusals = (
        Refusal(op="GATHER", reason="rank", count=3),
        Refusal(op="RESHAPE", reason="5-D tensor", count=136),
    )
    residency = Residency(nodes_on_device=50, nodes_total=1006, partitions=12, refusals=refusals, source="log")
    (finding,) = [f for f in verdict(PERFECT, residency=residency).findings if f.code == "not_resident"]
    assert finding.message.startswith("50 of 1006 nodes on the device, in 12 partitions (136 x RESHAPE: 5-D tensor;")


def test_fp32_had_where_fp16_was_to_be_tested_fails_and_says_what_it_does_not_prove() -> None:
    kind = RunKind(device="gpu", precision="fp32", weights="float16")
    judgement = verdict(PERFECT, kind=kind, precision_asked="default")
    assert not judgement.passed
    (finding,) = judgement.findings
    assert (finding.code, finding.severity) == ("precision_not_had", "fail")
    assert "proves nothing about fp16" in finding.message
    lax = POLICY.model_copy(update={"require": POLICY.require.model_copy(update={"fp16": False})})
    told = verdict(PERFECT, kind=kind, policy=lax, precision_asked="default")
    assert told.passed
    assert [f.severity for f in told.findings] == ["suspicious"]


def test_requirements_can_be_lifted_by_the_policy_only() -> None:
    lax = {"require": POLICY.require.model_copy(update={"residency": False, "determinism": False})}
    assert verdict(PERFECT, policy=POLICY.model_copy(update=lax), residency=None, deterministic={}).passed


def test_the_worst_input_decides_and_is_named() -> None:
    run = as_run(references())
    run["coffee"] = with_noise(references(), 0.03)["coffee"]  # correlation 0.9996 at one of eight
    judgement = verdict(run)
    figures = [record.metrics["correlation"] for record in measured(run).outputs]
    assert np.mean(figures) > 0.9999  # the mean would pass
    (check,) = [check for check in judgement.checks if check.metric == "correlation"]
    assert (check.passed, check.inputs, check.worst) == (False, ("coffee",), min(figures))
    (finding,) = [finding for finding in judgement.findings if finding.metric == "correlation"]
    assert "at coffee" in finding.message
    assert "limit at least 0.9999" in finding.message


def test_the_worst_figure_is_the_smallest_limit_that_would_pass() -> None:
    run = with_noise(references(), 0.03)
    judgement = verdict(run)
    assert not judgement.passed
    needed = {check.metric: check for check in judgement.checks if not check.passed}
    assert "correlation" in needed
    limits = POLICY.limits_of(GPU_FP16)
    assert limits is not None

    def policy(nudge: float) -> Policy:
        """The default policy with each failed limit moved to its worst figure, less a nudge of it."""
        moved = {}
        for name, check in needed.items():
            assert check.worst is not None
            side = (
                "at_least"
                if limits[name].excess(check.worst) == (limits[name].at_least or 0) - check.worst
                else "at_most"
            )
            tighter = check.worst + (nudge if side == "at_least" else -nudge)
            moved[name] = limits[name].model_copy(update={side: tighter})
        runs = tuple(
            r.model_copy(update={"limits": r.limits | moved}) if r.kind == GPU_FP16 else r for r in POLICY.runs
        )
        return POLICY.model_copy(update={"runs": runs})

    assert verdict(run, policy=policy(0.0)).passed
    tighter = verdict(run, policy=policy(1e-9))
    assert failed_metrics(tighter) == set(needed)


def test_an_undefined_metric_fails_its_limit_and_is_only_a_note_without_one() -> None:
    few = {name: PERFECT[name] for name in ("astronaut", "black", "cat")}
    comparison = compare(few, references(), ("astronaut", "cat"), asked=few)
    fp32 = RunKind(device="gpu", precision="fp32", weights="float32")
    allowed = judge(comparison, facts(fp32, asked=tuple(few)), POLICY)
    assert allowed.passed
    assert codes(allowed, "note") == {"undefined_metric"}
    demanded = judge(comparison, facts(asked=tuple(few)), POLICY)
    assert not demanded.passed
    (check,) = [check for check in demanded.checks if check.metric == "nearest_neighbour_regret"]
    assert check.worst is None
    assert check.undefined is not None
    assert check.undefined.cause == "too_few_inputs"
    notes = {finding.metric for finding in demanded.findings if finding.severity == "note"}
    assert notes == {"nearest_neighbour_agreement", "nearest_neighbour_margin"}  # these have no limit


def test_a_nan_in_a_stored_comparison_never_passes() -> None:
    comparison = measured(PERFECT)
    spoilt = comparison.outputs[3].model_copy(
        update={"metrics": comparison.outputs[3].metrics | {"correlation": math.nan}}
    )
    outputs = (*comparison.outputs[:3], spoilt, *comparison.outputs[4:])
    judgement = judge(comparison.model_copy(update={"outputs": outputs}), facts(), POLICY)
    assert not judgement.passed
    (check,) = [check for check in judgement.checks if not check.passed]
    assert (check.metric, check.inputs) == ("correlation", (spoilt.input,))


def test_a_comparison_robbed_of_its_records_never_passes() -> None:
    comparison = measured(PERFECT)
    for removed in (
        {"outputs": ()},
        {"sets": ()},
        {"outputs": (), "sets": ()},
        {"outputs": comparison.outputs[1:]},
    ):
        assert not judge(comparison.model_copy(update=removed), facts(), POLICY).passed
    thinned = comparison.outputs[0].model_copy(update={"metrics": {}, "undefined": {}})
    altered = comparison.model_copy(update={"outputs": (thinned, *comparison.outputs[1:])})
    assert not judge(altered, facts(), POLICY).passed


def test_a_crash_before_any_output_is_one_finding_for_all_missing_inputs() -> None:
    judgement = verdict({}, status="crashed", error="signal 11", residency=None, deterministic={})
    (missing,) = [finding for finding in judgement.findings if finding.code == "missing_input"]
    assert missing.inputs == NAMES
    assert "8 inputs" in missing.message
    assert {"run_failed", "not_resident", "missing_input", "not_compared"} <= codes(judgement)


def test_collapse_is_named_when_a_resident_graph_forgets_its_input() -> None:
    mean = np.mean([keyed["embedding"] for keyed in references().values()], axis=0)
    constant = {name: {"embedding": (mean / np.linalg.norm(mean)).astype(np.float32)} for name in NAMES}
    judgement = verdict(constant)
    (finding,) = [finding for finding in judgement.findings if finding.code == "collapse"]
    assert "817 of 817 nodes resident" in finding.message
    # the mean of the references is what a correlation is most easily deceived by
    assert min(record.metrics["correlation"] for record in measured(constant).outputs) > 0.6
    partial = Residency(nodes_on_device=1, nodes_total=817, partitions=1, source="t")
    assert "collapse" not in codes(verdict(constant, residency=partial))
    assert "collapse" not in codes(verdict(constant, kind=CPU_FP32))
    assert "collapse" not in codes(verdict(with_noise(references(), 0.1)))


def test_a_finding_from_elsewhere_counts() -> None:
    same = identical_to_cpu(PERFECT, PERFECT, "fp32")
    (finding,) = same
    assert (finding.code, finding.severity, finding.inputs) == ("identical_to_cpu", "suspicious", NAMES)
    judgement = judge(measured(PERFECT), facts(), POLICY, also=same)
    assert judgement.passed
    assert codes(judgement, "suspicious") == {"identical_to_cpu", "no_profile"}
    (failing,) = identical_to_cpu(PERFECT, PERFECT, "fp16")  # which fp16 does not give
    assert failing.severity == "fail"
    assert not judge(measured(PERFECT), facts(), POLICY, also=(failing,)).passed


def test_identical_means_every_bit_of_every_output_of_an_input() -> None:
    gpu = as_run(references())
    for name in NAMES[1:]:
        gpu[name]["embedding"][0, 5] = np.nextafter(gpu[name]["embedding"][0, 5], np.float32(1))
    (finding,) = identical_to_cpu(PERFECT, gpu, "fp32")
    assert finding.inputs == NAMES[:1]
    gpu[NAMES[0]]["embedding"] = gpu[NAMES[0]]["embedding"].astype(np.float64)
    assert identical_to_cpu(PERFECT, gpu, "fp32") == ()
    # equal as numbers, not as bits
    minus, plus = ({"a": {"o": np.array([zero], np.float32)}} for zero in (-0.0, 0.0))
    assert identical_to_cpu(minus, plus, "fp16") == ()
    assert identical_to_cpu({}, {}, "fp16") == identical_to_cpu({"a": {}}, {"a": {}}, "fp16") == ()


def test_facts_are_read_from_job_and_result() -> None:
    job = Job(
        model="m.tflite", model_sha256="a", device="gpu:0", precision="default",
        inputs=(JobInput(name="cat", tensors={}), JobInput(name="dog", tensors={})),
    )  # fmt: skip
    result = JobResult(
        status="ok", device="gpu:0", precision_asked="default", precision_had="fp16", model_sha256="b",
        outputs=(RunOutput(input="cat", tensors={}, seconds=(1.0,), deterministic=True),),
    )  # fmt: skip
    found = run_facts(job, result, "float16")
    assert found.asked == ("cat", "dog")
    assert found.kind == GPU_FP16
    assert found.deterministic == {"cat": True}
    assert (found.model_sha256_asked, found.model_sha256_had) == ("a", "b")
    assert RunFacts.model_validate_json(found.to_json()) == found


def test_a_stored_judgement_reads_back_and_the_same_run_gives_the_same_bytes(tmp_path) -> None:
    run = as_run(references())
    run["cat"]["embedding"][:] = np.nan
    run["black"]["embedding"] *= np.float32(0.5)
    one = verdict(run)
    path = tmp_path / "judgement.json"
    one.write(path)
    assert Judgement.read(path) == one
    stored = Comparison.model_validate_json(measured(run).to_json())
    assert judge(stored, facts(), POLICY).to_json() == one.to_json()
    assert all("\n" not in finding.message for finding in one.findings)
    assert Judgement.model_json_schema()["title"] == "Judgement"
