"""Which operators a delegate takes for one LayerNorm: the seven of it, and none that something else reads.

What is taken in is not computed by itself, so a graph taken for a norm wrongly loses a tensor, or is another function.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_emulation_absorption import NORM, ROW, WIDE, Op, ready, run
from test_tflite_emulation import MEASURED, options

from fidelity.arithmetic.profile import load_profile
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph


def test_the_eps_of_a_norm_stays_float32(tmp_path: Path) -> None:
    """1e-8 is zero in float16, and a constant row would be NaN."""
    x = np.full(WIDE, 2, np.float32)
    assert (run(ready(tmp_path, NORM, ["s"]), x)["s"] == 0).all()


@pytest.mark.parametrize(
    ("place", "op", "outputs"),
    [
        (0, ("MEAN", ["y", "axis"], "m", ROW), ["s"]),
        (3, ("MEAN", ["q", "axis1"], "v", (1, 1, 8, 16)), ["s"]),
        (4, ("ADD", ["v", "r"], "t", ROW), ["s"]),
        (4, ("ADD", ["v", "each"], "t", WIDE), ["s"]),
        (None, ("EXP", ["c"], "e", WIDE), ["s", "e"]),
        (None, ("EXP", ["m"], "e", ROW), ["s", "e"]),
        (None, ("EXP", ["i"], "e", ROW), ["s", "e"]),
        (None, None, ["s", "c"]),
        (None, None, ["s", "v"]),
    ],
)
def test_a_norm_whose_parts_are_read_or_differ_is_no_norm(
    place: int | None, op: Op | None, outputs: list[str], tmp_path: Path
) -> None:
    ops = [*NORM, op] if place is None and op is not None else list(NORM)
    if place is not None and op is not None:
        ops[place] = op
    if place == 3:
        ops[4:6] = [("ADD", ["v", "eps"], "t", (1, 1, 8, 16)), ("RSQRT", ["t"], "i", (1, 1, 8, 16))]
    if op is not None and op[1] == ["v", "each"]:
        ops[5] = ("RSQRT", ["t"], "i", WIDE)
    emulator = ready(tmp_path, ops, outputs)
    assert len(emulator.steps) == len(ops)
    assert all(step.norm is None for step in emulator.steps)


FLAT, FLAT_ROW = (4, 16), (4, 1)


def flat_norm(folder: Path, outputs: list[str]) -> Emulator:
    """A LayerNorm of [4, 16] whose mean goes through [4, 1, 1, 1] and back, which is stored alike."""
    graph = GraphBuilder()
    graph.tensor("x", FLAT)
    graph.constant("axis", [1], "int32")
    graph.constant("shape", [4, 1, 1, 1], "int32")
    graph.constant("back", [4, 1], "int32")
    graph.constant("eps", 1e-5)
    reducer, reshape = options("Reducer", keepDims=True), options("Reshape")
    runtime = [graph.tensor("eps_given", (1,))] if "eps_given" in outputs else []
    outputs = [name for name in outputs if name not in runtime]
    graph.op("MEAN", ["x", "axis"], graph.tensor("m", FLAT_ROW), reducer)
    graph.op("RESHAPE", ["m", "shape"], graph.tensor("m4", (4, 1, 1, 1)), reshape)
    graph.op("RESHAPE", ["m4", "back"], graph.tensor("m2", FLAT_ROW), reshape)
    graph.op("SUB", ["x", "m2"], graph.tensor("c", FLAT), options("Sub"))
    graph.op("MUL", ["c", "c"], graph.tensor("q", FLAT), options("Mul"))
    graph.op("MEAN", ["q", "axis"], graph.tensor("v", FLAT_ROW), reducer)
    graph.op("ADD", ["v", *(runtime or ["eps"])], graph.tensor("t", FLAT_ROW), options("Add"))
    graph.op("RSQRT", ["t"], graph.tensor("i", FLAT_ROW))
    graph.op("MUL", ["c", "i"], graph.tensor("s", FLAT), options("Mul"))
    if "e" in outputs:
        graph.op("EXP", ["m4"], graph.tensor("e", (4, 1, 1, 1)))
    if "f" in outputs:
        graph.op("EXP", ["m2"], graph.tensor("f", FLAT_ROW))
    path = folder / "graph.tflite"
    path.write_bytes(graph.build(["x", *runtime], outputs))
    return Emulator(read_graph(path), load_profile(MEASURED))


def test_an_eps_that_is_an_input_makes_no_norm(tmp_path: Path) -> None:
    assert len(flat_norm(tmp_path, ["s", "eps_given"]).steps) == 9


@pytest.mark.parametrize(
    ("outputs", "steps"),
    [(["s"], 1), (["s", "m"], 9), (["s", "m4"], 9), (["s", "m2"], 9), (["s", "e"], 10), (["s", "f"], 10)],
)
def test_reshapes_that_move_nothing_belong_to_a_norm_unless_read_past(
    outputs: list[str], steps: int, tmp_path: Path
) -> None:
    emulator = flat_norm(tmp_path, outputs)
    assert len(emulator.steps) == steps
    x = np.random.Generator(np.random.Philox(4)).standard_normal(FLAT).astype(np.float32)
    wide = x.astype(np.float16).astype(np.float64)
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    got = emulator.run({"x": x})
    np.testing.assert_allclose(got.outputs["s"], expected, rtol=2.0**-8, atol=2.0**-10)
    assert list(got.outputs) == outputs


@pytest.mark.parametrize("dropped", [(True, True), (True, False), (False, True)])
def test_means_of_rows_that_are_subtracted_from_columns_are_no_norm(dropped: tuple[bool, bool], tmp_path: Path) -> None:
    """[8, 8] has eight means, which without their axis belong to the columns."""
    graph = GraphBuilder()
    graph.tensor("x", (8, 8))
    graph.constant("axis", [1], "int32")
    graph.constant("eps", 1e-5)
    first, second = ((8,) if drop else (8, 1) for drop in dropped)
    mean = [options("Reducer", keepDims=not drop) for drop in dropped]
    graph.op("MEAN", ["x", "axis"], graph.tensor("m", first), mean[0])
    graph.op("SUB", ["x", "m"], graph.tensor("c", (8, 8)), options("Sub"))
    graph.op("MUL", ["c", "c"], graph.tensor("q", (8, 8)), options("Mul"))
    graph.op("MEAN", ["q", "axis"], graph.tensor("v", second), mean[1])
    graph.op("ADD", ["v", "eps"], graph.tensor("t", second), options("Add"))
    graph.op("RSQRT", ["t"], graph.tensor("i", second))
    graph.op("MUL", ["c", "i"], graph.tensor("s", (8, 8)), options("Mul"))
    path = tmp_path / "graph.tflite"
    path.write_bytes(graph.build(["x"], ["s"]))
    emulator = Emulator(read_graph(path), load_profile(MEASURED))
    assert len(emulator.steps) == 7
    x = np.random.Generator(np.random.Philox(4)).standard_normal((8, 8)).astype(np.float16).astype(np.float32)
    centred = x - x.mean(1, dtype=np.float64).reshape(first)
    expected = centred / np.sqrt((centred**2).mean(1).reshape(second) + 1e-5)
    np.testing.assert_allclose(emulator.run({"x": x}).outputs["s"], expected, rtol=2.0**-7, atol=2.0**-9)
