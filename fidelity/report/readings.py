"""What each run measured at each input, side by side: the rows of tables, plots and JUnit cases.

The verdict looks at the worst of all inputs; a person asks which input that was, and how the others
did. Everything is read from the stored record; no figure is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fidelity.comparison.comparison import OutputComparison
from fidelity.comparison.metrics import OUTPUT_METRICS
from fidelity.comparison.policy import Limit, Policy
from fidelity.report.document import DeviceRun, GateReport

CORRELATION = "correlation"
RELATIVE_L2 = "relative_l2"
MISSING = "no figures for this input"


@dataclass(frozen=True)
class Reading:
    """One metric of one run at one input and output.

    `figure` is None when the metric is undefined there, `why` then says so. `failed`: outside the
    limit of the policy, or without a figure where there is a limit. `worst`: no other input of this
    run is worse.
    """

    input: str
    output: str
    figure: float | None
    why: str | None
    limit: Limit | None
    worst: bool

    @property
    def failed(self) -> bool:
        """True when this reading alone fails the run."""
        if self.limit is None:
            return self.figure is None
        return self.figure is None or not self.limit.excess(self.figure) <= 0


@dataclass(frozen=True)
class InputRow:
    """One input and output: for each run, in order, its readings by metric; None where it did not run."""

    input: str
    kind: str
    output: str
    cells: tuple[Mapping[str, Reading] | None, ...]


def limits_of(run: DeviceRun, policy: Policy) -> dict[str, Limit]:
    """The policy's limits for the kind of run that this was; none for a kind that it does not list."""
    return policy.limits_of(run.judgement.kind) or {}


def readings(run: DeviceRun, policy: Policy, metric: str) -> tuple[Reading, ...]:
    """One metric of one run at every input and output, in the record's order.

    An input that was asked for and was not compared comes last, without a figure (its output has no
    name): it is as bad as an undefined figure.
    """
    limit = limits_of(run, policy).get(metric)
    compared = run.comparison.outputs
    names = {record.input for record in compared}
    missing = [Reading(name, "", None, MISSING, limit, False) for name in run.comparison.asked if name not in names]
    found = [*(_reading(record, metric, limit) for record in compared), *missing]
    badness = [_badness(reading, metric) for reading in found]
    worst = badness.index(max(badness)) if badness else None
    return tuple(replace(reading, worst=index == worst) for index, reading in enumerate(found))


def worst_reading(run: DeviceRun, policy: Policy, metric: str) -> Reading | None:
    """The worst reading of one metric; None when nothing was even asked for."""
    return next((reading for reading in readings(run, policy, metric) if reading.worst), None)


def _reading(record: OutputComparison, metric: str, limit: Limit | None) -> Reading:
    undefined = record.undefined.get(metric)
    figure = record.metrics.get(metric)
    why = f"{undefined.cause}: {undefined.why}" if undefined else "not measured"
    return Reading(record.input, record.output, figure, why if figure is None else None, limit, worst=False)


def _badness(reading: Reading, metric: str) -> tuple[float, float]:
    """An order of readings by how bad they are: no figure, then farthest outside the limit or ideal."""
    if reading.figure is None or math.isnan(reading.figure):
        return (math.inf, 0.0)
    away = abs(reading.figure - OUTPUT_METRICS[metric].scale.ideal)
    return (away if reading.limit is None else reading.limit.excess(reading.figure), away)


def input_rows(report: GateReport) -> tuple[InputRow, ...]:
    """Every input of the subject in its order, then any other that a run brought in.

    An input that no run was asked for still has its row, with empty cells.
    """
    kinds: dict[str, str] = {item.name: item.kind for item in report.subject.inputs}
    tables = [_by_place(run, report.policy) for run in report.runs]
    places = {place: None for table in tables for place in table}
    others = {name for name, _ in places} - set(kinds)
    rows = []
    for name in (*kinds, *sorted(others)):
        for output in [o for n, o in places if n == name and o] or [""]:
            cells = tuple(table.get((name, output)) or table.get((name, "")) for table in tables)
            rows.append(InputRow(name, kinds.get(name, "unknown input"), output, cells))
    return tuple(rows)


def _by_place(run: DeviceRun, policy: Policy) -> dict[tuple[str, str], dict[str, Reading]]:
    table: dict[tuple[str, str], dict[str, Reading]] = {}
    for metric in (CORRELATION, RELATIVE_L2):
        for reading in readings(run, policy, metric):
            table.setdefault((reading.input, reading.output), {})[metric] = reading
    return table


def input_failures(run: DeviceRun, policy: Policy, name: str) -> tuple[str, ...]:
    """Every reason, in a line, why this run fails at this one input; none when it does not.

    Limits on a whole set of inputs are the run's, not an input's.
    """
    lines = [f"{f.code}: {f.message}" for f in run.comparison.failures if f.input == name]
    records = [record for record in run.comparison.outputs if record.input == name]
    if not records:
        lines.append(f"not_compared: {MISSING}")
    for record in records:
        for metric, limit in limits_of(run, policy).items():
            if metric in OUTPUT_METRICS:
                reading = _reading(record, metric, limit)
                lines += [_failure(metric, reading)] if reading.failed else []
    if any(o.deterministic is False for o in run.result.outputs if o.input == name):
        lines.append("not_deterministic: two runs of this input differ")
    return tuple(lines)


def _failure(metric: str, reading: Reading) -> str:
    got = f"is {reading.figure:.9g}" if reading.figure is not None else f"is undefined ({reading.why})"
    return f"{metric} of {reading.output!r} {got}, limit {reading.limit}"
