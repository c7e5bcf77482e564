"""Read a .tflite file into a Graph, on the runtime's own schema, without copying its weights.

The file is untrusted: whatever is wrong with it, the caller gets BadInput in one line. What is
returned is consistent: every index is in range, every buffer lies in the file, a constant's bytes
fit its shape, and no operator reads what nothing before it wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from fidelity.errors import BadInput
from fidelity.tflite.flatbuffer import MALFORMED, Budget, map_file
from fidelity.tflite.options import enum_names, operator_options
from fidelity.tflite.structure import Buffer, Graph, Operator, Quantization, Signature, Subgraph, Tensor
from fidelity.tflite.wiring import check_operators, check_signature, check_tensor

__all__ = ["Buffer", "Graph", "Operator", "Quantization", "Signature", "Subgraph", "Tensor", "read_graph"]

_CUSTOM = "CUSTOM"


def read_graph(path: Path) -> Graph:
    """The graph stored at `path`. Raises BadInput when it is not a whole, consistent .tflite file."""
    data = map_file(path)
    try:
        return _graph(path, data, schema.Model.GetRootAs(data, 0), Budget())
    except MALFORMED as error:
        reason = " ".join(str(error).split())[:160]
        raise BadInput(f"{path}: damaged or truncated .tflite file: {reason}") from error


def _graph(path: Path, data: memoryview, model: Any, budget: Budget) -> Graph:
    buffers = tuple(
        _buffer(index, entry, len(data))
        for index, entry in enumerate(budget.tables(model.BuffersLength(), model.Buffers))
    )
    codes = tuple(
        _operator_code(code, budget) for code in budget.tables(model.OperatorCodesLength(), model.OperatorCodes)
    )
    subgraphs = tuple(
        _subgraph(index, entry, buffers, codes, budget)
        for index, entry in enumerate(budget.tables(model.SubgraphsLength(), model.Subgraphs))
    )
    if not subgraphs:
        raise ValueError("it has no subgraph")
    signatures = tuple(
        _signature(entry, subgraphs, budget)
        for entry in budget.tables(model.SignatureDefsLength(), model.SignatureDefs)
    )
    return Graph(
        path=path,
        size=len(data),
        version=model.Version(),
        description=budget.text(model.Description()),
        subgraphs=subgraphs,
        buffers=buffers,
        signatures=signatures,
        data=data,
    )


def _buffer(index: int, entry: Any, file_size: int) -> Buffer:
    """One buffer, within the file. As in the runtime, offset and size above 1 mean data outside."""
    if entry.Offset() > 1 and entry.Size() > 1:
        buffer = Buffer(index, entry.Offset(), entry.Size(), outside=True)
    elif entry.DataLength() > 0:
        # the generated class gives the bytes but not where they lie; 4 is the vtable slot of `data`
        buffer = Buffer(index, entry._tab.Vector(entry._tab.Offset(4)), entry.DataLength())
    else:
        return Buffer(index, 0, 0)
    if buffer.offset + buffer.size > file_size:
        raise ValueError(f"buffer {index} is {buffer.size} bytes at {buffer.offset}, the file has {file_size} bytes")
    return buffer


def _operator_code(code: Any, budget: Budget) -> tuple[str, int, bool]:
    """Name, version and whether it is custom. Old writers fill the 8-bit field, new ones the 32-bit one."""
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    name = enum_names("BuiltinOperator").get(number, f"BUILTIN_{number}")
    if name == _CUSTOM:
        return budget.text(code.CustomCode()) or "unnamed custom op", code.Version(), True
    return name, code.Version(), False


def _subgraph(
    index: int,
    entry: Any,
    buffers: tuple[Buffer, ...],
    codes: tuple[tuple[str, int, bool], ...],
    budget: Budget,
) -> Subgraph:
    tensors = tuple(
        _tensor(number, tensor, buffers, budget)
        for number, tensor in enumerate(budget.tables(entry.TensorsLength(), entry.Tensors))
    )
    operators = tuple(
        _operator(number, op, codes, budget)
        for number, op in enumerate(budget.tables(entry.OperatorsLength(), entry.Operators))
    )
    subgraph = Subgraph(
        index=index,
        name=budget.text(entry.Name()),
        tensors=tensors,
        operators=operators,
        inputs=budget.numbers(entry.InputsAsNumpy()),
        outputs=budget.numbers(entry.OutputsAsNumpy()),
    )
    check_operators(subgraph)
    return subgraph


def _tensor(index: int, entry: Any, buffers: tuple[Buffer, ...], budget: Budget) -> Tensor:
    shape = budget.numbers(entry.ShapeAsNumpy())
    buffer = buffers[entry.Buffer()]
    external = entry.ExternalBuffer() != 0
    number = entry.Type()
    tensor = Tensor(
        index=index,
        name=budget.text(entry.Name()),
        shape=shape,
        shape_signature=budget.numbers(entry.ShapeSignatureAsNumpy()) or shape,
        dtype=enum_names("TensorType").get(number, f"type_{number}").lower(),
        buffer=buffer,
        is_constant=(buffer.size > 0 or external) and not entry.IsVariable(),
        is_variable=entry.IsVariable(),
        external=external,
        encoded=entry.Sparsity() is not None,
        quantization=_quantization(entry.Quantization(), shape, budget),
    )
    check_tensor(tensor)
    return tensor


def _quantization(entry: Any, shape: tuple[int, ...], budget: Budget) -> Quantization | None:
    """Scales and zero points, checked to fit the shape; None for a tensor without any."""
    if entry is None or entry.ScaleLength() == 0:
        return None
    scale, zero = budget.numbers(entry.ScaleAsNumpy()), budget.numbers(entry.ZeroPointAsNumpy())
    axis = entry.QuantizedDimension()
    zero = tuple(int(each) for each in zero) or (0,) * len(scale)
    one_a_slice = 0 <= axis < len(shape) and len(scale) == shape[axis]
    if len(zero) not in (1, len(scale)) or not (len(scale) == 1 or one_a_slice):
        raise ValueError(f"{len(scale)} scales and {len(zero)} zero points along axis {axis} of {list(shape)}")
    if any(not 0 <= each < float("inf") for each in scale):
        raise ValueError(f"a quantisation scale of {min(scale)}")
    return Quantization(scale, zero if len(zero) == len(scale) else zero * len(scale), axis)


def _operator(index: int, entry: Any, codes: tuple[tuple[str, int, bool], ...], budget: Budget) -> Operator:
    name, version, is_custom = codes[entry.OpcodeIndex()]
    return Operator(
        index=index,
        name=name,
        version=version,
        inputs=budget.numbers(entry.InputsAsNumpy()),
        outputs=budget.numbers(entry.OutputsAsNumpy()),
        is_custom=is_custom,
        options=operator_options(entry, budget),
    )


def _signature(entry: Any, subgraphs: tuple[Subgraph, ...], budget: Budget) -> Signature:
    signature = Signature(
        key=budget.text(entry.SignatureKey()),
        subgraph=entry.SubgraphIndex(),
        inputs=tuple(
            (budget.text(item.Name()), item.TensorIndex()) for item in budget.tables(entry.InputsLength(), entry.Inputs)
        ),
        outputs=tuple(
            (budget.text(item.Name()), item.TensorIndex())
            for item in budget.tables(entry.OutputsLength(), entry.Outputs)
        ),
    )
    check_signature(signature, subgraphs)
    return signature
