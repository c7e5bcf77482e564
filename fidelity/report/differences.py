"""What two reports are of, fact by fact: which of it is not the same."""

from __future__ import annotations

from collections.abc import Iterator

from fidelity.record import Record, canonical_json
from fidelity.report.document import DeviceRun, GateReport

_UNSAID = "none"


class Difference(Record):
    """One fact that is another in B than in A; `none` where one of them has no such thing."""

    what: str
    a: str
    b: str


def differences(a: GateReport, b: GateReport) -> Iterator[Difference]:
    """Every fact of both, in the order of a report, that is not the same text; of runs, those that both made."""
    both = {run.label for run in a.runs} & {run.label for run in b.runs}
    one, other = dict(_facts(a, both)), dict(_facts(b, both))
    for what in dict.fromkeys((*one, *other)):
        left, right = one.get(what, _UNSAID), other.get(what, _UNSAID)
        if left != right:
            yield Difference(what=what, a=left, b=right)


def _facts(report: GateReport, labels: set[str]) -> Iterator[tuple[str, str]]:
    subject = report.subject
    yield "source", subject.source
    yield "weights", subject.weights
    yield "weights by hash", subject.weights_sha256
    yield "seed", str(subject.seed)
    yield "rewrites", ", ".join(f"{c.name} v{c.version}" for c in report.proof.contracts) or _UNSAID
    yield "inputs", ", ".join(f"{item.name} {item.sha256[:12]}" for item in subject.inputs)
    yield "input contract", canonical_json(subject.contract.model_dump(mode="json")).decode()
    yield "policy", report.policy.name
    yield "limits", canonical_json(report.policy.model_dump(mode="json", exclude={"name"})).decode()
    for run in [run for run in report.runs if run.label in labels]:
        yield f"{run.label}: device", run.device
        yield f"{run.label}: adapter and driver", adapter_of(run)
        yield f"{run.label}: precision", f"{run.result.precision_had} ({run.result.precision_asked} was asked)"
    for each in report.predictions:
        profile = each.prediction.expected.profile
        yield f"profile {profile.name}", profile.sha256
    for name, version in sorted(report.run.versions.items()):
        yield f"version of {name}", version
    for name, value in sorted(report.run.machine.items()):
        yield f"machine: {name}", value


def adapter_of(run: DeviceRun) -> str:
    """The adapter that a run had, with its driver."""
    adapter = run.result.adapter
    if adapter is None:
        return _UNSAID
    return f"{adapter.name}, {adapter.driver}" if adapter.driver else adapter.name
