"""How the delegate stores a tensor: always as batch, height, width and channels, so that some reshapes move nothing."""

from __future__ import annotations

from fidelity.tflite.structure import Graph, Operator, Subgraph


def layout(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Batch, height, width and channels of a shape of at most four axes; a longer one is refused anyway."""
    if len(shape) > 4 or not shape:
        return shape or (1, 1, 1, 1)
    if len(shape) == 1:
        return (1, 1, 1, *shape)
    return (shape[0], *(1,) * (4 - len(shape)), *shape[1:])


def moves_nothing(subgraph: Subgraph, op: Operator) -> bool:
    """A RESHAPE between shapes that are stored alike."""
    if op.name != "RESHAPE":
        return False
    before, after = op.inputs[0], op.outputs[0]
    return layout(subgraph.tensors[before].shape) == layout(subgraph.tensors[after].shape)


def reduced_axes(graph: Graph, subgraph: Subgraph, op: Operator) -> frozenset[int]:
    """The axes that a reduction sums over, counted from the first; none where they are not constant."""
    axes, rank = subgraph.tensors[op.inputs[1]], subgraph.tensors[op.inputs[0]].rank
    if not axes.is_constant or rank == 0:
        return frozenset()
    return frozenset(int(axis) % rank for axis in graph.constant(axes).reshape(-1).tolist())


def keeps_its_place(graph: Graph, subgraph: Subgraph, op: Operator) -> bool:
    """Whether a reduction's result is stored as if it kept its dimensions: else a reshape follows it."""
    if op.options.get("keep_dims"):
        return True
    before, after = subgraph.tensors[op.inputs[0]].shape, subgraph.tensors[op.outputs[0]].shape
    axes = reduced_axes(graph, subgraph, op)
    return layout(tuple(1 if axis in axes else size for axis, size in enumerate(before))) == layout(after)
