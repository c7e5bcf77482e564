"""What the measured delegate computes together, by the graph around it: each condition, met and not met.

A sum that a reader is computed with is rounded to the nearest, and alone it is truncated; an ADD
inside a sum is not rounded at all. So every condition moves bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_tflite_emulation import MEASURED, options

from fidelity.arithmetic.profile import load_profile
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph

Single = NDArray[np.float32]
Op = tuple[str, list[str], str, tuple[int, ...]]
WIDE, ROW = (1, 4, 8, 16), (1, 4, 8, 1)
TABLES = {"SUM": "Reducer", "MEAN": "Reducer", "MAXIMUM": "MaximumMinimum", "FULLY_CONNECTED": "FullyConnected"}
TABLES |= {"CONCATENATION": "Concatenation", "RESHAPE": "Reshape", "SOFTMAX": "Softmax"}
TABLES |= {kind: kind.capitalize() for kind in ("ADD", "SUB", "MUL", "DIV", "POW", "ABS", "EXP")}
GIVEN = {"Reducer": {"keepDims": True}, "Softmax": {"beta": 1.0}, "FullyConnected": {"keepNumDims": True}}


def ready(folder: Path, ops: list[Op], outputs: list[str], keep: bool = True) -> Emulator:
    """Runtime tensors x and y [1, 4, 8, 16], r [1, 4, 8, 1]; constants by their names."""
    graph = GraphBuilder()
    for name, shape in (("x", WIDE), ("y", WIDE), ("r", ROW)):
        graph.tensor(name, shape)
    for name, axes in (("axis", [3]), ("axis1", [1]), ("axis2", [2])):
        graph.constant(name, axes, "int32")
    graph.constant("two", 2.0)
    graph.constant("each", np.linspace(0.5, 1.5, 16))
    graph.constant("w", np.ones((5, 16)))
    graph.constant("eps", 1e-8)
    for kind, inputs, output, shape in ops:
        table = TABLES.get(kind)
        given = {**GIVEN.get(table or "", {}), **({} if keep or table != "Reducer" else {"keepDims": False})}
        graph.op(kind, inputs, graph.tensor(output, shape), options(table, **given) if table else None)
    path = folder / "graph.tflite"
    path.write_bytes(graph.build(["x", "y", "r"], outputs))
    return Emulator(read_graph(path), load_profile(MEASURED))


SUM: Op = ("SUM", ["x", "axis"], "s", ROW)
NORM: list[Op] = [
    ("MEAN", ["x", "axis"], "m", ROW),
    ("SUB", ["x", "m"], "c", WIDE),
    ("MUL", ["c", "c"], "q", WIDE),
    ("MEAN", ["q", "axis"], "v", ROW),
    ("ADD", ["v", "eps"], "t", ROW),
    ("RSQRT", ["t"], "i", ROW),
    ("MUL", ["c", "i"], "s", WIDE),
]


@pytest.mark.parametrize(
    ("ops", "outputs", "followed"),
    [
        ([SUM, ("EXP", ["s"], "e", ROW)], ["e"], True),
        ([SUM, ("POW", ["s", "two"], "e", ROW)], ["e"], True),
        ([SUM, ("EXP", ["s"], "e", ROW)], ["e", "s"], False),
        ([SUM], ["s"], False),
        ([SUM, ("ADD", ["s", "x"], "e", WIDE)], ["e"], False),
        ([SUM, ("SUB", ["s", "r"], "e", ROW)], ["e"], True),
        ([SUM, ("SUB", ["r", "s"], "e", ROW)], ["e"], False),
        ([SUM, ("SUB", ["two", "s"], "e", ROW)], ["e"], True),
        ([SUM, ("ADD", ["r", "s"], "e", ROW)], ["e"], True),
        ([SUM, ("MUL", ["r", "s"], "e", ROW)], ["e"], True),
        ([SUM, ("MAXIMUM", ["r", "s"], "e", ROW)], ["e"], False),
        ([SUM, ("MAXIMUM", ["s", "r"], "e", ROW)], ["e"], True),
        ([SUM, ("CONCATENATION", ["s", "r"], "e", (1, 4, 8, 2))], ["e"], False),
        ([SUM, ("EXP", ["s"], "e", ROW), ("MUL", ["s", "e"], "f", ROW)], ["f"], True),
        ([SUM, ("EXP", ["s"], "e", ROW), ("MUL", ["s", "e"], "f", ROW)], ["f", "e"], False),
        ([SUM, ("EXP", ["s"], "e", ROW), ("SQRT", ["e"], "g", ROW), ("MUL", ["s", "g"], "f", ROW)], ["f"], False),
        ([SUM, ("EXP", ["s"], "e", ROW), ("ABS", ["s"], "f", ROW)], ["e", "f"], False),
        (
            [SUM, ("EXP", ["s"], "e", ROW), ("CONCATENATION", ["s", "e"], "f", (1, 4, 8, 2))],
            ["f"],
            False,
        ),
        (
            [("SUM", ["x", "axis1"], "s", (1, 1, 8, 16)), ("MUL", ["s", "each"], "e", (1, 1, 8, 16))],
            ["e"],
            True,
        ),
        (
            [
                ("SUM", ["x", "axis1"], "s", (1, 1, 8, 16)),
                ("MUL", ["s", "each"], "e", (1, 1, 8, 16)),
                ("FULLY_CONNECTED", ["e", "w"], "f", (1, 1, 8, 5)),
            ],
            ["f"],
            False,
        ),
        ([("SOFTMAX", ["x"], "s", WIDE), ("EXP", ["s"], "e", WIDE)], ["e"], True),
        ([("SOFTMAX", ["x"], "s", WIDE)], ["s"], False),
        ([*NORM, ("MUL", ["s", "each"], "e", WIDE)], ["e"], True),
        (NORM, ["s"], False),
        ([("EXP", ["x"], "s", WIDE), ("ABS", ["s"], "e", WIDE)], ["e"], False),
    ],
)
def test_a_reader_is_computed_together_when_it_is_alone_elementwise_and_takes_it_first(
    ops: list[Op], outputs: list[str], followed: bool, tmp_path: Path
) -> None:
    emulator = ready(tmp_path, ops, outputs)
    tensors = emulator.graph.main.tensors
    found = {tensors[step.writes].name: step.followed for step in emulator.steps}
    assert found.pop("s") == followed
    assert not any(found.values())


@pytest.mark.parametrize(
    ("axis", "shape", "followed"),
    [("axis", (1, 4, 8), False), ("axis1", (1, 8, 16), True), ("axis2", (1, 4, 16), False)],
)
def test_a_sum_that_drops_its_axis_is_followed_where_nothing_moves(
    axis: str, shape: tuple[int, ...], followed: bool, tmp_path: Path
) -> None:
    """Stored as batch, height, width, channels: [1, 8, 16] and [1, 1, 8, 16] are one, the others are not."""
    ops: list[Op] = [("SUM", ["x", axis], "s", shape), ("EXP", ["s"], "e", shape)]
    assert [step.followed for step in ready(tmp_path, ops, ["e"], keep=False).steps] == [followed, False]


def test_a_step_is_followed_and_the_next_is_not(tmp_path: Path) -> None:
    ops: list[Op] = [SUM, ("EXP", ["s"], "e", ROW), ("SUM", ["e", "axis2"], "z", (1, 4, 1, 1))]
    assert [step.followed for step in ready(tmp_path, ops, ["z"]).steps] == [True, False, False]


INSIDE: Op = ("ADD", ["x", "y"], "a", WIDE)
OF_A: Op = ("SUM", ["a", "axis"], "s", ROW)


@pytest.mark.parametrize(
    ("ops", "outputs", "inside"),
    [
        ([INSIDE, OF_A], ["s"], True),
        ([INSIDE, OF_A], ["s", "a"], False),
        ([INSIDE, OF_A, ("EXP", ["a"], "e", WIDE)], ["s", "e"], False),
        ([("ADD", ["x", "each"], "a", WIDE), OF_A], ["s"], False),
        ([("MUL", ["x", "y"], "a", WIDE), OF_A], ["s"], False),
        ([INSIDE, ("EXP", ["a"], "s", WIDE)], ["s"], False),
    ],
)
def test_an_addition_within_a_sum_is_one_of_two_runtime_tensors_read_by_it_alone(
    ops: list[Op], outputs: list[str], inside: bool, tmp_path: Path
) -> None:
    """By numbers too: 1 + 2^-11 is a tie to 1 in float16, while -1 + 2^-11 is exact."""
    emulator = ready(tmp_path, ops, outputs)
    assert [step.inside for step in emulator.steps if step.op.index == 0] == [inside]
    signs = np.tile(np.float32([1, -1]), 8)
    if ops[0] is INSIDE and ops[1] is OF_A:
        inputs = {"x": np.broadcast_to(signs, WIDE), "y": np.full(WIDE, 2.0**-11, np.float32), "r": np.zeros(ROW, "f")}
        got = emulator.run(inputs).outputs["s"]
        assert (got == (16 if inside else 8) * 2.0**-11).all()


def run(emulator: Emulator, x: Single) -> dict[str, Single]:
    got = emulator.run({"x": x, "y": np.zeros(WIDE, np.float32), "r": np.zeros(ROW, np.float32)})
    assert not got.missing
    return got.outputs


def kept(got: Single, exact: NDArray[np.float64]) -> tuple[float, float]:
    """Shares of results that are the exact ones rounded to the nearest, and truncated."""
    near = exact.astype(np.float16)
    beyond = np.abs(near.astype(np.float64)) > np.abs(exact)
    below = np.where(beyond, np.nextafter(near, np.float16(0)), near)
    return float(np.mean(got == near)), float(np.mean(got == below))


@pytest.mark.parametrize("of", ["SUM", "SOFTMAX", "LAYER_NORM"])
def test_alone_it_is_truncated_and_followed_it_is_rounded(of: str, tmp_path: Path) -> None:
    """Against float64: a float32 sum's own errors move one result in a hundred across a boundary."""
    x = np.random.Generator(np.random.Philox(3)).standard_normal(WIDE).astype(np.float16).astype(np.float32) + 3
    x = x.astype(np.float16).astype(np.float32)
    wide = x.astype(np.float64)
    ops, exact, shape = {
        "SUM": ([SUM], wide.sum(axis=3, keepdims=True), ROW),
        "SOFTMAX": ([("SOFTMAX", ["x"], "s", WIDE)], np.exp(wide) / np.exp(wide).sum(axis=3, keepdims=True), WIDE),
        "LAYER_NORM": (NORM, (wide - wide.mean(3, keepdims=True)) / np.sqrt(wide.var(3, keepdims=True) + 1e-8), WIDE),
    }[of]
    alone = run(ready(tmp_path, ops, ["s"]), x)["s"]
    together = run(ready(tmp_path, [*ops, ("ABS", ["s"], "e", shape)], ["e"]), x)["e"]
    assert kept(alone, exact)[1] > 0.95
    assert kept(together, np.abs(exact))[0] > 0.95
    assert kept(alone, exact)[0] < 0.8


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
    graph.op("MEAN", ["x", "axis"], graph.tensor("m", FLAT_ROW), reducer)
    graph.op("RESHAPE", ["m", "shape"], graph.tensor("m4", (4, 1, 1, 1)), reshape)
    graph.op("RESHAPE", ["m4", "back"], graph.tensor("m2", FLAT_ROW), reshape)
    graph.op("SUB", ["x", "m2"], graph.tensor("c", FLAT), options("Sub"))
    graph.op("MUL", ["c", "c"], graph.tensor("q", FLAT), options("Mul"))
    graph.op("MEAN", ["q", "axis"], graph.tensor("v", FLAT_ROW), reducer)
    graph.op("ADD", ["v", "eps"], graph.tensor("t", FLAT_ROW), options("Add"))
    graph.op("RSQRT", ["t"], graph.tensor("i", FLAT_ROW))
    graph.op("MUL", ["c", "i"], graph.tensor("s", FLAT), options("Mul"))
    if "e" in outputs:
        graph.op("EXP", ["m4"], graph.tensor("e", (4, 1, 1, 1)))
    if "f" in outputs:
        graph.op("EXP", ["m2"], graph.tensor("f", FLAT_ROW))
    path = folder / "graph.tflite"
    path.write_bytes(graph.build(["x"], outputs))
    return Emulator(read_graph(path), load_profile(MEASURED))


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
