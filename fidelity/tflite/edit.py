"""Edit a .tflite file: show intermediate tensors as further outputs, or cut a piece out that runs alone.

Operators, options and weights stay the file's own bytes; only what the new file's outputs need is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fidelity.errors import BadInput
from fidelity.tflite.build import signature_def
from fidelity.tflite.structure import Graph, Subgraph

KEY = "serving_default"
TAP = "tap_"
"""A shown tensor's name in the signature begins with it; its index in the whole graph follows."""

_LARGEST = (1 << 31) - (1 << 20)
_CONTROL = frozenset(["IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE"])


def with_taps(graph: Graph, tensors: Sequence[int], signature: str | None = None) -> bytes:
    """The whole graph with these tensors as further outputs, named `tap_<index>`; the outputs come first.

    Raises BadInput for a tensor that no operator writes, or that is an output already.
    """
    entry = graph.signature(signature)
    subgraph = graph.subgraphs[entry.subgraph]
    for index in tensors:
        if index not in subgraph.producers or index in {at for _, at in entry.outputs}:
            raise BadInput(f"{graph.path}: tensor {index} cannot be shown: nothing computes it, or it is an output")
    model = _unpacked(graph)
    taps = {f"{TAP}{index}": index for index in dict.fromkeys(tensors)}
    return _written(model, entry.subgraph, dict(entry.inputs), {**dict(entry.outputs), **taps})


def alone(graph: Graph, signature: str, shapes: Mapping[int, tuple[int, ...]]) -> bytes:
    """One entry point as a file of its own, under the signature KEY, every tensor with its shape of `shapes`.

    Raises BadInput where an operator runs other subgraphs, and for a shape of another rank or a negative size.
    """
    entry = graph.signature(signature)
    model = _unpacked(graph)
    for index, tensor in enumerate(model.subgraphs[entry.subgraph].tensors):
        stored = graph.subgraphs[entry.subgraph].tensors[index]
        if index in shapes and not stored.is_constant:
            if any(not 0 <= size < 1 << 31 for size in shapes[index]):
                raise BadInput(f"{graph.path}: tensor {index} cannot have the shape {list(shapes[index])}")
            tensor.shape, tensor.shapeSignature = list(shapes[index]), None
    return _written(model, entry.subgraph, dict(entry.inputs), dict(entry.outputs))


def prefix(graph: Graph, tensor: int, signature: str | None = None) -> bytes:
    """What computes one tensor from the graph's own inputs, with that tensor as the only output.

    Inputs that it does not need are left out. Raises BadInput for a tensor that no operator writes.
    """
    entry = graph.signature(signature)
    subgraph = graph.subgraphs[entry.subgraph]
    operators = needed(subgraph, [tensor])
    if not operators:
        raise BadInput(f"{graph.path}: tensor {tensor} is written by no operator")
    read = {index for op in operators for index in subgraph.operators[op].inputs}
    inputs = {name: index for name, index in entry.inputs if index in read}
    return _written(_unpacked(graph), entry.subgraph, inputs, {f"{TAP}{tensor}": tensor}, operators)


def cut(graph: Graph, operators: Iterable[int], signature: str | None = None) -> bytes:
    """These operators alone: what others gave them are inputs `tap_<index>`, what others read of them outputs.

    Raises BadInput when there is none.
    """
    entry = graph.signature(signature)
    subgraph = graph.subgraphs[entry.subgraph]
    chosen = sorted(set(operators))
    if not chosen or chosen[-1] >= len(subgraph.operators) or chosen[0] < 0:
        raise BadInput(f"{graph.path}: operators {chosen[:5]}: the graph has {len(subgraph.operators)}, from 0 on")
    inputs, outputs = borders(subgraph, chosen)
    named = {f"{TAP}{index}": index for index in inputs}
    return _written(
        _unpacked(graph), entry.subgraph, named, {f"{TAP}{index}": index for index in outputs}, frozenset(chosen)
    )


def borders(subgraph: Subgraph, operators: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tensors that a piece reads and does not write, constants apart; those of its own that are read elsewhere."""
    inside = set(operators)
    written = {index for op in operators for index in subgraph.operators[op].outputs}
    read = dict.fromkeys(index for op in operators for index in subgraph.operators[op].inputs if index >= 0)
    inputs = tuple(index for index in read if index not in written and not subgraph.tensors[index].is_constant)
    outputs = tuple(
        index
        for op in operators
        for index in subgraph.operators[op].outputs
        if index in subgraph.outputs or any(reader.index not in inside for reader in subgraph.consumers[index])
    )
    return inputs, outputs


def needed(subgraph: Subgraph, tensors: Iterable[int]) -> frozenset[int]:
    """The operators that these tensors depend on."""
    found: set[int] = set()
    open_ones = list(tensors)
    while open_ones:
        producer = subgraph.producers.get(open_ones.pop())
        if producer is not None and producer.index not in found:
            found.add(producer.index)
            open_ones += [index for index in producer.inputs if index >= 0]
    return frozenset(found)


def _unpacked(graph: Graph) -> Any:
    """The file as the schema's objects, with the weights that lie behind the flatbuffer moved into it."""
    control = {op.name for subgraph in graph.subgraphs for op in subgraph.operators} & _CONTROL
    if control:
        raise BadInput(f"{graph.path}: {min(control)} runs other subgraphs: it cannot be edited")
    if graph.size > _LARGEST:
        raise BadInput(f"{graph.path}: {graph.size >> 20} MiB: a flatbuffer that is written again has at most 2 GiB")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(graph.data, 0))
    for buffer, stored in zip(model.buffers, graph.buffers, strict=True):
        if stored.outside:
            buffer.data = np.frombuffer(graph.data, np.uint8, stored.size, stored.offset)
        buffer.offset = buffer.size = 0
    return model


def _written(
    model: Any,
    subgraph_index: int,
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
    operators: frozenset[int] | None = None,
) -> bytes:
    """The file of one subgraph with this signature, without the tensors, buffers and codes that nothing uses."""
    subgraph = model.subgraphs[subgraph_index]
    if operators is not None:
        subgraph.operators = [op for index, op in enumerate(subgraph.operators) if index in operators]
    moved = _without_unused(model, subgraph, {*inputs.values(), *outputs.values()})
    model.subgraphs, model.metadata, model.metadataBuffer = [subgraph], None, None
    inputs, outputs = ({name: moved[index] for name, index in each.items()} for each in (inputs, outputs))
    subgraph.inputs, subgraph.outputs = list(inputs.values()), list(outputs.values())
    model.signatureDefs = [signature_def(KEY, inputs, outputs)]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _without_unused(model: Any, subgraph: Any, also: set[int]) -> dict[int, int]:
    """Keep the tensors that operators use and those of `also`, with their buffers; new indices by old ones."""
    used = also | {int(index) for op in subgraph.operators for index in (*op.inputs, *op.outputs) if index >= 0}
    moved = {old: new for new, old in enumerate(sorted(used))} | {-1: -1}
    subgraph.tensors = [subgraph.tensors[old] for old in sorted(used)]
    for op in subgraph.operators:
        op.inputs, op.outputs = ([moved[int(index)] for index in each] for each in (op.inputs, op.outputs))
        op.intermediates = None
    buffers = sorted({0} | {tensor.buffer for tensor in subgraph.tensors})
    places = {old: new for new, old in enumerate(buffers)}
    for tensor in subgraph.tensors:
        tensor.buffer = places[tensor.buffer]
    model.buffers = [model.buffers[old] for old in buffers]
    codes = sorted({op.opcodeIndex for op in subgraph.operators})
    model.operatorCodes = [model.operatorCodes[old] for old in codes]
    for op in subgraph.operators:
        op.opcodeIndex = codes.index(op.opcodeIndex)
    return moved
