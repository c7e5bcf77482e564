"""What every part of a selftest needs: the devices, and how the gate runs and judges an artefact on one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fidelity.cache import Cache
from fidelity.comparison.judgement import Judgement
from fidelity.comparison.policy import Policy
from fidelity.devices.discovery import Device, on_cpu
from fidelity.gating.config import RunPlan
from fidelity.gating.execution import Execution, execute
from fidelity.gating.expecting import profile_for
from fidelity.gating.judging import Outputs, Truth, judged, only_output
from fidelity.gating.predicting import Against, predict_artefact
from fidelity.models.subject import Subject
from fidelity.prediction.expected import load_expected
from fidelity.prediction.predicted import Predicted
from fidelity.record import Record
from fidelity.report.document import DeviceRun
from fidelity.selftest.records import FaultRow, Seen
from fidelity.selftest.specimen import Specimen
from fidelity.tflite.manifest import read_manifest

_ROWS = "rows.json"


@dataclass(frozen=True)
class Rig:
    """Devices by the words for them, the policy and the cache; `cpu_runs` are the outputs on the CPU by artefact."""

    devices: Mapping[str, Device]
    policy: Policy
    cache: Cache
    cpu_runs: dict[Path, Outputs] = field(default_factory=dict)

    @property
    def gpus(self) -> tuple[str, ...]:
        """The words for devices that compute in fp16."""
        return tuple(spec for spec in self.devices if not on_cpu(spec))

    def run(self, specimen: Specimen, artefact: Path, spec: str) -> Execution:
        """An artefact on a device over all the specimen's inputs."""
        inputs: Mapping[str, NDArray[Any]] = specimen.subject.inputs.arrays
        execution = execute(artefact, self.devices[spec], _plan(spec), inputs, self.cache, lambda _: None)
        if on_cpu(spec):
            self.cpu_runs[artefact] = execution.outputs
        return execution

    def kept(self, subject: Subject, key: Mapping[str, Any], make: Callable[[], Sequence[FaultRow]]) -> list[FaultRow]:
        """Rows about a subject on these devices under this policy, from the cache where they were made before."""
        whole = {
            **key,
            "subject": subject.record.model_dump(mode="json"),
            "devices": {spec: d.info.model_dump(mode="json", exclude={"facts"}) for spec, d in self.devices.items()},
            "policy": self.policy.model_dump(mode="json"),
        }

        def store(folder: Path) -> None:
            Rows(rows=tuple(make())).write(folder / _ROWS)

        return list(Rows.read(self.cache.entry("selftest-rows", whole, store) / _ROWS).rows)

    def predicted(self, specimen: Specimen, artefact: Path, execution: Execution) -> Predicted | None:
        """What the device of a run must give for an artefact; None where nothing is expected of it."""
        profile = profile_for(execution.result, None)
        if profile is None:
            return None
        inputs = specimen.subject.inputs
        against = Against(specimen.truth, inputs.photographs, specimen.subject.record.source)
        found, folder = predict_artefact(
            artefact, inputs.arrays, profile, against, self.policy, self.cache, lambda _: None
        )
        return Predicted(found, load_expected(folder)[1])

    def judged(
        self, specimen: Specimen, artefact: Path, spec: str, execution: Execution, predicted: Predicted | None
    ) -> DeviceRun:
        """The gate's own verdict on a run."""
        output = only_output(read_manifest(artefact).contract)
        known = Truth(specimen.truth, output, specimen.subject.inputs.photographs)
        return judged(_plan(spec), execution, known, self.policy, self.cpu_runs.get(artefact), predicted)


class Rows(Record):
    """Rows as they are kept in the cache."""

    rows: tuple[FaultRow, ...]


def as_the_right_one(execution: Execution, right: Execution) -> Execution:
    """What a device with a fault gives, told as a run of the right artefact: that is what it was asked for."""
    told = execution.result.model_copy(update={"model_sha256": right.result.model_sha256})
    return replace(execution, job=right.job, result=told)


def seen_by_gate(judgement: Judgement) -> Sequence[Seen]:
    """Every finding of a judgement that speaks against the run.

    That nobody has measured the device, or that the emulator lacks an operation, speaks against no run.
    """
    return [
        Seen(
            check=finding.code,
            severity=finding.severity,
            metric=finding.metric,
            worst=finding.worst,
            limit=None if finding.limit is None else str(finding.limit),
            message=finding.message,
        )
        for finding in judgement.findings
        if finding.severity != "note" and finding.code not in ("no_profile", "emulator_lacks")
    ]


def _plan(spec: str) -> RunPlan:
    return RunPlan(label=spec, device=spec, weights_dtype="float16")
