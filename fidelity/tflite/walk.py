"""Walks over a subgraph that more than one rule needs."""

from __future__ import annotations

from fidelity.tflite.structure import Subgraph


def static_tensors(subgraph: Subgraph) -> frozenset[int]:
    """Tensors whose value no input can change: constants, and what is computed from them alone."""
    static = {tensor.index for tensor in subgraph.tensors if tensor.is_constant}
    for op in subgraph.operators:  # in execution order, as the reader has checked
        used = [index for index in op.inputs if index >= 0]
        if used and all(index in static for index in used):
            static.update(op.outputs)
    return frozenset(static)


def ancestors(subgraph: Subgraph, tensor: int, limit: int) -> frozenset[str]:
    """Names of the operators that lead to a tensor, at most `limit` of them, nearest first."""
    names: list[str] = []
    pending, seen = [tensor], {tensor}
    while pending and len(names) < limit:
        op = subgraph.producers.get(pending.pop(0))
        if op is None:
            continue
        names.append(op.name)
        fresh = [index for index in op.inputs if index >= 0 and index not in seen]
        seen.update(fresh)
        pending.extend(fresh)
    return frozenset(names)
