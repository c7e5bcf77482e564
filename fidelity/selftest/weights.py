"""Faults of an artefact's weights, and clean ones: their bits are held against the model's before anything runs."""

from __future__ import annotations

from fidelity.gating.weights import rewritten_weights
from fidelity.rewrites.contract import Rewrite
from fidelity.selftest.graphs import PlantedGraph
from fidelity.selftest.records import FaultRow, Localised, Seen, fault_row
from fidelity.selftest.specimen import Specimen
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Graph
from fidelity.tflite.weights import ConstantOrigin, audit_weights


def altered(graph: Graph, specimen: Specimen, rewrites: tuple[Rewrite, ...]) -> tuple[ConstantOrigin, ...]:
    """The constants that are a weight of the model with other bits."""
    audit = audit_weights(graph, rewritten_weights(specimen.subject, rewrites))
    return tuple(each for each in audit.unexplained if each.altered)


def weights_row(specimen: Specimen, rewrites: tuple[Rewrite, ...], found: PlantedGraph) -> FaultRow:
    """A fault that moves the output less than fp16 does: its bits tell."""
    graph = read_graph(found.path)
    wrong = altered(graph, specimen, rewrites)
    seen = [
        Seen(
            check="altered_weight",
            severity="fail",
            metric="distance",
            worst=each.distance,
            limit="at most 0",
            message=each.told(),
        )
        for each in wrong
    ]
    operators = graph.main.operators
    blamed = sorted({reader for each in wrong for reader in each.operators})
    exact = [graph.main.tensors[index].name for op in blamed for index in operators[op].outputs] == [found.site]
    where = ", ".join(f"op {op} {operators[op].name}" for op in blamed)
    located = Localised(kind="weights", where=where, exact=exact) if wrong else None
    return fault_row(found.fault, "artefact", None, found.operator, seen, located)
