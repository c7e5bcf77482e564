"""report.json: everything that a verdict was made of, in one record with a published JSON Schema.

The other forms (HTML, JUnit) are made from this record alone, so no number in them can be another
than the stored one.
"""

from __future__ import annotations

import hashlib
from typing import Literal, Self

from pydantic import model_validator

from fidelity.comparison.comparison import Comparison
from fidelity.comparison.expectation import Expectation
from fidelity.comparison.judgement import Judgement
from fidelity.comparison.policy import Policy
from fidelity.comparison.ranking_findings import JudgedRanking
from fidelity.devices.job import JobResult, Precision
from fidelity.localisation.records import Located
from fidelity.models.label_set import LabelRecord
from fidelity.models.subject import SubjectRecord
from fidelity.prediction.prediction import Prediction
from fidelity.record import Figure, Record
from fidelity.rewrites.proof import Proof
from fidelity.tflite.audit import AuditReport
from fidelity.tflite.manifest import Manifest, WeightsDtype
from fidelity.tflite.weights import WeightsAudit

SCHEMA_VERSION = 1


def tensor_digest(name: str) -> str:
    """A tensor's name by the first 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]


class GraphOperator(Record):
    """One operator of a file: its kind, the module that it comes from, the tensor that it writes.

    `tensor` is the name's `tensor_digest`, since names are long and only ever compared with what a
    delegate's log says; `reads` are the operators whose results it reads, by their place.
    """

    kind: str
    module: str | None
    tensor: str
    reads: tuple[int, ...]


class ArtefactReport(Record):
    """One .tflite: its manifest, its static audit, and where it is, relative to the run folder.

    `operators` are those of the main graph in execution order; a report of before they were kept has none.
    """

    weights_dtype: WeightsDtype
    path: str
    manifest: Manifest
    audit: AuditReport
    operators: tuple[GraphOperator, ...] = ()
    weights: WeightsAudit | None = None


class DeviceRun(Record):
    """One artefact on one device: what was asked, what happened, how far apart, and the judgement.

    `job` is the job's folder relative to the run folder: job.json, result.json, raw outputs, log.
    `expected` is what the device's arithmetic must give, None where that is not known or not asked.
    `rankings` are how labels and images are ordered by the outputs, where a label set was given.
    """

    label: str
    device: str
    precision: Precision
    weights_dtype: WeightsDtype
    job: str
    result: JobResult
    comparison: Comparison
    expected: Expectation | None = None
    rankings: tuple[JudgedRanking, ...] = ()
    judgement: Judgement


class PredictionReport(Record):
    """One artefact under one profile, and the folder of its expected outputs relative to the run folder."""

    folder: str
    prediction: Prediction


class LocatedRun(Record):
    """Where a run's error begins. A pack's folder is relative to the run folder."""

    label: str
    located: Located


class NotTested(Record):
    """A run that was asked for and could not be made, with what to do about it."""

    label: str
    device: str
    reason: str


class Reason(Record):
    """One reason why the gate does not pass, or one thing to know: for a person, with its stage."""

    stage: Literal["prove", "convert", "audit", "predict", "run", "compare", "devices", "locate"]
    severity: Literal["fail", "suspicious", "note"]
    code: str
    message: str


class Ablation(Record):
    """What breaks when one rewrite is left out, on one device.

    `outcome`: `refused` (not every node runs on the device), `wrong` (resident, and the judgement
    fails), `nothing` (this device does not show what the rewrite is for).
    """

    left_out: str
    device: str
    nodes_on_device: int | None
    nodes_total: int | None
    refusals: tuple[str, ...]
    worst_correlation: Figure | None
    outcome: Literal["refused", "wrong", "nothing", "failed"]
    why: str


class RunInfo(Record):
    """When, how and with what the gate was run; the only part that differs between two equal runs."""

    name: str
    started: str
    command: str
    seconds: dict[str, Figure]
    versions: dict[str, str]
    machine: dict[str, str]


class GateReport(Record):
    """The whole evidence. `passed` is true only when nothing failed and nothing asked for is missing."""

    schema_version: Literal[1] = 1
    passed: bool
    headline: str
    reasons: tuple[Reason, ...]
    subject: SubjectRecord
    labels: LabelRecord | None = None
    proof: Proof
    artefacts: tuple[ArtefactReport, ...]
    runs: tuple[DeviceRun, ...]
    not_tested: tuple[NotTested, ...]
    predictions: tuple[PredictionReport, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    located: tuple[LocatedRun, ...] = ()
    policy: Policy
    run: RunInfo

    @model_validator(mode="after")
    def _passes_only_on_evidence(self) -> Self:
        if self.passed != (not any(reason.severity == "fail" for reason in self.reasons)):
            raise ValueError("passed does not fit the reasons")
        if self.passed and (not self.runs or self.not_tested or not self.proof.passed):
            raise ValueError("passed without a run, with a run not made, or without a proof")
        if self.passed and not all(run.judgement.passed for run in self.runs):
            raise ValueError("passed although a run does not")
        return self
