"""Quantised operators: emulated in real numbers and rounded to steps, against LiteRT's integer reference kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from test_emulation_operations import PLAIN, drawn
from test_tflite_emulation import MEASURED, options

from fidelity.arithmetic.profile import load_profile
from fidelity.models.counter_random import uniform_integers
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.emulation.stored_integers import to_reals, to_stored
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Quantization

Array = NDArray[Any]


def quantised(graph: GraphBuilder, name: str, scale: list[float], zero: list[int], axis: int = 0) -> None:
    """Give a tensor of the builder its scales and zero points."""
    how = schema.QuantizationParametersT()
    how.scale, how.zeroPoint, how.quantizedDimension = scale, zero, axis
    graph.tensors[graph.names[name]].quantization = how


def integers(name: str, shape: tuple[int, ...], dtype: str = "int8") -> Array:
    words = uniform_integers(0, name, int(np.prod(shape)))
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return ((words >> np.uint64(33)).astype(np.int64) % (high - low + 1) + low).astype(dtype).reshape(shape)


def convolution(dtype: str = "int8") -> GraphBuilder:
    """x -> CONV_2D with one scale a filter -> MAX_POOL_2D -> DEQUANTIZE."""
    graph, zero = GraphBuilder(), 3 if dtype == "int8" else 131
    graph.tensor("x", (1, 6, 7, 3), dtype.upper())
    quantised(graph, "x", [0.02], [zero])
    graph.constant("w", np.clip(integers("w", (4, 3, 3, 3)), -127, 127), "int8")
    quantised(graph, "w", [0.01, 0.02, 0.005, 0.015], [0] * 4)
    graph.constant("b", (drawn(2, 4) * 500).astype(np.int32), "int32")
    quantised(graph, "b", [0.02 * s for s in (0.01, 0.02, 0.005, 0.015)], [0] * 4)
    graph.tensor("c", (1, 6, 7, 4), dtype.upper())
    quantised(graph, "c", [0.09], [-5 if dtype == "int8" else 122])
    made = options("Conv2D", padding=0, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    graph.op("CONV_2D", ["x", "w", "b"], "c", made)
    graph.tensor("p", (1, 3, 3, 4), dtype.upper())
    quantised(graph, "p", [0.09], [-5 if dtype == "int8" else 122])
    made = options("Pool2D", padding=1, strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    graph.op("MAX_POOL_2D", ["c"], "p", made)
    graph.op("DEQUANTIZE", ["p"], graph.tensor("y", (1, 3, 3, 4)), options("Dequantize"))
    return graph


def versioned(data: bytes, version: int) -> bytes:
    """The file with every operator at a version that knows int8."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for code in model.operatorCodes:
        code.version = version
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def both(data: bytes, inputs: dict[str, Array], folder: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    path = folder / "graph.tflite"
    path.write_bytes(data)
    interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    expected = interpreter.get_signature_runner("serving_default")(**inputs)
    got = Emulator(read_graph(path), PLAIN).run(inputs)
    assert not got.missing
    return got.outputs, expected


def test_a_quantised_convolution_is_at_most_a_step_off_and_seldom(tmp_path: Path) -> None:
    x = integers("x", (1, 6, 7, 3))
    data = versioned(convolution().build(["x"], ["c", "y"]), 3)
    got, expected = both(data, {"x": x}, tmp_path)
    assert got["c"].dtype == np.int8
    apart = np.abs(got["c"].astype(int) - expected["c"].astype(int))
    assert apart.max() <= 1
    assert np.mean(apart) <= 0.06
    assert np.abs(got["y"] - expected["y"]).max() <= np.float32(0.09) * np.float32(1.0001)
    assert len(np.unique(expected["c"])) > 50  # neither clamped nor constant


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_stored_integers_come_back_as_they_were(dtype: str) -> None:
    how = Quantization((0.037,), (0 if dtype == "int16" else 7,))
    every = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    assert np.array_equal(to_stored(to_reals(every, how), how, dtype), every)


def test_halves_go_away_from_zero_and_what_does_not_fit_is_clamped() -> None:
    how = Quantization((0.5,), (0,))
    reals = np.array([0.25, -0.25, 0.75, 0.24, 1e6, -1e6], np.float32)
    assert to_stored(reals, how, "int8").tolist() == [1, -1, 2, 0, 127, -128]


def test_one_scale_a_slice_lies_along_its_axis() -> None:
    how = Quantization((1.0, 10.0), (0, 1), axis=1)
    assert to_reals(np.ones((2, 2), np.int8), how).tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_quantised_tensors_are_not_predictable_under_a_measured_profile(tmp_path: Path) -> None:
    path = tmp_path / "graph.tflite"
    path.write_bytes(convolution().build(["x"], ["y"]))
    got = Emulator(read_graph(path), load_profile(MEASURED)).run({"x": integers("x", (1, 6, 7, 3))})
    assert got.missing[0].reason == f"quantised tensors under {MEASURED}"
    assert not got.outputs


def test_weights_of_integers_under_float_activations_are_their_reals(tmp_path: Path) -> None:
    graph, w = GraphBuilder(), integers("hybrid", (5, 8))
    graph.tensor("x", (3, 8))
    graph.constant("w", w, "int8")
    quantised(graph, "w", [0.01], [0])
    graph.op("FULLY_CONNECTED", ["x", "w"], graph.tensor("y", (3, 5)), options("FullyConnected"))
    path = tmp_path / "graph.tflite"
    path.write_bytes(graph.build(["x"], ["y"]))
    x = drawn(4, 3, 8)
    got = Emulator(read_graph(path), PLAIN).run({"x": x}).outputs["y"]
    np.testing.assert_allclose(got, x.astype(np.float64) @ (w.T * 0.01), atol=8 * 4 * 1.3 * 2.0**-22)
