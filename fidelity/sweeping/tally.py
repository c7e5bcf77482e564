"""One device's rows, taken in one after the other: what is kept is worst cases, counts and sums, never the rows."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fidelity.comparison.comparison import Comparison, Failure, OutputComparison, SetComparison
from fidelity.comparison.metrics import METRICS, OUTPUT_METRICS
from fidelity.comparison.metrics.metric import OutputMetric, SetMetric, ThreeWayMetric
from fidelity.comparison.metrics.outcome import Measured, Outcome, Undefined
from fidelity.comparison.policy import Limit, Policy, fixed_limits
from fidelity.comparison.run_facts import RunFacts
from fidelity.sweeping.quantiles import Quantiles
from fidelity.sweeping.report import MetricSummary
from fidelity.sweeping.rows import ChunkRun, ImageRow, ImageRun
from fidelity.sweeping.spread import Spread

ALONE = (*OUTPUT_METRICS, "centred_correlation", "misplacement", "nearest_neighbour_regret")
"""What is measured of one image alone, beside the gallery at most."""

SHARES = (0.5, 0.9, 0.99, 0.999)
_EXAMPLES = 100  # failures of one kind whose images are named; all are counted


@dataclass
class _Column:
    """One metric over the stream."""

    total: float = 0.0
    count: int = 0
    undefined: int = 0
    worst: tuple[float, ImageRow, ImageRun] | None = None
    quantiles: Quantiles = field(default_factory=Quantiles)


@dataclass(frozen=True, order=True)
class Ranked:
    """A row by how bad it is: no figure at all before any error, then the error, then the first in number."""

    error: float
    earlier: int
    row: ImageRow = field(compare=False)


class Tally:
    """Rows of one device, in the plan's order."""

    def __init__(self, device: str, output: str, policy: Policy, keep: int) -> None:
        self.device = device
        self.seen = 0
        self.passed = self.kept = self.kept_of = self.distinct = self.repeated = 0
        self.failures: dict[str, int] = {}
        self.facts: RunFacts | None = None
        self.differing: str | None = None
        self._output, self._policy, self._keep = output, policy, keep
        self._columns = {name: _Column() for name in ALONE}
        self._spread: Spread | None = None
        self._examples: list[Failure] = []
        self._worst: list[Ranked] = []

    def take_chunk(self, run: ChunkRun) -> None:
        """How a chunk ran, before its rows."""
        if run.spread is not None:
            self._spread = run.spread if self._spread is None else self._spread.plus(run.spread)
        if run.facts is None:
            return
        if self.facts is None:
            self.facts = run.facts
            return
        if _apart(self.facts) != _apart(run.facts) and "ok" == self.facts.status == run.facts.status:
            self.differing = f"{_apart(self.facts)} and {_apart(run.facts)}"
        failed = self.facts if self.facts.status != "ok" else run.facts
        repeats = {**self.facts.deterministic, **run.facts.deterministic}
        different = {name: same for name, same in repeats.items() if same is False}
        self.facts = failed if failed.status != "ok" else self.facts
        self.facts = self.facts.model_copy(update={"deterministic": _few(different) or _few(repeats)})

    def take(self, row: ImageRow, distinct: bool, repeats: int) -> None:
        """One image that could be read. `distinct`: the first of its content; `repeats`: see repeated_outputs."""
        run = row.runs[self.device]
        self.seen += 1
        self.repeated += repeats
        for failure in run.failures:
            self.failures[failure.code] = self.failures.get(failure.code, 0) + 1
            if self.failures[failure.code] <= _EXAMPLES:
                self._examples.append(failure)
        for name, column in self._columns.items():
            _add(column, name, row, run, self._limits())
        if distinct:
            self.distinct += 1
            self.passed += self._passes(run)
            self.kept_of += run.kept is not None
            self.kept += run.kept is True
        error = run.metrics.get("relative_l2", math.inf)
        ranked = Ranked(math.inf if run.failures or math.isnan(error) else error, -row.number, row)
        heapq.heappush(self._worst, ranked)
        if len(self._worst) > self._keep:
            heapq.heappop(self._worst)

    def worst(self) -> list[Ranked]:
        """The worst rows, worst first."""
        return sorted(self._worst, reverse=True)

    def metrics(self) -> dict[str, MetricSummary]:
        """Every metric that some image has a figure for."""
        return {
            name: MetricSummary(
                mean=column.total / column.count,
                worst=column.worst[2].metrics.get(name, math.nan),
                at=column.worst[1].name,
                quantiles={f"{share:g}": column.quantiles.quantile(share) for share in SHARES},
                undefined=column.undefined,
            )
            for name, column in self._columns.items()
            if column.count and column.worst is not None
        }

    def comparison(self) -> Comparison:
        """What a verdict needs: for each metric its worst row, the set's figures, and examples of failures."""
        worst = {c.worst[1].number: c.worst[1:] for c in self._columns.values() if c.worst is not None}
        outputs = tuple(
            OutputComparison(
                input=row.name,
                output=self._output,
                metrics={name: run.metrics[name] for name in OUTPUT_METRICS if name in run.metrics},
                index={},
                undefined={name: why for name, why in run.undefined.items() if name in OUTPUT_METRICS},
            )
            for row, run in (worst[number] for number in sorted(worst))
            if "missing_input" not in {failure.code for failure in run.failures}
        )
        named = {record.input for record in outputs} | {f.input for f in self._examples if f.input is not None}
        return Comparison(
            asked=tuple(sorted(named)),
            photographs=(),
            outputs=outputs,
            sets=(self._set(),),
            failures=tuple(self._examples),
        )

    def _set(self) -> SetComparison:
        """The set's figures: worst over the stream of what the gallery tells, and what follows from sums."""
        nothing = Undefined(cause="too_few_inputs", why=f"{self.seen} images")
        outcomes: dict[str, Outcome] = {name: self._worst_outcome(name) for name in ALONE[len(OUTPUT_METRICS) :]}
        outcomes["input_dependence"] = self._spread.input_dependence() if self._spread else nothing
        outcomes["frozen_share"] = self._spread.frozen_share() if self._spread else nothing
        outcomes["repeated_outputs"] = Measured(float(self.repeated)) if self.seen > 1 else nothing
        measured = {name: found for name, found in outcomes.items() if isinstance(found, Measured)}
        return SetComparison(
            output=self._output,
            inputs=(),
            metrics={name: found.value for name, found in measured.items()},
            at={name: found.inputs for name, found in measured.items() if found.inputs},
            index={name: found.index for name, found in measured.items() if found.index},
            undefined={name: found for name, found in outcomes.items() if isinstance(found, Undefined)},
        )

    def _worst_outcome(self, name: str) -> Outcome:
        worst = self._columns[name].worst
        if worst is None:
            return Undefined(cause="empty", why="nothing was measured")
        _, row, run = worst
        if name in run.metrics:
            return Measured(run.metrics[name], inputs=(row.name,))
        found = run.undefined.get(name) or Undefined(cause="empty", why="the device gave nothing")
        return Undefined(cause=found.cause, why=f"{row.name}: {found.why}")

    def _limits(self) -> Mapping[str, Limit]:
        """The fixed limits of the kind of run that this is; none as long as nothing ran."""
        found = None if self.facts is None else self._policy.limits_of(self.facts.kind)
        return fixed_limits(found or {})

    def _passes(self, run: ImageRun) -> bool:
        """Whether an image keeps every limit that it can keep alone; where there are none, nothing passes."""
        limits = {name: limit for name, limit in self._limits().items() if name in ALONE}
        if run.failures or not limits or not set(limits) <= set(run.metrics):
            return False
        return all(limit.excess(run.metrics[name]) <= 0 for name, limit in limits.items())


def _add(column: _Column, name: str, row: ImageRow, run: ImageRun, limits: Mapping[str, Limit]) -> None:
    figure = run.metrics.get(name)
    if figure is None:
        column.undefined += 1
        column.quantiles.add(math.inf)
        badness = math.inf
    else:
        distance = _distance(METRICS[name], figure)
        column.quantiles.add(distance)
        column.total += figure
        column.count += 1
        badness = limits[name].excess(figure) if name in limits else distance
    if column.worst is None or badness > column.worst[0]:
        column.worst = (badness, row, run)


def _distance(metric: OutputMetric | SetMetric | ThreeWayMetric, figure: float) -> float:
    """How far a figure is from the ideal one, on the bad side."""
    scale = metric.scale
    if math.isnan(figure):
        return math.inf
    off = figure - scale.ideal
    return {"higher": max(-off, 0.0), "lower": max(off, 0.0), "nearer": abs(off)}[scale.better]


def _apart(facts: RunFacts) -> str:
    """What must be the same in every chunk of a run, in words."""
    r = facts.residency
    nodes = "residency not known" if r is None else f"{r.nodes_on_device} of {r.nodes_total} nodes in {r.partitions}"
    return f"{facts.kind}, {nodes}, model {facts.model_sha256_had[:16]}"


def _few(repeats: Mapping[str, bool | None]) -> dict[str, bool | None]:
    return dict(list(repeats.items())[:4])
