"""What two reports are of, fact by fact: which of it is not the same."""

from __future__ import annotations

from collections.abc import Iterator

from fidelity.comparison.policy import Policy
from fidelity.record import Record
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
    for item in subject.inputs:
        yield f"input {item.name}", item.sha256
    for name, value in subject.contract.model_dump(mode="json").items():
        yield f"input contract: {name}", str(value)
    yield from _limits(report.policy)
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


def _limits(policy: Policy) -> Iterator[tuple[str, str]]:
    yield "policy", policy.name
    for name, asked in policy.require.model_dump(mode="json").items():
        yield f"policy requires {name}", str(asked)
    for metric, limit in policy.every_run.items():
        yield f"limit of {metric}, every run", str(limit)
    for each in policy.runs:
        for metric, limit in each.limits.items():
            yield f"limit of {metric}, {each.kind}", str(limit)


def adapter_of(run: DeviceRun) -> str:
    """The adapter that a run had, with its driver."""
    adapter = run.result.adapter
    if adapter is None:
        return _UNSAID
    return f"{adapter.name}, {adapter.driver}" if adapter.driver else adapter.name
