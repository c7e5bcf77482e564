"""What a verdict must know of a run besides its outputs: where it ran, how, and how much of it.

A correlation without these is not a result: the same figure comes from a graph that fell back to
the CPU, from a driver without fp16, or from another model.
"""

from __future__ import annotations

from typing import Literal

from fidelity.devices.job import Job, JobResult, Precision, PrecisionHad, Residency, Status
from fidelity.record import Record
from fidelity.tflite.manifest import WeightsDtype

Family = Literal["cpu", "gpu"]


class RunKind(Record):
    """What limits apply: the device family, the precision really had, and the artefact's weights."""

    device: Family
    precision: PrecisionHad
    weights: WeightsDtype

    def __str__(self) -> str:
        return f"{self.device} {self.precision}, {self.weights} weights"


class RunFacts(Record):
    """One run, as far as a verdict needs it. `deterministic` is None for an input that ran once."""

    device_asked: str
    kind: RunKind
    status: Status
    error: str | None = None
    precision_asked: Precision
    residency: Residency | None = None
    asked: tuple[str, ...]
    deterministic: dict[str, bool | None]
    model_sha256_asked: str
    model_sha256_had: str


def device_family(device: str) -> Family:
    """`cpu` for the CPU; everything else is judged as a GPU, and so must prove its residency."""
    return "cpu" if device == "cpu" else "gpu"


def run_facts(job: Job, result: JobResult, weights: WeightsDtype) -> RunFacts:
    """The facts of `job` as `result` tells them; `weights` is the artefact's, from its manifest."""
    return RunFacts(
        device_asked=job.device,
        kind=RunKind(device=device_family(result.device), precision=result.precision_had, weights=weights),
        status=result.status,
        error=result.error,
        precision_asked=job.precision,
        residency=result.residency,
        asked=tuple(item.name for item in job.inputs),
        deterministic={output.input: output.deterministic for output in result.outputs},
        model_sha256_asked=job.model_sha256,
        model_sha256_had=result.model_sha256,
    )
