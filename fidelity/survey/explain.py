"""Why a model does not pass, and what is to be done: every cause in a line, from a gate's report and its figures.

A cause is known when an operator, a module or a stage is named for it. A verdict whose causes are all
unknown is one that nobody has explained yet, and a survey with such a row is not done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fidelity.devices.discovery import on_cpu
from fidelity.localisation.cures import CURES
from fidelity.report.document import DeviceRun, GateReport, LocatedRun
from fidelity.survey.row import Cause, OnDevice, RefusedKind, RewriteCount, Stage, Verdict

if TYPE_CHECKING:
    from fidelity.survey.row import Foretold

_RANK = re.compile(r"\brank\b|dimension|\bdims?\b|\b[5-9]D\b", re.IGNORECASE)
_STOPPED: dict[Stage, str] = {
    "build": "options that timm's constructor takes (see timm.create_model)",
    "rewrite": "the rewrite that raises must refuse this module: leave it out with rewrites = ...",
    "prove": "a rewrite that breaks the module's call must refuse it: leave it out with rewrites = ...",
    "convert": "a rewrite without what the converter cannot take, or another version of litert-torch",
    "run": "see the job's log: the runtime itself cannot run the artefact",
    "predict": "the emulator lacks something: the runs themselves are not touched by it",
    "locate": "report it: locating must answer, whatever the model",
    "report": "report it: a finished gate must be condensed, whatever the model",
}


def verdict_of(report: GateReport, devices: Sequence[OnDevice]) -> Verdict:
    """The verdict in one word; the first of them that holds decides."""
    stages = {reason.stage for reason in report.reasons if reason.severity == "fail"}
    wrong_on_cpu = any(on_cpu(each.device) and each.status == "ok" and not each.passed for each in devices)
    holding: tuple[tuple[Verdict, bool], ...] = (
        ("pass", report.passed),
        ("not_proved", not report.proof.passed),
        ("wrong", wrong_on_cpu),
        ("failed", any(each.status != "ok" for each in devices)),
        ("refused", any(_left(each) for each in devices) or "audit" in stages),
        ("wrong", any(not each.passed for each in devices)),
        ("overflow", "predict" in stages),
    )
    return next((verdict for verdict, holds in holding if holds), "not_converted")


def causes_of(report: GateReport, devices: Sequence[OnDevice], rewrites: Sequence[RewriteCount]) -> tuple[Cause, ...]:
    """Every cause against a pass, in the order in which the stages come; none for a pass."""
    if report.passed:
        return ()
    found = [*_of_proof(report)]
    for run, figures in zip(report.runs, devices, strict=True):
        if run.result.status != "ok":
            message = f"{run.result.status}: {run.result.error or 'no reason given'}"
            found.append(Cause(device=run.device, message=message, cure=_STOPPED["run"], known=True))
        elif _left(figures):
            found += _of_residency(report, figures, rewrites)
        elif not run.judgement.passed:
            found.append(_of_error(run, report))
    if not any(not on_cpu(each.device) for each in devices):
        found += _of_audit(report)
    return (*found, *_of_the_rest(report, found))


def stopped_cause(stage: Stage, message: str) -> Cause:
    """The cause of a stage that could not be done."""
    return Cause(device=None, message=f"{stage}: {message}", cure=_STOPPED[stage], known=True)


def _left(figures: OnDevice) -> bool:
    """Whether a GPU left nodes to the CPU, or may have: a CPU runs every node that there is."""
    return not on_cpu(figures.device) and not figures.resident


def _of_proof(report: GateReport) -> Iterator[Cause]:
    failures = report.proof.failures
    if not report.proof.passed:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        what = failures[0] if failures else "a rewritten module was never called, so nothing was compared"
        cure = "the rewrite of that module is wrong there and must refuse it: fidelity prove SOURCE"
        yield Cause(device=None, message=f"not the original: {what}{more}", cure=cure, known=True)


def _of_residency(report: GateReport, figures: OnDevice, rewrites: Sequence[RewriteCount]) -> Iterator[Cause]:
    """One cause for each kind of refusal; a partly resident graph without any is a cause that nobody knows."""
    for kind in figures.refused:
        where = f" in {', '.join(kind.modules)}" if kind.modules else ""
        message = f"refuses {kind.count} x {kind.op}: {kind.reason.rstrip('.')}{where}"
        yield Cause(device=figures.device, message=message, cure=_cure(report, kind, rewrites), known=True)
    if not figures.refused:
        partitions = f"{figures.nodes_on_device} of {figures.nodes_total} nodes in {figures.partitions} partitions"
        message = f"{partitions}, and no refusal in the log"
        yield Cause(device=figures.device, message=message, cure="see the job's log", known=False)


def _cure(report: GateReport, kind: RefusedKind, rewrites: Sequence[RewriteCount]) -> str:
    """The rewrite that the audit names for such an operator; why it refuses, where it does."""
    if kind.op == "DEQUANTIZE":
        # without a reason in every log that was looked at (BEiT, DINOv3, Swin), and never the only refusal
        return "first whatever is refused beside it: it casts weights, and was not seen to be refused alone"
    named = {
        finding.cure
        for artefact in report.artefacts
        for finding in artefact.audit.findings
        if finding.cure and finding.operator_name == kind.op
    }
    told = []
    for count in rewrites:
        if count.rewrite in named:
            refusing = next(iter(count.refused), None)
            told.append(f"{count.rewrite}, which refuses {refusing}" if refusing else count.rewrite)
    if told:
        return "; ".join(told)
    where = kind.modules[0].split(" x ", maxsplit=1)[0] if kind.modules else "the module"
    if _RANK.search(kind.reason):
        return f"a rewrite that keeps every tensor of {where} at rank 4 or below"
    return f"a rewrite of {where} without {kind.op}"


def _of_error(run: DeviceRun, report: GateReport) -> Cause:
    """What locating found for the device of a failing run; else the first failure, as one nobody has explained."""
    first = next((f.message for f in run.judgement.findings if f.severity == "fail"), "it does not pass")
    located = next((each for each in report.located if _same_device(each, run, report)), None)
    if located is None:
        note = next((r.message for r in report.reasons if r.code == "not_located"), "not located")
        return Cause(device=run.device, message=f"{first}; {note}", cure="fidelity locate FILE", known=False)
    found = located.located
    place = f" at {found.culprit.place}" if found.culprit else ""
    if found.overflow is not None:
        place = f" at {found.overflow.site.place}"
    evidence = f": {found.evidence[0]}" if found.evidence else ""
    message = f"{first}; {found.kind}{place}{evidence}"
    return Cause(device=run.device, message=message, cure=found.cure, known=found.kind not in ("unlocated", "right"))


def _same_device(located: LocatedRun, run: DeviceRun, report: GateReport) -> bool:
    return any(each.label == located.label and each.device == run.device for each in report.runs)


def _of_audit(report: GateReport) -> Iterator[Cause]:
    """What the static audit refuses, where no delegate was asked."""
    for reason in report.reasons:
        if reason.stage == "audit" and reason.severity == "fail":
            cure = "ask a GPU, which has the last word; fidelity audit FILE names every operator"
            yield Cause(device=None, message=f"by the static audit: {reason.message}", cure=cure, known=True)


def _of_the_rest(report: GateReport, found: Sequence[Cause]) -> Iterator[Cause]:
    """Overflows in the emulated arithmetic, altered weights, and whatever else fails and has no cause yet."""
    for reason in report.reasons:
        if reason.severity != "fail" or reason.stage in ("prove", "compare"):
            continue
        if reason.stage == "predict":
            yield Cause(device=None, message=reason.message, cure=CURES["overflow"], known=True)
        elif reason.stage != "audit" or not found:
            cure = "fidelity gate with this source tells all of it"
            yield Cause(device=None, message=f"{reason.stage}: {reason.message}", cure=cure, known=True)


def notes_of(report: GateReport, told: Sequence[Foretold]) -> tuple[str, ...]:
    """What is to be known of a model besides its verdict: what is suspicious, and what the emulator lacks."""
    suspicious = [reason.message for reason in report.reasons if reason.severity == "suspicious"]
    lacking = [f"{each.profile}: {each.lacking}" for each in told if each.lacking is not None]
    unknown = sum(reason.code == "unexplained_constant" for reason in report.reasons)
    constants = [f"{unknown} constants have the bits of no weight"] if unknown else []
    return tuple(dict.fromkeys([*suspicious, *lacking, *constants]))
