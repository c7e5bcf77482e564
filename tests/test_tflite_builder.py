"""The smallest graph that fidelity.tflite.build makes, and the runtime's word for it."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from fidelity.tflite.build import GraphBuilder


def add_and_scale() -> bytes:
    """(x + [1, 2, 3]) * 0.5 on [2, 3]: the smallest model with constants, options and a signature."""
    graph = GraphBuilder()
    graph.tensor("x", (2, 3))
    graph.constant("shift", [1.0, 2.0, 3.0])
    graph.constant("half", 0.5)
    graph.tensor("sum", (2, 3))
    graph.tensor("y", (2, 3))
    graph.op("ADD", ["x", "shift"], "sum", schema.AddOptionsT())
    graph.op("MUL", ["sum", "half"], "y", schema.MulOptionsT())
    return graph.build(["x"], ["y"])


def test_the_runtime_runs_what_the_builder_makes() -> None:
    interpreter = Interpreter(model_content=add_and_scale())
    x = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], dtype=np.float32)
    result = interpreter.get_signature_runner("serving_default")(x=x)
    np.testing.assert_array_equal(result["y"], (x + np.float32([1, 2, 3])) * np.float32(0.5))
