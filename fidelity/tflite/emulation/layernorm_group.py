"""A LayerNorm spread over several operators, which a delegate may take for one."""

from __future__ import annotations

from dataclasses import dataclass

from fidelity.tflite.emulation.layout import keeps_its_place, moves_nothing, reduced_axes
from fidelity.tflite.structure import Graph, Operator, Subgraph


@dataclass(frozen=True)
class Norm:
    """A LayerNorm computed as one operation: the tensor that it reads, its eps, and the operators that
    make it up, the last of which gives the result."""

    source: int
    eps: int
    members: tuple[int, ...]


def norm_ending_with(graph: Graph, subgraph: Subgraph, last: Operator, static: frozenset[int]) -> Norm | None:
    """The LayerNorm whose last operator is `last`: MEAN, SUB, MUL of the difference with itself, MEAN, ADD of
    one constant, RSQRT, and this MUL; None when it is none, or when something else reads a part of it."""
    trail = _Trail(subgraph)
    makers = [trail.maker(index) for index in last.inputs]
    by_name = {op.name: op for op in makers if op is not None}
    difference, root = by_name.get("SUB"), by_name.get("RSQRT")
    if last.name != "MUL" or difference is None or root is None:
        return None
    shift = trail.maker(root.inputs[0], "ADD")
    variance = trail.maker(shift.inputs[0], "MEAN") if shift else None
    square = trail.maker(variance.inputs[0], "MUL") if variance else None
    mean = trail.maker(difference.inputs[1], "MEAN")
    if shift is None or variance is None or square is None or mean is None:
        return None
    members = (*trail.passed, mean, difference, square, variance, shift, root)
    fits = (
        square.inputs == (difference.outputs[0], difference.outputs[0])
        and mean.inputs[0] == difference.inputs[0]
        and shift.inputs[1] in static
        and subgraph.tensors[shift.inputs[1]].elements == 1
        and all(_over_last_axis(graph, subgraph, op) for op in (mean, variance))
        and subgraph.consumers[difference.outputs[0]] == (square, last)
        and all(len(subgraph.consumers[op.outputs[0]]) == 1 for op in members if op is not difference)
        and not any(op.outputs[0] in subgraph.outputs for op in members)
    )
    if not fits:
        return None
    return Norm(mean.inputs[0], shift.inputs[1], (*(op.index for op in members), last.index))


class _Trail:
    """Walks from tensors to their makers, past reshapes that move nothing, and remembers those."""

    def __init__(self, subgraph: Subgraph) -> None:
        self._subgraph = subgraph
        self.passed: list[Operator] = []

    def maker(self, tensor: int, name: str | None = None) -> Operator | None:
        """The operator that writes a tensor, if it is of that name."""
        op = self._subgraph.producers.get(tensor)
        while op is not None and moves_nothing(self._subgraph, op):
            self.passed.append(op)
            op = self._subgraph.producers.get(op.inputs[0])
        return op if op is not None and name in (None, op.name) else None


def _over_last_axis(graph: Graph, subgraph: Subgraph, op: Operator) -> bool:
    rank = subgraph.tensors[op.inputs[0]].rank
    return reduced_axes(graph, subgraph, op) == {rank - 1} and keeps_its_place(graph, subgraph, op)
