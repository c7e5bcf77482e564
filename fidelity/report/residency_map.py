"""Which part of the graph the device took and which it refused, along the graph, as far as the log tells.

A refusal names the kind of an operator, and mostly a tensor that it reads or writes: that one is
marked where it is. Without a tensor only the kind is known, and every operator of that kind is in
doubt. Of the rest nothing more is told than how many were taken, unless it was all or none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from fidelity.devices.job import Refusal, Residency
from fidelity.prediction.module_path import block_of
from fidelity.report.document import DeviceRun, GateReport, GraphOperator, tensor_digest

State = Literal["taken", "refused", "doubtful", "beside", "left"]
STATES: dict[State, str] = {
    "taken": "on the device",
    "refused": "refused, by name",
    "doubtful": "of a kind that was refused; the log does not say which",
    "beside": "not refused; the log does not say where it ran",
    "left": "on the CPU, as all",
}


@dataclass(frozen=True)
class Stretch:
    """Operators in a row with the same state: how many, and what they are."""

    state: State
    operators: int
    kinds: str


@dataclass(frozen=True)
class Row:
    """One stretch of a block in execution order: a block that is left and entered again has several rows."""

    block: str
    first: int
    stretches: tuple[Stretch, ...]

    @property
    def operators(self) -> int:
        """How many operators the row has."""
        return sum(stretch.operators for stretch in self.stretches)

    @property
    def told(self) -> str:
        """The row in words, for who cannot see it."""
        counts = Counter[str]()
        for stretch in self.stretches:
            counts[STATES[stretch.state]] += stretch.operators
        return f"{self.block}: " + ", ".join(f"{count} {state}" for state, count in counts.items())


@dataclass(frozen=True)
class Refused:
    """Refusals of one kind of operator for one reason, in all `count`. `tensors` are those that were named.

    `named` are the operators that a tensor tells, by their places; `doubtful` every other that may be meant,
    where some refusal of these named no tensor that the graph has.
    """

    op: str
    reason: str
    count: int
    tensors: tuple[str, ...]
    named: tuple[int, ...]
    doubtful: tuple[int, ...]


@dataclass(frozen=True)
class ResidencyMap:
    """The graph of one run. `widest` is the length of the longest row, `states` those that occur."""

    run: DeviceRun
    residency: Residency
    operators: tuple[GraphOperator, ...]
    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]

    @property
    def widest(self) -> int:
        """Operators in the longest row."""
        return max((row.operators for row in self.rows), default=1)

    @property
    def states(self) -> tuple[State, ...]:
        """The states that occur, in the order of the legend."""
        found = {stretch.state for row in self.rows for stretch in row.stretches}
        return tuple(state for state in STATES if state in found)


def residency_maps(report: GateReport) -> tuple[ResidencyMap, ...]:
    """A map of every run on a GPU whose residency is known; without operators where the report has none."""
    operators = {artefact.weights_dtype: artefact.operators for artefact in report.artefacts}
    return tuple(
        residency_map(run, run.result.residency, operators.get(run.weights_dtype, ()))
        for run in report.runs
        if run.judgement.kind.device == "gpu" and run.result.residency is not None
    )


def residency_map(run: DeviceRun, residency: Residency, operators: tuple[GraphOperator, ...]) -> ResidencyMap:
    """The operators in execution order, each with what the log says of it."""
    groups: dict[tuple[str, str], list[Refusal]] = {}
    for refusal in residency.refusals:
        groups.setdefault((refusal.op, refusal.reason), []).append(refusal)
    refused = tuple(_about(*key, group, operators) for key, group in groups.items())
    return ResidencyMap(run, residency, operators, _rows(operators, _states(residency, operators, refused)), refused)


def _about(op: str, reason: str, group: list[Refusal], operators: tuple[GraphOperator, ...]) -> Refused:
    """Those of its kind that read or write a tensor that was named; all of its kind for one that was not."""
    kind = [index for index, each in enumerate(operators) if each.kind == op]
    touched = {
        index: {operators[index].tensor, *(operators[read].tensor for read in operators[index].reads)} for index in kind
    }
    named: set[int] = set()
    unknown = False
    for refusal in group:
        digest = None if refusal.tensor is None else tensor_digest(refusal.tensor)
        found = {index for index in kind if digest in touched[index]}
        named |= found
        unknown |= not found
    return Refused(
        op=op,
        reason=reason,
        count=sum(refusal.count for refusal in group),
        tensors=tuple(dict.fromkeys(refusal.tensor for refusal in group if refusal.tensor is not None)),
        named=tuple(sorted(named)),
        doubtful=tuple(index for index in kind if index not in named) if unknown else (),
    )


def _states(
    residency: Residency, operators: tuple[GraphOperator, ...], refused: tuple[Refused, ...]
) -> tuple[State, ...]:
    rest: State = "beside"
    if residency.nodes_on_device == residency.nodes_total == len(operators):
        rest = "taken"
    elif residency.nodes_on_device == 0:
        rest = "left"
    states: list[State] = [rest] * len(operators)
    for index in (index for each in refused for index in each.doubtful):
        states[index] = "doubtful"
    for index in (index for each in refused for index in each.named):  # what is certain has the last word
        states[index] = "refused"
    return tuple(states)


def _rows(operators: tuple[GraphOperator, ...], states: tuple[State, ...]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for block, group in groupby(range(len(operators)), key=lambda index: _block(operators[index])):
        indices = list(group)
        stretches = []
        for state, part in groupby(indices, key=lambda index: states[index]):
            kinds = Counter(operators[index].kind for index in part)
            told = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds.items())
            stretches.append(Stretch(state, sum(kinds.values()), told))
        rows.append(Row(block, indices[0], tuple(stretches)))
    return tuple(rows)


def _block(operator: GraphOperator) -> str:
    return "(no module)" if operator.module is None else block_of(operator.module)
