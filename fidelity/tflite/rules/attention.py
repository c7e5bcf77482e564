"""Forms that attention lowers to and a GPU delegate refuses: rank 5, gathers, constant products.

What cures a tensor of rank 5 is told from the group of such tensors that it belongs to, connected
by operators: interleaved RoPE stacks pairs (a CONCATENATION), fused qkv splits off an axis of 3 and
slices it, a fused kv one of 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fidelity.tflite.finding import AuditFinding, Place, found
from fidelity.tflite.structure import Graph, Operator, Subgraph
from fidelity.tflite.walk import static_tensors

_CURE_BY_SPLIT = {3: "split_qkv", 2: "pool_one_query"}
_SPLIT_AXIS = -3  # [..., parts, heads, head width]
_PICKS = frozenset(["SLICE", "STRIDED_SLICE", "GATHER", "UNPACK", "SPLIT"])
_MOST_STRIDES = 64  # a strides tensor with more is no strides tensor


def cure_of_high_ranks(subgraph: Subgraph, max_rank: int) -> Mapping[int, str]:
    """The rewrite that removes each tensor above `max_rank`, by tensor; none where no form is known."""
    cures: dict[int, str] = {}
    high = {t.index for t in subgraph.tensors if t.rank > max_rank and not t.is_constant}
    for operators in _connected(subgraph, high):
        touched = {index for op in operators for index in (*op.inputs, *op.outputs) if index in high}
        cure = _cure(subgraph, operators, touched)
        if cure:
            cures.update(dict.fromkeys(touched, cure))
    return cures


def _cure(subgraph: Subgraph, operators: list[Operator], high: set[int]) -> str | None:
    shapes = [subgraph.tensors[i].shape for op in operators for i in op.outputs if i in high]
    stacked = [op for op in operators if op.name == "CONCATENATION" and high & {*op.outputs[:1]}]
    if any(subgraph.tensors[op.outputs[0]].shape[-1] == 2 for op in stacked):
        return "rotate_half"
    if shapes and not stacked and any(op.name in _PICKS for op in operators):
        return _CURE_BY_SPLIT.get(shapes[0][_SPLIT_AXIS])
    return None


def _connected(subgraph: Subgraph, tensors: set[int]) -> Iterator[list[Operator]]:
    """The operators that touch these tensors, in groups that share one; each group in execution order."""
    leader = {index: index for index in tensors}

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]  # halves the path, so that later walks are short
            index = leader[index]
        return index

    touching = [[i for i in (*op.inputs, *op.outputs) if i in tensors] for op in subgraph.operators]
    for found_here in touching:
        for other in found_here[1:]:
            leader[find(other)] = find(found_here[0])
    groups: dict[int, list[Operator]] = {}
    for op, found_here in zip(subgraph.operators, touching, strict=True):
        if found_here:
            groups.setdefault(find(found_here[0]), []).append(op)
    yield from groups.values()


def gathers(graph: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """GATHER and GATHER_ND, and STRIDED_SLICE with a stride, which is how `x[..., ::2]` lowers."""
    for op in subgraph.operators:
        place = Place(subgraph, op, subgraph.output(op))
        cure = "rotate_half" if _halves(subgraph, op) else None
        if op.name in ("GATHER", "GATHER_ND"):
            reason = f"{op.name} of runtime values is refused by the GPU delegate of phones"
            yield found(place, "gather", "refused", reason, cure)
        elif op.name == "STRIDED_SLICE":
            strides = _strides(graph, subgraph, op)
            if any(stride < 0 for stride in strides):
                reason = f"strides {list(strides)} run backwards, which the GPU delegate refuses"
                yield found(place, "strided_slice", "refused", reason)
            elif any(stride != 1 for stride in strides):
                reason = (
                    f"strides {list(strides)} skip elements: a gather by another name, taken by "
                    "some GPU delegates (ML Drift on WebGPU) and refused by others"
                )
                yield found(place, "strided_slice", "warning", reason, cure)


def _halves(subgraph: Subgraph, op: Operator) -> bool:
    """True for taking every other element of the last axis: what interleaved RoPE does."""
    source, output = subgraph.input(op, 0), subgraph.output(op)
    if source is None or output is None or not source.rank or source.rank != output.rank:
        return False
    return source.shape[:-1] == output.shape[:-1] and source.shape[-1] == 2 * output.shape[-1]


def _strides(graph: Graph, subgraph: Subgraph, op: Operator) -> tuple[int, ...]:
    tensor = subgraph.input(op, 3)
    if tensor is None or not tensor.is_constant or tensor.elements > _MOST_STRIDES:
        return ()
    return tuple(int(v) for v in graph.constant(tensor).reshape(-1).tolist())


def constant_products(_: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """BATCH_MATMUL with one constant operand; the other is computed at run time."""
    static = static_tensors(subgraph)
    for op in subgraph.operators:
        if op.name != "BATCH_MATMUL" or len(op.inputs) < 2 or min(op.inputs[:2]) < 0:
            continue
        left, right = (index in static for index in op.inputs[:2])
        if left == right:
            continue
        tensor = subgraph.tensors[op.inputs[0 if left else 1]]
        place = Place(subgraph, op, tensor)
        if left:
            rows = tensor.shape[-1 if op.options.get("adj_x") else -2] if tensor.rank >= 2 else 0
            reason = f"constant {list(tensor.shape)} times runtime values is refused by the GPU delegate"
            yield found(place, "constant_matmul", "refused", reason, "pool_one_query" if rows == 1 else None)
        else:
            reason = (
                f"runtime values times constant {list(tensor.shape)}: taken by some GPU delegates, "
                "computed wrongly by others; a constant right side belongs in FULLY_CONNECTED"
            )
            yield found(place, "constant_matmul", "warning", reason)
