"""Which operators stand between the tensors that a device shows: the finest that its results can be told by."""

from __future__ import annotations

from collections.abc import Container, Sequence

from fidelity.tflite.structure import Graph


def sources(graph: Graph, tensor: int, shown: Container[int]) -> tuple[set[int], tuple[int, ...]]:
    """The shown tensors and inputs that a tensor is computed from, through those that are not shown, and the operators
    between, in execution order: its own last. What is computed from constants alone is left out."""
    found: set[int] = set()
    members: set[int] = set()
    open_ones = [tensor]
    while open_ones:
        producer = graph.main.producers[open_ones.pop()]
        if producer.index in members:
            continue
        members.add(producer.index)
        for index in producer.inputs:
            if index not in graph.live:
                continue
            if index in shown or index not in graph.main.producers:
                found.add(index)
            else:
                open_ones.append(index)
    return found, tuple(sorted(members))


def with_static(graph: Graph, operators: Sequence[int]) -> tuple[int, ...]:
    """The operators with those that make their constants (a DEQUANTIZE of weights): what is to be cut out together."""
    found = set(operators)
    open_ones = [index for op in operators for index in graph.main.operators[op].inputs]
    while open_ones:
        index = open_ones.pop()
        producer = graph.main.producers.get(index)
        if producer is not None and index not in graph.live and producer.index not in found:
            found.add(producer.index)
            open_ones += producer.inputs
    return tuple(sorted(found))
