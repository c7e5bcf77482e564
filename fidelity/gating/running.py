"""The gate's runs: every configured one, on its device, one queue a device, none lost when another fails."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from fidelity.devices.discovery import Device, resolve
from fidelity.devices.queues import Task, in_queues
from fidelity.errors import EnvironmentMissing
from fidelity.gating.config import GateConfig, RunPlan
from fidelity.gating.evidence import Embeddings
from fidelity.gating.execution import execute, keep
from fidelity.gating.judging import Truth, cpu_outputs, jobs_folder, judged, only_output, worst_inputs
from fidelity.gating.workbench import Bench
from fidelity.models.label_set import LabelSet
from fidelity.models.subject import Subject
from fidelity.progress import Step
from fidelity.report.document import DeviceRun, NotTested
from fidelity.tflite.manifest import WeightsDtype, read_manifest


def ran(
    config: GateConfig,
    subject: Subject,
    artefacts: Mapping[WeightsDtype, Path],
    truth: Embeddings,
    bench: Bench,
) -> tuple[tuple[DeviceRun, ...], tuple[NotTested, ...]]:
    """Every configured run, judged, one queue a device; what could not be made is told, and the others are.

    A run of another's worst inputs waits for that one, which comes before it in the configuration.
    """
    done: dict[str, Future[DeviceRun | NotTested]] = {plan.label: Future() for plan in config.runs}

    def one(plan: RunPlan, device: Device | str, step: Step) -> None:
        try:
            found = made_or_not(plan, device, step)
        except BaseException as error:
            done[plan.label].set_exception(error)
            raise
        done[plan.label].set_result(found)

    def made_or_not(plan: RunPlan, device: Device | str, step: Step) -> DeviceRun | NotTested:
        if isinstance(device, str):
            return NotTested(label=plan.label, device=plan.device, reason=device)
        names = None
        if plan.worst_of is not None:
            before = done[plan.worst_of].result()
            if isinstance(before, NotTested):
                reason = f"needs the worst inputs of {plan.worst_of!r}, which was not run"
                return NotTested(label=plan.label, device=plan.device, reason=reason)
            names = worst_inputs(before, plan.worst or 1)
        inputs = subject.inputs.only(names) if names else subject.inputs
        execution = execute(artefacts[plan.weights_dtype], device, plan, inputs.arrays, bench.cache, step)
        keep(execution, jobs_folder(bench.folder, plan.label))
        cpu = cpu_outputs(bench.executions, bench.plans, plan)
        known = truth_about(artefacts[plan.weights_dtype], truth, subject, bench.labels)
        bench.executions[plan.label], bench.plans[plan.label] = execution, plan
        return judged(plan, execution, known, bench.policy, cpu)

    with bench.reporter.stage("run", len(config.runs)) as step:
        devices = {spec: device_or_reason(spec) for spec in dict.fromkeys(plan.device for plan in config.runs)}
        in_queues(
            [
                Task(queue_of(devices[plan.device]), partial(one, plan, devices[plan.device], step))
                for plan in config.runs
            ]
        )
    found = [future.result() for future in done.values()]
    runs = tuple(each for each in found if isinstance(each, DeviceRun))
    return runs, tuple(each for each in found if isinstance(each, NotTested))


def queue_of(device: Device | str) -> str:
    """The queue of a device; what is missing keeps nobody waiting."""
    return "missing" if isinstance(device, str) else device.queue


def truth_about(artefact: Path, truth: Embeddings, subject: Subject, labels: LabelSet | None) -> Truth:
    """The truth under the name that the artefact gives its output."""
    return Truth(truth, only_output(read_manifest(artefact).contract), subject.inputs.photographs, labels)


def device_or_reason(spec: str) -> Device | str:
    """The device, or why it is not here."""
    try:
        return resolve(spec)
    except EnvironmentMissing as error:
        return str(error)
