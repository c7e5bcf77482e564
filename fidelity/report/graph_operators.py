"""The operators of a file as a report keeps them: kind, module, tensor and what each reads, in execution order."""

from __future__ import annotations

from fidelity.prediction.module_path import module_path
from fidelity.report.document import GraphOperator, tensor_digest
from fidelity.tflite.structure import Graph, Operator


def graph_operators(graph: Graph) -> tuple[GraphOperator, ...]:
    """The operators of the main graph, which is the one that a delegate takes."""
    return tuple(_kept(graph, operator) for operator in graph.main.operators)


def _kept(graph: Graph, operator: Operator) -> GraphOperator:
    written = graph.main.output(operator)
    name = "" if written is None else written.name
    producers = graph.main.producers
    read = {producers[index].index for index in operator.inputs if index in producers}
    return GraphOperator(
        kind=operator.name, module=module_path(name), tensor=tensor_digest(name), reads=tuple(sorted(read))
    )
