"""The static audit: what a GPU delegate will refuse or may get wrong, told from the file alone.

It needs no device, so it is the first thing to look at; the last word on residency is the runtime's.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Self

from pydantic import model_validator

from fidelity.record import Record
from fidelity.tflite.finding import AuditFinding, Rule
from fidelity.tflite.graph import Graph, read_graph
from fidelity.tflite.rules.attention import constant_products, gathers
from fidelity.tflite.rules.operators import custom_operators, missing_kernels
from fidelity.tflite.rules.tensors import dynamic_shapes, high_ranks, oversized_buffers, refused_dtypes
from fidelity.tflite.rules.variance import unscaled_squares

__all__ = ["RULES", "AuditFinding", "AuditReport", "audit", "audit_graph"]

RULES: tuple[Rule, ...] = (
    custom_operators,
    missing_kernels,
    high_ranks,
    refused_dtypes,
    dynamic_shapes,
    oversized_buffers,
    gathers,
    constant_products,
    unscaled_squares,
)


class AuditReport(Record):
    """What the audit of one file says. `passed`: nothing found that the delegate refuses.

    `census` counts operators by name; `counts` counts findings by rule. Both, and `passed`, follow
    from the rest and are checked when a stored report is read back.
    """

    artefact: str
    file_size: int
    nodes: int
    tensors: int
    census: dict[str, int]
    findings: tuple[AuditFinding, ...]
    counts: dict[str, int]
    passed: bool

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.nodes != sum(self.census.values()):
            raise ValueError("nodes is not the sum of the census")
        if self.counts != count_by_rule(self.findings):
            raise ValueError("counts do not fit the findings")
        if self.passed != (not any(f.severity == "refused" for f in self.findings)):
            raise ValueError("passed does not fit the findings")
        return self

    def refused(self) -> tuple[AuditFinding, ...]:
        """The findings for which the delegate refuses an operator."""
        return tuple(f for f in self.findings if f.severity == "refused")

    def cures(self) -> tuple[str, ...]:
        """The rewrites that findings ask for, sorted by name."""
        return tuple(sorted({f.cure for f in self.findings if f.cure}))


def audit(path: Path) -> AuditReport:
    """The audit of the .tflite file at `path`. Raises BadInput when it cannot be read."""
    return audit_graph(read_graph(path))


def audit_graph(graph: Graph) -> AuditReport:
    """The audit of a graph that was read; the artefact is named by its file name alone."""
    findings = tuple(finding for subgraph in graph.subgraphs for rule in RULES for finding in rule(graph, subgraph))
    census = graph.census()
    return AuditReport(
        artefact=graph.path.name,
        file_size=graph.size,
        nodes=sum(census.values()),
        tensors=sum(len(subgraph.tensors) for subgraph in graph.subgraphs),
        census=census,
        findings=findings,
        counts=count_by_rule(findings),
        passed=not any(finding.severity == "refused" for finding in findings),
    )


def count_by_rule(findings: tuple[AuditFinding, ...]) -> dict[str, int]:
    """How many findings each rule has, sorted by rule; rules without one are left out."""
    return dict(sorted(Counter(finding.rule for finding in findings).items()))
