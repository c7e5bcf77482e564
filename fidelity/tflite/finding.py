"""One thing that a static audit found, and the shape of a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from fidelity.record import Record
from fidelity.tflite.structure import Graph, Operator, Subgraph, Tensor

Severity = Literal["refused", "warning"]
"""`refused`: the delegate leaves the operator to the CPU, so the graph is not resident. `warning`: it
is taken, but may be slow, differ between delegates or overflow in fp16."""


class AuditFinding(Record):
    """Where a rule matched. `operator` and `tensor` are the file's indices in `subgraph`; both are
    None for a finding about the file. `cure` names the rewrite that removes it, where there is one."""

    rule: str
    severity: Severity
    subgraph: int = 0
    operator: int | None = None
    operator_name: str | None = None
    tensor: int | None = None
    tensor_name: str | None = None
    reason: str
    cure: str | None = None


Rule = Callable[[Graph, Subgraph], Iterator[AuditFinding]]
"""A rule yields what it finds in one subgraph, in operator order."""


@dataclass(frozen=True)
class Place:
    """An operator and a tensor of a subgraph, either of which a finding may be without."""

    subgraph: Subgraph
    operator: Operator | None = None
    tensor: Tensor | None = None


def found(place: Place, rule: str, severity: Severity, reason: str, cure: str | None = None) -> AuditFinding:
    """A finding of a rule at a place."""
    operator, tensor = place.operator, place.tensor
    return AuditFinding(
        rule=rule,
        severity=severity,
        subgraph=place.subgraph.index,
        operator=operator.index if operator else None,
        operator_name=operator.name if operator else None,
        tensor=tensor.index if tensor else None,
        tensor_name=tensor.name if tensor else None,
        reason=reason,
        cure=cure,
    )
