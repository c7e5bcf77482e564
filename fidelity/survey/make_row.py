"""One model through every stage of the gate, and whatever happens to it as a row.

This is what runs in the row's own process: timm's code, the rewrites and the stages may raise anything
for a model that nobody has tried, and each of that is a finding about the model with the stage's name.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.errors import EnvironmentMissing, FidelityError
from fidelity.gating.config import GateConfig, RunPlan
from fidelity.gating.gate import proved, run_gate
from fidelity.gating.workbench import Bench
from fidelity.models.subject import build_subject
from fidelity.models.threads import few_threads
from fidelity.progress import Reporter, Step
from fidelity.record import Record
from fidelity.report.document import GateReport
from fidelity.survey.condense import audit_counts, foretold, on_device, operators_of, rewrite_counts
from fidelity.survey.explain import causes_of, notes_of, stopped_cause, verdict_of
from fidelity.survey.plan import Entry
from fidelity.survey.row import Row, Stage, Stopped

Begun = Callable[[Stage], None]
"""Told each stage as it begins."""

_STAGES: dict[str, Stage] = {
    "prove": "prove",
    "convert and audit": "convert",
    "run": "run",
    "emulate": "predict",
    "locate": "locate",
}
"""The gate's own stages, by the titles that it reports them under."""


class Asked(Record):
    """What a row is made with: the model, the devices by their words, the inputs, and the cache's folder.

    `timeout_seconds` bounds each run on a device.
    """

    entry: Entry
    devices: tuple[str, ...]
    inputs: tuple[str, ...] | None
    images: str
    seed: int
    policy: Policy
    cache: str
    timeout_seconds: float = 300.0


class StageWatch(Reporter):
    """A reporter that tells each stage of the gate as it begins, and forgets the lines for a person."""

    def __init__(self, begun: Begun) -> None:
        super().__init__()
        self._begun = begun

    @contextmanager
    def stage(self, title: str, steps: int) -> Iterator[Step]:
        """A stage of the gate, told by its name in a row."""
        self._begun(_STAGES[title])
        with super().stage(title, steps) as step:
            yield step

    def say(self, line: str) -> None:
        """Nothing: the survey has its own progress."""


def make_row(asked: Asked, begun: Begun = lambda _: None) -> Row:
    """The row of one model: never raises for anything that the model does, names the stage instead."""
    started = time.monotonic()
    stage: Stage = "build"
    known: dict[str, Any] = {}

    def begin(which: Stage) -> None:
        nonlocal stage
        stage = which
        begun(which)

    try:
        found = _through(asked, begin, known)
    except Exception as error:  # timm, torch and the stages raise anything for a model that nobody has tried
        found = stopped_row(asked.entry, stage, _told(error), known, passing=isinstance(error, EnvironmentMissing))
    return found.model_copy(update={"seconds": round(time.monotonic() - started, 1)})


def stopped_row(entry: Entry, stage: Stage, message: str, known: dict[str, Any], *, passing: bool) -> Row:
    """A row that ends at a stage, with what the stages before it found."""
    return Row(
        entry=entry,
        verdict="stopped",
        stopped=Stopped(stage=stage, message=message, passing=passing),
        causes=(stopped_cause(stage, message),),
        **known,
    )


def _through(asked: Asked, begin: Begun, known: dict[str, Any]) -> Row:
    """Every stage in order; what each has found is in `known` before the next begins."""
    from fidelity.rewrites.apply import apply_rewrites  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.catalogue import chosen_for  # noqa: PLC0415

    entry = asked.entry
    begin("build")
    subject = build_subject(entry.source, entry.weights, asked.seed, Path(asked.images), asked.inputs)
    rewrites = chosen_for(entry.rewrites, subject.model)
    known["parameters"] = subject.record.parameters
    with few_threads(subject.record.parameters), tempfile.TemporaryDirectory(prefix="fidelity-survey-") as scratch:
        begin("rewrite")
        decisions = apply_rewrites(subject.model, rewrites).decisions
        known["rewrites"] = rewrite_counts(decisions, [rewrite.contract.name for rewrite in rewrites])
        bench = Bench(Path(scratch), Cache(Path(asked.cache)), StageWatch(begin), asked.policy)
        begin("prove")
        proof, _ = proved(subject, rewrites, bench)
        known["proved"] = proof.passed
        report = run_gate(gate_of(asked), subject, rewrites, bench)
    begin("report")
    return condensed(entry, report, known)


def gate_of(asked: Asked) -> GateConfig:
    """A row's gate: the artefact as it ships, with float16 weights, once on every device."""
    runs = tuple(
        RunPlan(label=device, device=device, weights_dtype="float16", timeout_seconds=asked.timeout_seconds)
        for device in asked.devices
    )
    entry = asked.entry
    return GateConfig(
        source=entry.source,
        weights=entry.weights,
        seed=asked.seed,
        rewrites=entry.rewrites,
        images=asked.images,
        only=asked.inputs,
        runs=runs,
    )


def condensed(entry: Entry, report: GateReport, known: dict[str, Any]) -> Row:
    """A gate's report as a row."""
    devices = tuple(on_device(run, operators_of(report, run)) for run in report.runs)
    told = tuple(foretold(each) for each in report.predictions)
    return Row(
        entry=entry,
        verdict=verdict_of(report, devices),
        nodes=max((artefact.audit.nodes for artefact in report.artefacts), default=None),
        audit=audit_counts(report),
        devices=devices,
        foretold=told,
        causes=causes_of(report, devices, known.get("rewrites", ())),
        notes=notes_of(report, told),
        **known,
    )


def _told(error: Exception) -> str:
    """An error in one line: what was raised on purpose as it stands, anything else with its type."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, FidelityError) else f"{type(error).__name__}: {text}"
