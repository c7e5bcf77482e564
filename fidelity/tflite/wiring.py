"""What must hold between the parts of a graph before anything may walk it.

Each check raises ValueError with the reason; the reader adds the file and turns it into BadInput.
The runtime demands the same, in places by crashing.
"""

from __future__ import annotations

from fidelity.tflite.structure import Signature, Subgraph, Tensor


def check_tensor(tensor: Tensor) -> None:
    """Shapes are not negative, the signature has the shape's rank, a constant has its bytes."""
    who = f"tensor {tensor.index} {tensor.name[:80]!r}"
    if any(size < 0 for size in tensor.shape):
        raise ValueError(f"{who} has the shape {list(tensor.shape)}")
    if len(tensor.shape_signature) != tensor.rank:
        raise ValueError(f"{who} has rank {tensor.rank} and a shape signature of rank {len(tensor.shape_signature)}")
    stored = tensor.is_constant and not tensor.external and not tensor.encoded
    if stored and tensor.nbytes is not None and tensor.nbytes != tensor.buffer.size:
        raise ValueError(
            f"{who} of shape {list(tensor.shape)} and type {tensor.dtype} needs {tensor.nbytes} bytes, "
            f"its buffer has {tensor.buffer.size}"
        )


def check_operators(subgraph: Subgraph) -> None:
    """Indices are in range; each tensor is written once, by nothing if it is an input or a constant,
    and before it is read."""
    count = len(subgraph.tensors)
    known = {t.index for t in subgraph.tensors if t.is_constant or t.is_variable or t.elements == 0}
    known |= {_in_range(index, count, f"input of subgraph {subgraph.index}") for index in subgraph.inputs}
    for op in subgraph.operators:
        who = f"operator {op.index} {op.name[:80]}"
        for index in op.inputs:
            if index != -1 and _in_range(index, count, f"input of {who}") not in known:
                raise ValueError(f"{who} reads tensor {index}, which nothing before it writes")
        for index in op.outputs:
            if _in_range(index, count, f"output of {who}") in known and subgraph.tensors[index].elements:
                raise ValueError(f"{who} writes tensor {index}, which has a value already")
            known.add(index)
    for index in subgraph.outputs:
        if _in_range(index, count, f"output of subgraph {subgraph.index}") not in known:
            raise ValueError(f"output tensor {index} of subgraph {subgraph.index} is never written")


def check_signature(signature: Signature, subgraphs: tuple[Subgraph, ...]) -> None:
    """The subgraph and the tensors that a signature names exist."""
    who = f"signature {signature.key[:80]!r}"
    if signature.subgraph >= len(subgraphs):
        raise ValueError(f"{who} names subgraph {signature.subgraph} of {len(subgraphs)}")
    count = len(subgraphs[signature.subgraph].tensors)
    for name, index in signature.inputs + signature.outputs:
        _in_range(index, count, f"{name[:80]!r} of {who}")


def _in_range(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise ValueError(f"{what} is tensor {index}, of {count}")
    return index
