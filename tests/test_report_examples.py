"""Whole gate reports for the report's tests, made by the real comparison and the real judge, and
their own check: that each example says what its name says.

Outputs are vectors of unit length with a common component, as embeddings are, plus noise of the
size that the arithmetic in question makes. Everything is drawn from a seeded generator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from test_report_example_located import converter, kernel, overflow
from test_report_example_located import hostile as hostile_located
from test_report_example_parts import INPUTS, PHOTOGRAPHS, artefact, operators, proof, sha, written
from test_report_example_predictions import OVERFLOW, PROFILE, SITES, predicted, site

from fidelity.comparison.comparison import Outputs, compare
from fidelity.comparison.policy import load_policy
from fidelity.comparison.run_facts import WeightsDtype, run_facts
from fidelity.comparison.verdict import judge
from fidelity.devices.job import (
    Adapter,
    Job,
    JobInput,
    JobResult,
    Precision,
    PrecisionHad,
    Refusal,
    Residency,
    RunOutput,
    Timing,
)
from fidelity.models.input_contract import InputContract
from fidelity.models.inputs import Input
from fidelity.models.subject import SubjectRecord
from fidelity.prediction.expected import Lacking
from fidelity.prediction.predicted import Predicted
from fidelity.report.document import (
    Ablation,
    DeviceRun,
    GateReport,
    LocatedRun,
    NotTested,
    PredictionReport,
    Reason,
    RunInfo,
)
from fidelity.rewrites.contract import Exactness
from fidelity.rewrites.proof import CounterExample, Proof
from fidelity.tflite.finding import AuditFinding

HOSTILE = (
    "<script>alert(1)</script>",
    ']]>\x00"',
    "$x^2$ {{ 7*7 }} \u202etxt.exe",
    "'\" onload=alert(1) #0000f0",
)
POLICY = load_policy()
WIDTH = 1024

Arrays = dict[str, NDArray[np.float64]]


def embeddings(names: tuple[str, ...]) -> Arrays:
    """[1, WIDTH] float64 rows of unit length that share half of their direction."""
    generator = np.random.default_rng(7)
    common = generator.standard_normal(WIDTH)
    rows = {name: common + generator.standard_normal(WIDTH) for name in names}
    return {name: (row / np.linalg.norm(row))[None] for name, row in rows.items()}


def noisy(reference: Arrays, relative: float, seed: int) -> Outputs:
    """float32 outputs at about this relative L2 error, a different one for each input."""
    generator = np.random.default_rng(seed)
    outputs = {}
    for name, row in reference.items():
        size = relative * generator.uniform(0.5, 1.0) / np.sqrt(WIDTH)
        outputs[name] = {"embedding": (row + size * generator.standard_normal(row.shape)).astype(np.float32)}
    return outputs


@dataclass(frozen=True)
class Plan:
    """One run to make up: how it was asked for, what the device says, and its relative error."""

    label: str
    device: str
    weights: WeightsDtype
    error: float
    seed: int
    steady: float
    precision: Precision = "default"
    had: PrecisionHad = "fp32"
    adapter: Adapter | None = None
    residency: Residency | None = None
    inputs: tuple[str, ...] = INPUTS


LLVMPIPE = Adapter(name="llvmpipe (LLVM 19.1.7, 256 bits)", driver="Mesa 25.0.7", software=True, fp16=True)
RESIDENT = Residency(nodes_on_device=817, nodes_total=817, partitions=1, source="817 operations on the GPU")
PLANS = (
    Plan("cpu float32", "cpu", "float32", 2e-6, 1, 0.1712),
    Plan("cpu float16", "cpu", "float16", 9e-4, 2, 0.2604),
    Plan("gpu fp16", "gpu", "float16", 5.9e-3, 3, 9.021, "default", "fp16", LLVMPIPE, RESIDENT),
    Plan(
        "gpu fp32",
        "gpu",
        "float16",
        9.1e-4,
        4,
        11.38,
        "fp32",
        "fp32",
        LLVMPIPE,
        RESIDENT,
        ("noise", "black", "white"),
    ),
)


def device_run(
    plan: Plan, actual: Outputs, reference: Arrays, expected: Predicted | None = None, **changed: object
) -> DeviceRun:
    """The run of `plan` that gave `actual`; `changed` replaces fields of its JobResult."""
    outputs = tuple(
        RunOutput(input=name, tensors={}, seconds=(plan.steady, plan.steady * 1.01), deterministic=True)
        for name in plan.inputs
    )
    result = JobResult(
        status="ok",
        device=plan.device,
        precision_asked=plan.precision,
        precision_had=plan.had,
        adapter=plan.adapter,
        residency=plan.residency,
        outputs=outputs,
        timing=Timing(compile=1.9, first=plan.steady * 1.3, steady=plan.steady),
        peak_memory_bytes=1_234_567_890,
        runtime={"ai-edge-litert": "2.3.0"},
        model_sha256=sha(plan.weights),
    ).model_copy(update=changed)
    job = Job(
        model="model.tflite",
        model_sha256=sha(plan.weights),
        device=plan.device,
        precision=plan.precision,
        inputs=tuple(JobInput(name=name, tensors={}) for name in plan.inputs),
    )
    truth = {name: {"embedding": row} for name, row in reference.items()}
    photographs = [name for name in PHOTOGRAPHS if name in reference]
    comparison = compare(actual, truth, photographs, asked=plan.inputs)
    expectation = None if expected is None else expected.of(actual, truth, plan.inputs)
    return DeviceRun(
        label=plan.label,
        device=plan.device,
        precision=plan.precision,
        weights_dtype=plan.weights,
        job=f"jobs/{plan.label.replace(' ', '-')}",
        result=result,
        comparison=comparison,
        expected=expectation,
        judgement=judge(comparison, run_facts(job, result, plan.weights), POLICY, expectation=expectation),
    )


def good_run(plan: Plan) -> DeviceRun:
    """A run with the noise that its plan says."""
    reference = embeddings(INPUTS)
    actual = noisy({name: reference[name] for name in plan.inputs}, plan.error, plan.seed)
    return device_run(plan, actual, reference, usual() if plan.had == "fp16" else None)


@cache
def usual() -> Predicted:
    """What the GPU's arithmetic gives: noise of the size of its runs, with other bits at most inputs."""
    reference, plan = embeddings(INPUTS), PLANS[2]
    expected = {**noisy(reference, plan.error * 0.9, 8)}
    expected["noise"] = noisy(reference, plan.error, plan.seed)["noise"]
    return predicted(expected, reference)


@cache
def hopeless() -> Predicted:
    """What it gives where a square overflows: outputs that have nothing to do with the input."""
    reference = embeddings(INPUTS)
    other = noisy({name: np.ones_like(row) / 32 for name, row in reference.items()}, 0.9, 11)
    return predicted(other, reference, (*SITES, OVERFLOW))


def report_of(made: Predicted) -> PredictionReport:
    """As the gate keeps it."""
    return PredictionReport(folder=f"expected/model-{PROFILE.name}", prediction=made.prediction)


def assemble(runs: tuple[DeviceRun, ...], **parts: object) -> GateReport:
    """The report of these runs, with the reasons that a gate gives; `parts` replaces other fields."""
    fields: dict[str, object] = {
        "subject": SubjectRecord(
            source="timm:vit_pe_core_base_patch16_224",
            weights="seeded",
            weights_sha256=sha("weights"),
            seed=0,
            parameters=93_671_424,
            contract=InputContract(shape=(1, 3, 224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
            inputs=tuple(
                Input(name=name, kind="photograph" if name in PHOTOGRAPHS else "stress", sha256=sha(name))
                for name in INPUTS
            ),
        ),
        "proof": proof(),
        "artefacts": (artefact("float32"), artefact("float16")),
        "not_tested": (),
        "policy": POLICY,
        "run": RunInfo(
            name="20261124T041500-4711-pe-core-b16",
            started="2026-11-24T04:15:00Z",
            command="fidelity gate",
            seconds={"prove": 41.203, "convert": 58.9, "audit": 0.412, "run": 148.77, "compare": 0.31},
            versions={"fidelity": "0.1.0", "ai-edge-litert": "2.3.0", "torch": "2.14.1", "timm": "1.0.31"},
            machine={"system": "Linux 6.1", "processor": "x86_64", "cores": "2"},
        ),
    }
    fields.update(parts)
    fields.setdefault("reasons", _reasons(runs, fields))
    passed = not any(reason.severity == "fail" for reason in fields["reasons"])  # type: ignore[attr-defined]
    words = "may be released" if passed else "may not be released"
    fields.setdefault("headline", f"PE-Core B/16, seeded weights, {words}")
    return GateReport.model_validate({"passed": passed, "runs": runs, **fields})


def _reasons(runs: tuple[DeviceRun, ...], fields: dict[str, object]) -> tuple[Reason, ...]:
    reasons = [
        Reason(stage="compare", severity=f.severity, code=f.code, message=f"{run.label}: {f.message}")
        for run in runs
        for f in run.judgement.findings
    ]
    proved: Proof = fields["proof"]  # type: ignore[assignment]
    reasons += [Reason(stage="prove", severity="fail", code="not_proved", message=m) for m in proved.failures]
    reasons += [
        Reason(stage="audit", severity="fail", code=f.rule, message=f.reason)
        for a in fields["artefacts"]  # type: ignore[attr-defined]
        for f in a.audit.refused()
    ]
    reasons += [
        Reason(stage="devices", severity="fail", code="not_tested", message=f"{n.label}: {n.reason}")
        for n in fields["not_tested"]  # type: ignore[attr-defined]
    ]
    return tuple(reasons)


@cache
def passing() -> GateReport:
    """Everything as it should be."""
    return assemble(tuple(good_run(plan) for plan in PLANS), predictions=(report_of(usual()),))


@cache
def collapsed() -> GateReport:
    """The card's failure: every node on the GPU, and outputs that have nothing to do with the input."""
    plan, reference = PLANS[2], embeddings(INPUTS)
    other = noisy({name: np.ones_like(row) / 32 for name, row in reference.items()}, 0.9, 11)
    ablations = (
        Ablation(
            left_out="safe_layernorm",
            device="gpu",
            nodes_on_device=817,
            nodes_total=817,
            refusals=(),
            worst_correlation=0.28344,
            outcome="wrong",
            why="resident, and the output has nothing to do with the input",
        ),
        Ablation(
            left_out="split_qkv",
            device="gpu",
            nodes_on_device=50,
            nodes_total=1006,
            refusals=("RESHAPE: tensor of rank 5",),
            worst_correlation=None,
            outcome="refused",
            why="the delegate takes no tensor of rank 5",
        ),
    )
    runs = (good_run(PLANS[0]), good_run(PLANS[1]), device_run(plan, other, reference, hopeless()))
    located = (LocatedRun(label="gpu fp16", located=overflow()),)
    return assemble(runs, ablations=ablations, predictions=(report_of(hopeless()),), located=located)


@cache
def located() -> GateReport:
    """A kernel that is wrong alone on one device, and a conversion that is wrong everywhere."""
    reference = embeddings(INPUTS)
    wrong = device_run(PLANS[2], noisy(reference, 0.21, 12), reference, usual())
    found = (("gpu fp16", kernel()), ("cpu float16", converter()))
    return assemble(
        (good_run(PLANS[0]), wrong),
        predictions=(report_of(usual()),),
        located=tuple(LocatedRun(label=label, located=each) for label, each in found),
    )


@cache
def refused() -> GateReport:
    """No rewrites: the audit and the delegate refuse, and most nodes stay on the CPU."""
    findings = tuple(
        AuditFinding(
            rule="high_rank",
            severity="refused",
            operator=index,
            operator_name="RESHAPE",
            tensor=index + 40,
            tensor_name=f"vit/blocks.{index % 12}/attn/reshape_{index}",
            reason="rank 5; the delegate takes 4 at most",
            cure="split_qkv",
        )
        for index in range(136)
    )
    refusals = (
        *(
            Refusal(op="TRANSPOSE", reason="tensor of rank 5", tensor=written(place), count=2)
            for place in [place for place, op in enumerate(operators()) if op.kind == "TRANSPOSE"][:96:8]
        ),
        Refusal(op="BATCH_MATMUL", reason="non-constant tensor", count=24),
        Refusal(op="GATHER", reason="not supported", tensor="vit/blocks.0/attn/rope", count=24),
    )
    cut = Residency(nodes_on_device=50, nodes_total=817, partitions=7, refusals=refusals, source="50 of 817")
    runs = (good_run(PLANS[0]), good_run(replace(PLANS[2], residency=cut)))
    return assemble(runs, proof=proof(()), artefacts=(artefact("float32", findings), artefact("float16", findings)))


@cache
def broken() -> GateReport:
    """A run that gave NaN and lost an input, one that crashed, one that was never made, and a rewrite
    with a counter-example."""
    plan, reference = PLANS[2], embeddings(INPUTS)
    actual = {name: dict(outputs) for name, outputs in noisy(reference, plan.error, 3).items()}
    actual["noise"] = {"embedding": np.full((1, WIDTH), np.nan, dtype=np.float32)}
    actual["white"] = {"embedding": np.zeros((1, WIDTH), dtype=np.float32)}
    del actual["black"]
    crashed = device_run(PLANS[3], {}, reference, status="crashed", error="signal 11", outputs=(), timing=None)
    wrong = CounterExample(
        input="noise",
        row=3,
        column=17,
        expected=0.1234567890123,
        got=float("nan"),
        difference=1.5,
        allowed=9.5e-6,
    )
    lacks = Lacking(operator=412, name="CUMSUM", reason="the emulator does not have the operation CUMSUM")
    lacking = predicted({}, reference, lacking=(lacks,))
    proved = proof()
    bad = proved.sites[0].model_copy(update={"exactness": Exactness.NOT_EQUIVALENT, "counter_example": wrong})
    missing = NotTested(
        label="phone fp16",
        device="android:1A2B3C",
        reason="no device answers: connect it and run fidelity doctor",
    )
    return assemble(
        (good_run(PLANS[0]), device_run(plan, actual, reference, lacking), crashed),
        predictions=(report_of(lacking),),
        proof=proved.model_copy(update={"sites": (bad, *proved.sites[1:])}),
        not_tested=(missing,),
    )


@cache
def hostile() -> GateReport:
    """Every name that comes from outside is an attack on whoever shows it."""
    script, cdata, mixed, attribute = HOSTILE
    finding = AuditFinding(
        rule="high_rank",
        severity="warning",
        operator=1,
        operator_name=script,
        tensor=2,
        tensor_name=cdata,
        reason=mixed,
    )
    refusals = (Refusal(op=script, reason=cdata, tensor=attribute, count=3),)
    plan = replace(
        PLANS[2],
        label=attribute,
        adapter=Adapter(name=script, driver=cdata),
        residency=Residency(nodes_on_device=3, nodes_total=4, partitions=2, refusals=refusals, source=mixed),
    )
    whole = assemble(
        (good_run(plan), device_run(PLANS[0], {}, embeddings(INPUTS), status="crashed", error=script)),
        artefacts=(artefact("float16", (finding,)),),
        not_tested=(NotTested(label=script, device=cdata, reason=mixed),),
        headline=script,
        located=(LocatedRun(label=attribute, located=hostile_located(HOSTILE)),),
    )
    inputs = tuple(
        item.model_copy(update={"name": name})
        for item, name in zip(whole.subject.inputs, (*HOSTILE, *INPUTS[4:]), strict=True)
    )
    bad = site(3, script, 7.5, tensor=cdata, module=mixed, input=attribute)
    attacked = report_of(predicted(noisy(embeddings(INPUTS), 5e-3, 2), embeddings(INPUTS), (bad,)))
    return whole.model_copy(
        update={"subject": whole.subject.model_copy(update={"inputs": inputs}), "predictions": (attacked,)}
    )


EXAMPLES = {
    "passing": passing,
    "collapsed": collapsed,
    "located": located,
    "refused": refused,
    "broken": broken,
    "hostile": hostile,
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_its_name_says(name: str) -> None:
    report = EXAMPLES[name]()
    codes = {reason.code for reason in report.reasons}
    expected: dict[str, set[str]] = {
        "passing": set(),
        "collapsed": {"collapse", "outside_limit", "as_expected", "expected_collapse"},
        "located": {"outside_limit", "worse_than_expected"},
        "refused": {"not_resident", "high_rank"},
        "broken": {"emulator_lacks", "non_finite_actual", "missing_input", "run_failed", "not_proved", "not_tested"},
        "hostile": {"not_resident", "run_failed", "not_tested"},
    }
    assert report.passed == (name == "passing")
    assert expected[name] <= codes
    assert name != "passing" or "fail" not in {reason.severity for reason in report.reasons}
    assert GateReport.model_validate_json(report.to_json()).to_json() == report.to_json()
