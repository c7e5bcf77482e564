"""Models that no other test needs: two signatures, no input at all, every dtype, a long product."""

from __future__ import annotations

import sys
from pathlib import Path

import flatbuffers
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_tflite_builder import GraphBuilder, schema

TERMS = 4096
COMMON = ("float32", "float16", "int8", "uint8", "int32", "bool")
SELDOM = ("float64", "int16", "uint16", "uint32", "int64", "uint64")


def two_signatures() -> bytes:
    """`double` gives x + x, `square` x * x: two subgraphs, each under a name of its own."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 1, 1, 4))
    graph.tensor("y", (1, 1, 1, 4))
    graph.op("ADD", ["x", "x"], "y", schema.AddOptionsT())
    graph.op("MUL", ["x", "x"], "y", schema.MulOptionsT())
    content = graph.build(["x"], ["y"], key="double")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    other = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (double,), (square,) = model.subgraphs, other.subgraphs
    double.operators, square.operators = double.operators[:1], square.operators[1:]
    square.name = b"square"
    other.signatureDefs[0].signatureKey, other.signatureDefs[0].subgraphIndex = "square", 1
    model.subgraphs, model.signatureDefs = [double, square], [*model.signatureDefs, *other.signatureDefs]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def no_input() -> bytes:
    """1 + [0, 1, 2, 3]."""
    graph = GraphBuilder()
    graph.constant("a", np.arange(4).reshape(1, 1, 1, 4))
    graph.constant("b", np.ones((1, 1, 1, 4)))
    graph.tensor("y", (1, 1, 1, 4))
    graph.op("ADD", ["a", "b"], "y", schema.AddOptionsT())
    return graph.build([], ["y"])


def turned(dtypes: tuple[str, ...]) -> bytes:
    """[2, 3] of each of these dtypes in the shape [3, 2]: `to_int8` from `from_int8`, and so on."""
    graph = GraphBuilder()
    graph.constant("shape", [3, 2], "int32")
    for dtype in dtypes:
        graph.tensor(f"from_{dtype}", (2, 3), dtype.upper())
        graph.tensor(f"to_{dtype}", (3, 2), dtype.upper())
        graph.op("RESHAPE", [f"from_{dtype}", "shape"], f"to_{dtype}", schema.ReshapeOptionsT())
    return graph.build([f"from_{dtype}" for dtype in dtypes], [f"to_{dtype}" for dtype in dtypes])


def long_product(weights: np.ndarray) -> bytes:
    """x [1, 4096] times weights [8, 4096] turned."""
    graph = GraphBuilder()
    graph.tensor("x", (1, TERMS))
    graph.tensor("y", (1, 8))
    graph.constant("w", weights)
    graph.op("FULLY_CONNECTED", ["x", "w", ""], "y", schema.FullyConnectedOptionsT())
    return graph.build(["x"], ["y"])


def of_every_kind(generator: np.random.Generator) -> tuple[bytes, dict[str, np.ndarray]]:
    """A small graph with a product, a reduction, a softmax and movement, and an input: what must be the same bits."""
    graph = GraphBuilder()
    x = generator.standard_normal((1, 1, 24, 40)).astype(np.float16).astype(np.float32)
    graph.tensor("x", x.shape)
    graph.constant("w", generator.standard_normal((56, 40)))
    graph.constant("bias", generator.standard_normal(56))
    graph.constant("last", [3], "int32")
    graph.constant("order", [0, 2, 1, 3], "int32")
    made = {"product": (1, 1, 24, 56), "gelu": (1, 1, 24, 56), "mean": (1, 1, 24, 1), "shares": (1, 1, 24, 56)}
    for name, shape in {**made, "y": (1, 24, 1, 56)}.items():
        graph.tensor(name, shape)
    connected, reduced, softmax = schema.FullyConnectedOptionsT(), schema.ReducerOptionsT(), schema.SoftmaxOptionsT()
    connected.keepNumDims = reduced.keepDims = True
    softmax.beta = 1.0
    graph.op("FULLY_CONNECTED", ["x", "w", "bias"], "product", connected)
    graph.op("GELU", ["product"], "gelu", schema.GeluOptionsT())
    graph.op("MEAN", ["gelu", "last"], "mean", reduced)
    graph.op("SOFTMAX", ["gelu"], "shares", softmax)
    graph.op("TRANSPOSE", ["product", "order"], "y", schema.TransposeOptionsT())
    return graph.build(["x"], ["mean", "shares", "y"]), {"x": x}


EVERY_KIND = of_every_kind(np.random.Generator(np.random.Philox()))
"""Drawn once a session: what determinism and the comparison of executors are tried on."""
