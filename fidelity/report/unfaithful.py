"""What an assertion says of a run that fails: as much as torch.testing's, and the device's part."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from fidelity.comparison.comparison import OutputComparison
from fidelity.comparison.judgement import Check
from fidelity.report.document import DeviceRun
from fidelity.report.printable import printable

_MOST = 8
"""Findings and refusals that are shown; the rest is counted."""


def unfaithful(artefact: Path, run: DeviceRun, reference: str) -> str:
    """The message for a person: what was compared, how far apart, what was allowed, why, and what to do next."""
    result = run.result
    adapter = f"{result.adapter.name}, " if result.adapter else ""
    lines = [f"{artefact.name} on {run.device} ({adapter}{result.precision_had}) is not faithful to {reference}", ""]
    for output in dict.fromkeys(each.output for each in run.comparison.outputs):
        lines += [*_differences(run, output), ""]
    lines += [*_ran(run), "", "Why it fails:"]
    lines += _some([f"  - {each.message}" for each in run.judgement.findings if each.severity == "fail"])
    lines += ["", f"Where it begins: fidelity locate {shlex.quote(str(artefact))} --device {shlex.quote(run.device)}"]
    return "\n".join(printable(line) for line in lines)


def _differences(run: DeviceRun, output: str) -> Iterator[str]:
    """One output: how many inputs are outside a limit, and the worst figure of each kind with its place."""
    records = [each for each in run.comparison.outputs if each.output == output]
    checks = [each for each in run.judgement.checks if each.output == output]
    wrong = [each for each in checks if not each.passed]
    yield f"Output {output!r}, {len(records)} of {len(run.comparison.asked)} inputs compared"
    if wrong:
        yield f"Outside a limit: {', '.join(each.metric for each in wrong)}"
    for metric, called in (
        ("largest_absolute_error", "Greatest absolute difference"),
        ("largest_relative_error", "Greatest relative difference"),
    ):
        if (found := _worst(records, metric)) is not None:
            yield f"{called}: {found}"
    for check in wrong:
        yield f"{check.metric}: {_figure(check)} ({_allowed(check)} allowed){_at(check)}"


def _worst(records: list[OutputComparison], metric: str) -> str | None:
    found = [(each.metrics[metric], each) for each in records if metric in each.metrics]
    if not found:
        return None
    value, record = max(found, key=lambda each: each[0])
    return f"{value:.9g} at input {record.input!r}, index {record.index.get(metric, ())}"


def _figure(check: Check) -> str:
    if check.worst is not None:
        return f"{check.worst:.9g}"
    return f"undefined, {check.undefined.why}" if check.undefined else "undefined"


def _allowed(check: Check) -> str:
    bounds = (("at least", check.limit.at_least), ("up to", check.limit.at_most))
    return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _at(check: Check) -> str:
    inputs = f" at {', '.join(map(repr, check.inputs))}" if check.inputs else ""
    return inputs + (f", index {check.index}" if check.index else "")


def _ran(run: DeviceRun) -> Iterator[str]:
    """What became of it on the device, and what its arithmetic must give."""
    result = run.result
    yield f"Run: {result.status}{f': {result.error}' if result.error else ''}"
    if (found := result.residency) is not None:
        yield f"Residency: {found.nodes_on_device} of {found.nodes_total} nodes in {found.partitions} partition(s)"
        yield from _some([f"  refused {each.op}: {each.reason}" for each in found.refusals])
    if run.expected is None:
        return
    ratios = [(each.ratio, each.input) for each in run.expected.outputs if each.ratio is not None]
    if ratios:
        ratio, name = max(ratios)
        yield f"Error over what {run.expected.profile.name} must give: {ratio:.4g} at {name!r}"
    if run.expected.overflow is not None:
        yield f"First overflow under {run.expected.profile.name}: {run.expected.overflow}"


def _some(lines: list[str]) -> list[str]:
    left = len(lines) - _MOST
    return lines if left <= 0 else [*lines[:_MOST], f"  ... and {left} more"]
