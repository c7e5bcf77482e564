"""Small files for `fidelity judge`: several inputs and outputs, several signatures, dynamic shapes, integers."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from test_emulation_integers import convolution, versioned
from test_emulation_operations import drawn
from test_tflite_emulation import options

from fidelity.tflite.build import GraphBuilder, signature_def


def unsigned(data: bytes) -> bytes:
    """The file without its signatures, as old ones are."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    model.signatureDefs = None
    return packed(model)


def packed(model: object) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")  # type: ignore[attr-defined]
    return bytes(builder.Output())


def mixed() -> bytes:
    """x [-1, 4] and y [4] float, flag [4] bool, n [3] int64 -> float of few numbers, of many, int64, a probability."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 4), signature=(-1, 4))
    graph.tensor("y", (4,))
    graph.tensor("flag", (4,), "BOOL")
    graph.tensor("n", (3,), "INT64")
    graph.constant("w", drawn(1, 40, 4))
    graph.op("ADD", ["x", "y"], graph.tensor("few", (1, 4), signature=(-1, 4)), options("Add"))
    made = options("FullyConnected", fusedActivationFunction=0, keepNumDims=False)
    graph.op("FULLY_CONNECTED", ["few", "w"], graph.tensor("many", (1, 40), signature=(-1, 40)), made)
    graph.op("LOGISTIC", ["many"], graph.tensor("likely", (1, 40), signature=(-1, 40)))
    graph.op("LOGICAL_NOT", ["flag"], graph.tensor("not", (4,), "BOOL"))
    graph.op("CONCATENATION", ["n", "n"], graph.tensor("twice", (6,), "INT64"), options("Concatenation", axis=0))
    return graph.build(["x", "y", "flag", "n"], ["few", "many", "likely", "not", "twice"])


def image(dtype: str = "FLOAT32") -> bytes:
    """[1, 16, 20, 3] through a convolution by depth and a mean."""
    graph = GraphBuilder()
    graph.tensor("image", (1, 16, 20, 3), dtype)
    graph.constant("w", drawn(2, 1, 3, 3, 24))
    graph.constant("b", drawn(3, 24))  # XNNPACK's convolution by depth dies without one (ai-edge-litert 2.3.0)
    graph.constant("axes", [1, 2], "int32")
    made = options("DepthwiseConv2D", padding=0, strideH=2, strideW=2, depthMultiplier=8, dilationHFactor=1,
                   dilationWFactor=1)  # fmt: skip
    graph.op("DEPTHWISE_CONV_2D", ["image", "w", "b"], graph.tensor("c", (1, 8, 10, 24)), made)
    graph.op("MEAN", ["c", "axes"], graph.tensor("y", (1, 24)), options("Reducer"))
    return graph.build(["image"], ["c", "y"])


def integers() -> bytes:
    """int8 convolution, pool, DEQUANTIZE: an int8 output and a float one in steps."""
    return versioned(convolution().build(["x"], ["c", "y"]), 3)


def two_entries() -> bytes:
    """Signatures `double` and `halve`, each with a subgraph of its own."""
    models = []
    for factor in (2.0, 0.5):
        graph = GraphBuilder()
        graph.tensor("x", (1, 32))
        graph.constant("by", factor)
        graph.op("MUL", ["x", "by"], graph.tensor("y", (1, 32)), options("Mul"))
        models.append(schema.ModelT.InitFromObj(schema.Model.GetRootAs(graph.build(["x"], ["y"]), 0)))
    first, second = models
    shift = len(first.buffers)
    for tensor in second.subgraphs[0].tensors:
        tensor.buffer = tensor.buffer + shift if tensor.buffer else 0
    first.buffers += second.buffers
    first.subgraphs += second.subgraphs
    entries = [signature_def(key, {"x": 0}, {"y": 2}) for key in ("double", "halve")]
    entries[1].subgraphIndex = 1
    first.signatureDefs = entries
    return packed(first)


def custom() -> bytes:
    """An operator that is its author's own."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 4))
    graph.op("CUSTOM", ["x"], graph.tensor("y", (1, 4)), custom="TheirOwn")
    return graph.build(["x"], ["y"])


def overflowing() -> bytes:
    """exp(200 x): infinite in float32 for half of the numbers."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 32))
    graph.constant("by", np.float32(200))
    graph.op("MUL", ["x", "by"], graph.tensor("z", (1, 32)), options("Mul"))
    graph.op("EXP", ["z"], graph.tensor("y", (1, 32)), options("Exp"))
    return graph.build(["x"], ["y"])
