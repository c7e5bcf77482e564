"""Two reports side by side: what they were of, what differs, and every figure of both. It judges nothing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from fidelity.localisation.records import Kind, Located
from fidelity.record import Figure, Record
from fidelity.report.differences import Difference, adapter_of, differences
from fidelity.report.document import DeviceRun, GateReport, Reason
from fidelity.report.readings import CORRELATION, RELATIVE_L2, readings, worst_reading
from fidelity.tflite.manifest import WeightsDtype

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


class Side(Record):
    """One of the two reports: its run folder's name and its verdict."""

    name: str
    passed: bool
    headline: str
    started: str


class Figures(Record):
    """One figure of both, None where it is undefined or that side has none, and B minus A."""

    a: Figure | None
    b: Figure | None
    change: Figure | None


class LocatedSide(Record):
    """Where one side's error begins: its kind, the place, the bits that an overflow lacks, the error of the output."""

    kind: Kind
    begins: str | None
    headroom: Figure | None
    error: Figure


class RunSide(Record):
    """One run of one side, in a few facts. `expected`: it was judged beside what its arithmetic must give."""

    passed: bool
    device: str
    adapter: str
    precision_had: str
    nodes_on_device: int | None
    nodes_total: int | None
    worst_input: str | None
    expected: bool
    located: LocatedSide | None


class RunPair(Record):
    """The runs of one label: both sides, their worst figures. A side without such a run is None."""

    label: str
    a: RunSide | None
    b: RunSide | None
    correlation: Figures
    relative_l2: Figures
    error_ratio: Figures


class InputPair(Record):
    """The correlation of one output of one input in the runs of one label."""

    label: str
    input: str
    output: str
    correlation: Figures


class ArtefactPair(Record):
    """The artefacts of one weights dtype by their hashes; None where a side has none."""

    weights_dtype: WeightsDtype
    a: str | None
    b: str | None
    equal: bool


class RunComparison(Record):
    """Two reports side by side. Reasons are only on one side when the other has none like them but for numbers."""

    schema_version: Literal[1] = 1
    a: Side
    b: Side
    differences: tuple[Difference, ...]
    artefacts: tuple[ArtefactPair, ...]
    runs: tuple[RunPair, ...]
    inputs: tuple[InputPair, ...]
    only_a: tuple[Reason, ...]
    only_b: tuple[Reason, ...]


def side_by_side(a: GateReport, b: GateReport, names: tuple[str, str]) -> RunComparison:
    """The comparison of two reports; `names` are those of their folders."""
    return RunComparison(
        a=_side(a, names[0]),
        b=_side(b, names[1]),
        differences=tuple(differences(a, b)),
        artefacts=tuple(_artefacts(a, b)),
        runs=tuple(_run_pair(label, a, b) for label in _labels(a, b)),
        inputs=tuple(pair for label in _labels(a, b) for pair in _input_pairs(label, a, b)),
        only_a=_only(a, b),
        only_b=_only(b, a),
    )


def _side(report: GateReport, name: str) -> Side:
    return Side(name=name, passed=report.passed, headline=report.headline, started=report.run.started)


def _labels(a: GateReport, b: GateReport) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run.label for report in (a, b) for run in report.runs))


def _run(report: GateReport, label: str) -> DeviceRun | None:
    return next((run for run in report.runs if run.label == label), None)


def _artefacts(a: GateReport, b: GateReport) -> Iterator[ArtefactPair]:
    one, other = ({each.weights_dtype: each.manifest.sha256 for each in report.artefacts} for report in (a, b))
    for dtype in dict.fromkeys((*one, *other)):
        left, right = one.get(dtype), other.get(dtype)
        yield ArtefactPair(weights_dtype=dtype, a=left, b=right, equal=left is not None and left == right)


def _run_pair(label: str, a: GateReport, b: GateReport) -> RunPair:
    return RunPair(
        label=label,
        a=_run_side(a, label),
        b=_run_side(b, label),
        correlation=figures(_worst(a, label, CORRELATION), _worst(b, label, CORRELATION)),
        relative_l2=figures(_worst(a, label, RELATIVE_L2), _worst(b, label, RELATIVE_L2)),
        error_ratio=figures(_ratio(a, label), _ratio(b, label)),
    )


def _run_side(report: GateReport, label: str) -> RunSide | None:
    run = _run(report, label)
    if run is None:
        return None
    residency, worst = run.result.residency, worst_reading(run, report.policy, CORRELATION)
    return RunSide(
        passed=run.judgement.passed,
        device=run.device,
        adapter=adapter_of(run),
        precision_had=run.result.precision_had,
        nodes_on_device=None if residency is None else residency.nodes_on_device,
        nodes_total=None if residency is None else residency.nodes_total,
        worst_input=None if worst is None else worst.input,
        expected=run.expected is not None,
        located=next((_located(each.located) for each in report.located if each.label == label), None),
    )


def _located(found: Located) -> LocatedSide:
    begins = found.culprit or (found.overflow and found.overflow.site)
    return LocatedSide(
        kind=found.kind,
        begins=begins.place if begins else None,
        headroom=found.overflow.headroom if found.overflow else None,
        error=found.errors.actual,
    )


def _worst(report: GateReport, label: str, metric: str) -> float | None:
    run = _run(report, label)
    reading = None if run is None else worst_reading(run, report.policy, metric)
    return None if reading is None else reading.figure


def _ratio(report: GateReport, label: str) -> float | None:
    """The greatest ratio of actual to expected error; None where one of them is undefined."""
    run = _run(report, label)
    ratios = [] if run is None or run.expected is None else [output.ratio for output in run.expected.outputs]
    known = [ratio for ratio in ratios if ratio is not None]
    return max(known) if known and len(known) == len(ratios) else None


def figures(a: float | None, b: float | None) -> Figures:
    """Both figures and their difference, where there is one."""
    change = None if a is None or b is None or not (math.isfinite(a) and math.isfinite(b)) else b - a
    return Figures(a=a, b=b, change=change)


def _input_pairs(label: str, a: GateReport, b: GateReport) -> Iterator[InputPair]:
    tables = [_correlations(report, label) for report in (a, b)]
    for place in dict.fromkeys(place for table in tables for place in table):
        one, other = (table.get(place) for table in tables)
        yield InputPair(label=label, input=place[0], output=place[1], correlation=figures(one, other))


def _correlations(report: GateReport, label: str) -> dict[tuple[str, str], float | None]:
    run = _run(report, label)
    if run is None:
        return {}
    return {(each.input, each.output): each.figure for each in readings(run, report.policy, CORRELATION)}


def _only(these: GateReport, those: GateReport) -> tuple[Reason, ...]:
    """The reasons of one report that the other has none like, each as often as it has them more."""
    left = Counter(_likeness(reasons) for reasons in those.reasons)
    return tuple(_without(these.reasons, left))


def _without(reasons: Iterable[Reason], left: Counter[tuple[str, ...]]) -> Iterator[Reason]:
    for reason in reasons:
        if left[_likeness(reason)] > 0:
            left[_likeness(reason)] -= 1
        else:
            yield reason


def _likeness(reason: Reason) -> tuple[str, ...]:
    """What a reason says but for its numbers."""
    return (reason.stage, reason.severity, reason.code, _NUMBER.sub("#", reason.message))
