"""Compare a finished run with the truth and judge it under a policy: pure, no device needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.comparison import compare
from fidelity.comparison.judgement import Finding
from fidelity.comparison.policy import Policy
from fidelity.comparison.ranking_findings import JudgedRanking, ranking_findings
from fidelity.comparison.run_facts import run_facts
from fidelity.comparison.verdict import identical_to_cpu, judge
from fidelity.devices.discovery import on_cpu
from fidelity.errors import BadInput
from fidelity.gating.config import RunPlan, folder_name
from fidelity.gating.execution import Execution
from fidelity.gating.rankings import judged_rankings
from fidelity.models.label_set import LabelSet
from fidelity.prediction.predicted import Predicted
from fidelity.report.document import DeviceRun
from fidelity.tflite.manifest import IoContract

Outputs = dict[str, dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Truth:
    """What an artefact's output should be: embeddings by input, under the name its contract gives them.

    `labels` are those that the embeddings choose among, where some were given.
    """

    embeddings: Mapping[str, NDArray[np.float64]]
    output: str
    photographs: tuple[str, ...]
    labels: LabelSet | None = None

    @property
    def outputs(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """By input and output name, as outputs are compared."""
        return {name: {self.output: array} for name, array in self.embeddings.items()}


def judged(
    plan: RunPlan,
    execution: Execution,
    truth: Truth,
    policy: Policy,
    cpu: Outputs | None,
    predicted: Predicted | None = None,
) -> DeviceRun:
    """The run with its comparison and judgement.

    `cpu` are the same artefact's outputs on the CPU, `predicted` what the device's arithmetic must give.
    """
    asked = [item.name for item in execution.job.inputs]
    comparison = compare(execution.outputs, truth.outputs, truth.photographs, asked=asked)
    expectation = predicted.of(execution.outputs, truth.outputs, asked) if predicted is not None else None
    also: tuple[Finding, ...] = ()
    if not on_cpu(plan.device) and cpu is not None:
        also = identical_to_cpu(cpu, execution.outputs, execution.result.precision_had)
    facts = run_facts(execution.job, execution.result, plan.weights_dtype)
    rankings: tuple[JudgedRanking, ...] = ()
    if truth.labels is not None:
        known = (truth.embeddings, truth.output)
        judging = (policy.limits_of(facts.kind) or {}, expectation)
        rankings = judged_rankings(execution.outputs, known, (asked, truth.photographs), truth.labels, judging)
        also = (*also, *(finding for each in rankings for finding in ranking_findings(each)))
    return DeviceRun(
        label=plan.label,
        device=plan.device,
        precision=plan.precision,
        weights_dtype=plan.weights_dtype,
        job=f"jobs/{folder_name(plan.label)}",
        result=execution.result,
        comparison=comparison,
        expected=expectation,
        rankings=rankings,
        judgement=judge(comparison, facts, policy, also, expectation),
    )


def worst_inputs(run: DeviceRun, count: int) -> tuple[str, ...]:
    """The inputs that a run was furthest off on, by relative L2; one without a figure is worst of all."""
    error = {name: float("inf") for name in run.comparison.asked}
    error |= {o.input: o.metrics["relative_l2"] for o in run.comparison.outputs if "relative_l2" in o.metrics}
    return tuple(sorted(error, key=lambda name: (-error[name], name))[:count])


def cpu_outputs(executions: Mapping[str, Execution], plans: Mapping[str, RunPlan], plan: RunPlan) -> Outputs | None:
    """Outputs of the same artefact on the CPU, from an earlier run of this gate."""
    for label, execution in executions.items():
        if on_cpu(plans[label].device) and plans[label].weights_dtype == plan.weights_dtype:
            return execution.outputs
    return None


def jobs_folder(run: Path, label: str) -> Path:
    """Where a run folder keeps the job of a run."""
    return run / "jobs" / folder_name(label)


def only_output(contract: IoContract) -> str:
    """The name of an artefact's one output. Raises BadInput when it has another number of them."""
    if len(contract.outputs) != 1:
        raise BadInput(f"the artefact has {len(contract.outputs)} outputs; an embedding model has one")
    return contract.outputs[0].name
