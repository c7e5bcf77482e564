"""Where the first wrong number of each failing run comes from: located by the gate itself, at the run's worst input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.errors import EnvironmentMissing, FidelityError
from fidelity.gating.artefacts import tower_of
from fidelity.gating.config import folder_name
from fidelity.gating.evidence import Embeddings
from fidelity.gating.judging import worst_inputs
from fidelity.gating.locating import Asked, Known, locate_and_pack
from fidelity.gating.running import device_or_reason
from fidelity.gating.workbench import Bench
from fidelity.models.subject import Subject
from fidelity.progress import Step
from fidelity.report.document import DeviceRun, LocatedRun, Reason
from fidelity.tflite.manifest import WeightsDtype

if TYPE_CHECKING:
    from fidelity.rewrites.contract import Rewrite


def locate_failures(
    runs: Sequence[DeviceRun],
    subject: Subject,
    rewrites: Sequence[Rewrite],
    artefacts: Mapping[WeightsDtype, Path],
    truth: Embeddings,
    bench: Bench,
) -> tuple[tuple[LocatedRun, ...], tuple[Reason, ...]]:
    """One answer for every device with a failing run: its first one, at that run's worst input.

    A run that did not end well has its reason already. What cannot be located is a note that says why.
    """
    failing: dict[str, DeviceRun] = {}
    for run in runs:
        if not run.judgement.passed and run.result.status == "ok":
            failing.setdefault(run.device, run)
    if not failing:
        return (), ()
    found: list[LocatedRun] = []
    notes: list[Reason] = []
    with bench.reporter.stage("locate", len(failing)) as step:
        known = Known(subject.record.source, truth, tower_of(subject, rewrites))
        for run in failing.values():
            try:
                found.append(_located(run, subject, artefacts, known, bench, step))
            except FidelityError as error:
                message = f"{run.label}: not located: {error}"
                notes.append(Reason(stage="locate", severity="note", code="not_located", message=message))
    return tuple(found), tuple(notes)


def _located(
    run: DeviceRun,
    subject: Subject,
    artefacts: Mapping[WeightsDtype, Path],
    known: Known,
    bench: Bench,
    step: Step,
) -> LocatedRun:
    device = device_or_reason(run.device)
    if isinstance(device, str):
        raise EnvironmentMissing(device)
    asked = Asked(artefacts[run.weights_dtype], device, run.precision, bench.policy, bench.profile)
    (worst,) = worst_inputs(run, 1)
    step(run.label)
    inputs = {worst: subject.inputs.arrays[worst]}
    pack = f"repro/{folder_name(run.label)}"
    located = locate_and_pack(asked, inputs, known, bench.cache, lambda _: None, bench.folder, pack=pack)
    return LocatedRun(label=run.label, located=located)
