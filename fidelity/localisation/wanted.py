"""What a wrong tensor of an artefact should have been: the value of PyTorch's that stands where it stands.

A node that no tensor of the artefact has, that is of the wrong tensor's size and comes from the values of what the
tensor comes from, is what was converted wrongly: the first such one. Where there is none, the converter has put an
operator too many, and the value is that of the right tensor before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fidelity.localisation.counterparts import Counterparts, Node
from fidelity.localisation.groups import sources
from fidelity.localisation.on_device import Array
from fidelity.tflite.structure import Graph

if TYPE_CHECKING:
    from fidelity.localisation.reference import Reference

_NEAR = 3
"""How many operators on from the culprit: as far as a repro pack's piece reaches."""


def wanted_values(
    graph: Graph, culprit: int, known: Counterparts, reference: Reference, inputs: Mapping[str, Array]
) -> dict[int, Array]:
    """PyTorch's float64 values of the culprit's tensor and of those computed from it next, in the tensors' shapes."""
    wrong = _downstream(graph, culprit, known)
    nodes = {tensor: _node(graph, tensor, known) for tensor in wrong}
    values = _fetched({node for node in nodes.values() if node is not None}, reference, inputs, graph)
    found: dict[int, Array] = {}
    for tensor, node in nodes.items():
        shape = graph.main.tensors[tensor].shape
        if node is not None:
            found[tensor] = values[node].reshape(shape)
        elif (before := _same_size(graph, tensor, known)) is not None:
            found[tensor] = known.values[before].reshape(shape)
    return found


def _downstream(graph: Graph, culprit: int, known: Counterparts) -> list[int]:
    found, level = [culprit], [culprit]
    for _ in range(_NEAR):
        level = [
            out
            for index in level
            for reader in graph.main.consumers[index]
            for out in reader.outputs
            if out not in found and out not in known.values
        ]
        found += level
    return list(dict.fromkeys(found))


def _node(graph: Graph, tensor: int, known: Counterparts) -> int | None:
    """The first node of PyTorch's that no tensor has, of this size and from these sources."""
    taken = {each.node for index in known.values for each in known.of(index)}
    origins = [{each.node for each in known.of(index)} for index in _right_sources(graph, tensor, known)]
    size = graph.main.tensors[tensor].elements
    for each in known.activations:
        if each.node in taken or each.size != size:
            continue
        if origins and all(any(each.ancestors >> node & 1 for node in nodes) for nodes in origins):
            return each.node
    return None


def _same_size(graph: Graph, tensor: int, known: Counterparts) -> int | None:
    size = graph.main.tensors[tensor].elements
    return next((i for i in _right_sources(graph, tensor, known) if graph.main.tensors[i].elements == size), None)


def _right_sources(graph: Graph, tensor: int, known: Counterparts) -> list[int]:
    found, _ = sources(graph, tensor, known.values)
    return [index for index in sorted(found) if known.of(index)]


def _fetched(nodes: set[int], reference: Reference, inputs: Mapping[str, Array], graph: Graph) -> dict[int, Array]:
    """The values of these nodes, computed once more: not all of them are kept the first time."""
    from fidelity.localisation.torch_nodes import visit_nodes  # noqa: PLC0415 - torch is an extra

    found: dict[int, Array] = {}
    if not nodes or reference.tower is None:
        return found

    def see(node: Node) -> None:
        if node.index in nodes:
            found[node.index] = np.asarray(node.value)

    visit_nodes(reference.tower, inputs, tuple(name for name, _ in graph.signature().outputs), frozenset(), see)
    return found
