"""What precision a device really computes in, found by arithmetic: two products that tell.

A driver without fp16 computes fp32 whatever is asked, and says nothing. So a graph of one MUL is
run on the same device with the same options: 300 x 300 is 90,000 in fp32 and past the largest
number in fp16; (1 + 2^-12) x (1 + 2^-12) is 1 + 2^-11 rounded in fp32 and 1 in fp16.
"""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fidelity.devices.job import PrecisionHad

_LARGE, _FINE = 300.0, 1 + 2.0**-12
_FP16_LARGEST = 65504.0
INPUT = np.array([_LARGE, _FINE, 1.0, 2.0], dtype=np.float32).reshape(1, 1, 1, 4)


def probe_model() -> bytes:
    """A .tflite of one MUL of its float32 [1, 1, 1, 4] input with itself."""
    tensors = []
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = (
            name,
            [1, 1, 1, 4],
            schema.TensorType.FLOAT32,
            0,
        )
        tensors.append(tensor)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 0], [1]
    operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
    operator.builtinOptions = schema.MulOptionsT()
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", tensors, [operator]
    graph.inputs, graph.outputs = [0], [1]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MUL
    model = schema.ModelT()
    model.version, model.description = 3, "fidelity precision probe"
    model.subgraphs, model.operatorCodes, model.buffers = [graph], [code], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def precision_of(product: NDArray[np.float32]) -> PrecisionHad:
    """fp16 or fp32 by the probe's output; unknown when the two products disagree."""
    large, fine = (float(value) for value in product.reshape(-1)[:2])
    single = np.float32(_FINE) * np.float32(_FINE)
    if large == _LARGE * _LARGE and fine == float(single):
        return "fp32"
    if large in (np.inf, _FP16_LARGEST) and fine == 1.0:
        return "fp16"
    return "unknown"
