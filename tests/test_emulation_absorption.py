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
