"""Leave each rewrite out in turn, and see what breaks where: what is each one for, on this device?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fidelity.devices.discovery import resolve
from fidelity.gating.artefacts import make_artefact
from fidelity.gating.config import GateConfig, RunPlan
from fidelity.gating.evidence import load_truth
from fidelity.gating.execution import execute
from fidelity.gating.judging import Truth, judged, only_output
from fidelity.gating.workbench import Bench
from fidelity.models.subject import Subject
from fidelity.report.document import Ablation, DeviceRun
from fidelity.tflite.manifest import read_manifest

if TYPE_CHECKING:
    from fidelity.rewrites.contract import Rewrite

INPUTS = 3  # photographs that an ablated model runs on: enough to tell wrong from right


def ablations(config: GateConfig, subject: Subject, rewrites: Sequence[Rewrite], bench: Bench) -> tuple[Ablation, ...]:
    """One row for each rewrite left out and each kind of device that the configuration runs on."""
    truth = load_truth(bench.folder)
    names = subject.inputs.photographs[:INPUTS] or tuple(subject.inputs.arrays)[:INPUTS]
    inputs = subject.inputs.only(names)
    plans = {plan.device: plan for plan in config.runs if plan.weights_dtype == "float16" and not plan.worst_of}
    rows = []
    with bench.reporter.stage("ablate", len(rewrites) * len(plans)) as step:
        for left_out in rewrites:
            rest = [rewrite for rewrite in rewrites if rewrite is not left_out]
            artefact = make_artefact(subject, rest, "float16", bench.cache, lambda _: None)
            for plan in plans.values():
                name = left_out.contract.name
                step(f"without {name} on {plan.device}")
                execution = execute(artefact, resolve(plan.device), plan, inputs.arrays, bench.cache, lambda _: None)
                output = only_output(read_manifest(artefact).contract)
                run = judged(plan, execution, Truth(truth, output, names), bench.policy, None)
                rows.append(ablation(name, plan, run))
    return tuple(rows)


def ablation(left_out: str, plan: RunPlan, run: DeviceRun) -> Ablation:
    """What one run of an ablated model shows."""
    residency = run.result.residency
    correlations = [o.metrics["correlation"] for o in run.comparison.outputs if "correlation" in o.metrics]
    refusals = tuple(
        f"{r.op}: {r.reason}{f' ({r.tensor})' if r.tensor else ''}" for r in (residency.refusals if residency else ())
    )
    failures = [f.message for f in run.judgement.findings if f.severity == "fail"]
    if run.result.status != "ok":
        outcome, why = "failed", run.result.error or run.result.status
    elif residency is not None and not residency.full:
        outcome = "refused"
        why = f"{residency.nodes_on_device} of {residency.nodes_total} nodes on the device"
    elif failures:
        outcome, why = "wrong", failures[0]
    else:
        outcome, why = "nothing", "every limit holds: this device does not show what the rewrite is for"
    return Ablation(
        left_out=left_out,
        device=plan.device,
        nodes_on_device=residency.nodes_on_device if residency else None,
        nodes_total=residency.nodes_total if residency else None,
        refusals=refusals,
        worst_correlation=min(correlations) if correlations else None,
        outcome=outcome,
        why=why,
    )
