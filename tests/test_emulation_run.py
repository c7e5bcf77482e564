"""A graph's run: what is converted where it enters and leaves, what is given, what is named and refused.

A conversion is seen in one number that it moves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_emulation_operations import PLAIN, V, one, ready, result
from test_tflite_emulation import options

from fidelity.arithmetic.float16 import IEEE, Conversion
from fidelity.arithmetic.observe import Observer, Part
from fidelity.errors import BadInput
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulated, Emulator
from fidelity.tflite.structure import Operator

Single = NDArray[np.float32]
TRUNCATED = Conversion("toward_zero", "saturate")


def test_inputs_constants_and_outputs_are_converted_each_as_the_profile_says(tmp_path: Path) -> None:
    """Of x + c: x alone is truncated to 1, c alone rounded to 1, or their sum is rounded."""
    x = np.full((1, 4), 1 + 2.0**-11 + 2.0**-12, np.float32)
    c = np.float32(1 + 2.0**-12)
    graph = one("ADD", {"x": x}, (1, 4), options("Add"), (("float32", c),))
    for changed, expected in (
        ({}, 2 + 2.0**-10),
        ({"inputs": TRUNCATED}, 2 + 2.0**-12),
        ({"weights": IEEE}, 2 + 2.0**-11 + 2.0**-12),
        ({"outputs": IEEE}, 2.0),
    ):
        got = result(graph, {"x": x}, tmp_path, PLAIN.model_copy(update=changed))
        assert got.dtype == np.float32
        assert (got == np.float32(expected)).all()


def test_integers_are_not_converted(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (1, 3), "INT32")
    graph.op("RESHAPE", ["x"], graph.tensor("y", (3, 1), "INT32"), options("Reshape", newShape=[3, 1]))
    every = PLAIN.model_copy(update={"inputs": IEEE, "outputs": IEEE, "weights": IEEE})
    got = ready(graph, ["x"], ["y"], tmp_path, every).run({"x": np.int32([[1, 2**30 + 1, -5]])}).outputs["y"]
    assert got.dtype == np.int32
    assert got.tolist() == [[1], [2**30 + 1], [-5]]


def test_two_outputs_are_named_and_what_needs_them_is_unreached(tmp_path: Path) -> None:
    graph = one("ABS", {"x": V}, V.shape)
    graph.tensor("second", V.shape)
    graph.operators[0].outputs = [graph.names["y"], graph.names["second"]]
    graph.op("NEG", ["second"], graph.tensor("z", V.shape))
    graph.op("NEG", ["z"], graph.tensor("last", V.shape))
    got = ready(graph, ["x"], ["last"], tmp_path, PLAIN).run({"x": V})
    assert [each.reason for each in got.missing] == ["ABS with 2 outputs"]
    assert got.unreached == (1, 2)


def test_weights_of_another_type_are_named(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (1, 2))
    graph.constant("w8", [[1, 2], [3, 4]], "int8")
    graph.op("DEQUANTIZE", ["w8"], graph.tensor("w", (2, 2)), options("Dequantize"))
    graph.op("FULLY_CONNECTED", ["x", "w"], graph.tensor("y", (1, 2)), options("FullyConnected"))
    got = ready(graph, ["x"], ["y"], tmp_path, PLAIN).run({"x": np.ones((1, 2), np.float32)})
    assert [(each.name, each.reason) for each in got.missing] == [("FULLY_CONNECTED", "DEQUANTIZE of int8")]


def test_float16_constants_are_widened_and_no_step_of_their_own(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (1, 2))
    graph.constant("c16", [[0.1, np.inf]], "float16")
    graph.op("DEQUANTIZE", ["c16"], graph.tensor("c", (1, 2)), options("Dequantize"))
    graph.op("MINIMUM", ["x", "c"], graph.tensor("y", (1, 2)), options("MaximumMinimum"))
    got: Emulated = ready(graph, ["x"], ["y"], tmp_path, PLAIN).run({"x": np.full((1, 2), 9e4, np.float32)})
    assert got.outputs["y"].tolist() == [[float(np.float16(0.1)), 90000.0]]
    assert not got.missing


def chain(folder: Path, outputs: list[str]) -> Emulator:
    """|x|, and less it, and |x| plus that."""
    graph = GraphBuilder()
    graph.tensor("x", V.shape)
    graph.op("ABS", ["x"], graph.tensor("a", V.shape))
    graph.op("NEG", ["a"], graph.tensor("b", V.shape))
    graph.op("ADD", ["a", "b"], graph.tensor("c", V.shape), options("Add"))
    return ready(graph, ["x"], outputs, folder, PLAIN)


def test_an_output_that_is_read_on_the_way_is_still_given(tmp_path: Path) -> None:
    got = chain(tmp_path, ["c", "a"]).run({"x": V}).outputs
    assert np.array_equal(got["a"], np.abs(V))
    assert not got["c"].any()


def test_a_watch_sees_every_result_by_its_operator(tmp_path: Path) -> None:
    seen: dict[tuple[int, Part], Single] = {}

    def watch(op: Operator) -> Observer:
        def observe(part: Part, values: Single) -> None:
            seen[op.index, part] = values.copy()

        return observe

    chain(tmp_path, ["c"]).run({"x": V}, watch)
    assert [np.array_equal(seen[index, "result"], value) for index, value in enumerate((np.abs(V), -np.abs(V)))] == [
        True,
        True,
    ]


def test_an_input_of_another_dtype_or_with_an_infinity_is_refused(tmp_path: Path) -> None:
    emulator = chain(tmp_path, ["c"])
    for value in (np.nan, np.inf, -np.inf):
        x = V.copy()
        x[1, 2, 3] = value
        with pytest.raises(BadInput, match="'x' holds NaN or Inf"):
            emulator.run({"x": x})
    with pytest.raises(BadInput, match="'x' is float16"):
        emulator.run({"x": V.astype(np.float16)})
