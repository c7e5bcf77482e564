"""A graph under a profile: in float32 it is the runtime's; what is missing is named; what merges, merges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.errors import BadInput
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.emulation.layout import layout
from fidelity.tflite.emulation.schedule import Step, schedule
from fidelity.tflite.graph import read_graph

Single = NDArray[np.float32]
MEASURED = "mldrift-webgpu-lavapipe"
X = np.random.Generator(np.random.Philox(5)).standard_normal((1, 6, 10, 8)).astype(np.float32)


def options(table: str, **fields: object) -> object:
    made = getattr(schema, f"{table}OptionsT")()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def emulator(graph: GraphBuilder, inputs: list[str], outputs: list[str], folder: Path, profile: str) -> Emulator:
    path = folder / "graph.tflite"
    path.write_bytes(graph.build(inputs, outputs))
    return Emulator(read_graph(path), load_profile(profile))


def runtime(graph: GraphBuilder, inputs: dict[str, Single], outputs: list[str]) -> dict[str, Single]:
    interpreter = Interpreter(model_content=graph.build(list(inputs), outputs))
    found: dict[str, Single] = interpreter.get_signature_runner("serving_default")(**inputs)
    return found


ONE_OPERATION = {
    "RESHAPE": ([("int32", [1, 10, 6, 8])], (1, 10, 6, 8), options("Reshape")),
    "TRANSPOSE": ([("int32", [0, 3, 1, 2])], (1, 8, 6, 10), options("Transpose")),
    "SLICE": ([("int32", [0, 1, 2, 3]), ("int32", [1, 4, -1, 5])], (1, 4, 8, 5), options("Slice")),
    "STRIDED_SLICE": (
        [("int32", [0, 1, 9, 2]), ("int32", [1, 5, 0, 0]), ("int32", [1, 2, -3, 1])],
        (1, 2, 3, 6),
        options("StridedSlice", beginMask=0b0001, endMask=0b1000),
    ),
    "PAD": ([("int32", [[0, 0], [1, 0], [0, 2], [0, 0]])], (1, 7, 12, 8), options("Pad")),
    "PADV2": ([("int32", [[0, 0], [1, 0], [0, 2], [0, 0]]), ("float32", 3.5)], (1, 7, 12, 8), options("PadV2")),
    "EXPAND_DIMS": ([("int32", 1)], (1, 1, 6, 10, 8), options("ExpandDims")),
    "SQUEEZE": ([], (6, 10, 8), options("Squeeze", squeezeDims=[0])),
    "TILE": ([("int32", [1, 2, 1, 1])], (1, 12, 10, 8), options("Tile")),
    "GATHER": ([("int32", [3, 0, 3])], (1, 6, 3, 8), options("Gather", axis=2)),
    "REDUCE_MAX": ([("int32", [3, 1])], (1, 1, 10, 1), options("Reducer", keepDims=True)),
    "SUM": ([("int32", [2, 3])], (1, 6), options("Reducer")),
    "MEAN": ([("int32", [-1])], (1, 6, 10), options("Reducer")),
    "EXP": ([], X.shape, options("Exp")),
    "GELU": ([], X.shape, options("Gelu")),
    "ABS": ([], X.shape, options("Abs")),
    "NEG": ([], X.shape, options("Neg")),
    "TANH": ([], X.shape, None),
    "LOGISTIC": ([], X.shape, None),
    "SOFTMAX": ([], X.shape, options("Softmax", beta=1.0)),
    "ADD": ([("float32", [0.5] * 8)], X.shape, options("Add", fusedActivationFunction=1)),
    "SUB": ([("float32", 0.5)], X.shape, options("Sub")),
    "MUL": ([("float32", 3.0)], X.shape, options("Mul", fusedActivationFunction=3)),
    "DIV": ([("float32", 3.0)], X.shape, options("Div")),
    "MAXIMUM": ([("float32", 0.1)], X.shape, options("MaximumMinimum")),
    "MINIMUM": ([("float32", 0.1)], X.shape, options("MaximumMinimum")),
    "SQUARED_DIFFERENCE": ([("float32", 0.1)], X.shape, options("SquaredDifference")),
    "POW": ([("float32", 2.0)], X.shape, options("Pow")),
}


@pytest.mark.parametrize("kind", ONE_OPERATION)
def test_in_float32_every_operation_is_the_runtimes(kind: str, tmp_path: Path) -> None:
    """To 8 roundings: the runtime's own polynomials for exponentials err by that much, moves by nothing."""
    rest, shape, made = ONE_OPERATION[kind]
    graph = GraphBuilder()
    graph.tensor("x", X.shape)
    graph.tensor("y", shape)
    for place, (dtype, value) in enumerate(rest):
        graph.constant(f"c{place}", value, dtype)
    graph.op(kind, ["x", *(f"c{place}" for place in range(len(rest)))], "y", made)
    got = emulator(graph, ["x"], ["y"], tmp_path, "ieee-fp32").run({"x": X})
    assert not got.missing
    expected = runtime(graph, {"x": X}, ["y"])["y"]
    assert got.outputs["y"].shape == expected.shape
    np.testing.assert_allclose(got.outputs["y"], expected, rtol=8 * 2.0**-23, atol=8 * 2.0**-24)


@pytest.mark.parametrize(("padding", "stride"), [(0, 1), (0, 2), (1, 2)])
def test_in_float32_a_convolution_is_the_runtimes(padding: int, stride: int, tmp_path: Path) -> None:
    generator = np.random.Generator(np.random.Philox(6))
    graph = GraphBuilder()
    size = -(-10 // stride) if padding == 0 else (10 - 3) // stride + 1
    high = -(-6 // stride) if padding == 0 else (6 - 3) // stride + 1
    graph.tensor("x", X.shape)
    graph.constant("w", generator.standard_normal((5, 3, 3, 8)))
    graph.constant("b", generator.standard_normal(5))
    graph.tensor("y", (1, high, size, 5))
    made = options("Conv2D", padding=padding, strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1)
    graph.op("CONV_2D", ["x", "w", "b"], "y", made)
    got = emulator(graph, ["x"], ["y"], tmp_path, "ieee-fp32").run({"x": X}).outputs["y"]
    # 72 products of deviation 1: a sum of deviation 8.5, each rounding 2^-24 of it, sqrt(72) of them at random
    np.testing.assert_allclose(got, runtime(graph, {"x": X}, ["y"])["y"], atol=4 * 8.5 * 72**0.5 * 2.0**-24)


@pytest.mark.parametrize("adjoint", [False, True])
def test_in_float32_a_product_is_the_runtimes(adjoint: bool, tmp_path: Path) -> None:
    graph = GraphBuilder()
    b = X if adjoint else X.swapaxes(2, 3)
    graph.tensor("a", X.shape)
    graph.tensor("b", b.shape)
    graph.tensor("y", (1, 6, 10, 10))
    graph.op("BATCH_MATMUL", ["a", "b"], "y", options("BatchMatMul", adjY=adjoint))
    inputs = {"a": X, "b": np.ascontiguousarray(b)}
    got = emulator(graph, ["a", "b"], ["y"], tmp_path, "ieee-fp32").run(inputs).outputs["y"]
    np.testing.assert_allclose(got, runtime(graph, inputs, ["y"])["y"], atol=4 * 8 * 2.0**-24 * 3)


def three(folder: Path, unknown: str) -> Emulator:
    """x + x, an operation that no profile has, and what depends on it; beside them x * x."""
    graph = GraphBuilder()
    for name in ("x", "sum", "odd", "after", "square"):
        graph.tensor(name, X.shape)
    graph.op("ADD", ["x", "x"], "sum", options("Add"))
    graph.op(unknown, ["sum"], "odd")
    graph.op("ADD", ["odd", "sum"], "after", options("Add"))
    graph.op("MUL", ["x", "x"], "square", options("Mul"))
    return emulator(graph, ["x"], ["after", "square"], folder, "ieee-fp32")


def test_what_it_lacks_is_named_and_the_rest_computed(tmp_path: Path) -> None:
    got = three(tmp_path, "SIGN").run({"x": X})
    assert [(each.operator, each.name) for each in got.missing] == [(1, "SIGN")]
    assert "SIGN" in got.missing[0].reason
    assert got.unreached == (2,)
    assert list(got.outputs) == ["square"]
    assert np.array_equal(got.outputs["square"], X * X)


def test_a_profile_without_a_rule_is_named(tmp_path: Path) -> None:
    whole = three(tmp_path, "ABS")
    less = {kind: rule for kind, rule in whole.profile.rules.items() if kind != "ABS"}
    profile = Profile.model_validate(whole.profile.model_copy(update={"rules": less}).model_dump())
    got = Emulator(whole.graph, profile).run({"x": X})
    assert [(each.operator, each.reason) for each in got.missing] == [(1, "profile ieee-fp32 has no rule for ABS")]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": np.where(X > 2, np.float32(np.nan), X)}, "holds NaN or Inf"),
        ({"x": np.full_like(X, np.inf)}, "holds NaN or Inf"),
        ({"x": X.astype(np.float64)}, "is float64"),
        ({"x": X[:, :3]}, r"\[1, 3, 10, 8\]"),
        ({"z": X}, r"takes inputs \['x'\]"),
        ({}, "takes inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, Single], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=words):
        three(tmp_path, "ABS").run(inputs)


def beside(folder: Path, before: list[str], after: list[str], lead: tuple[int, ...]) -> list[Step]:
    """The steps of constants around a product under the measured profile."""
    graph = GraphBuilder()
    current = graph.tensor("x", (*lead, 8))
    for place, kind in enumerate(before):
        graph.constant(f"b{place}", np.arange(8))
        graph.op(kind, [current, f"b{place}"], graph.tensor(f"before{place}", (*lead, 8)), options(kind.capitalize()))
        current = f"before{place}"
    graph.constant("w", np.ones((8, 8)))
    graph.op(
        "FULLY_CONNECTED", [current, "w"], graph.tensor("y", (*lead, 8)), options("FullyConnected", keepNumDims=True)
    )
    current = "y"
    for place, kind in enumerate(after):
        graph.constant(f"a{place}", np.arange(8))
        graph.op(kind, [current, f"a{place}"], graph.tensor(f"after{place}", (*lead, 8)), options(kind.capitalize()))
        current = f"after{place}"
    ready = emulator(graph, ["x"], [current], folder, MEASURED)
    return list(ready.steps)


@pytest.mark.parametrize(
    ("before", "after", "lead", "left"),
    [
        (["MUL", "ADD"], ["MUL", "ADD"], (1, 5), ["FULLY_CONNECTED"]),
        (["ADD", "MUL"], ["ADD", "MUL"], (1, 5), ["ADD", "FULLY_CONNECTED", "MUL"]),
        (["MUL", "ADD"], [], (5,), ["MUL", "ADD", "FULLY_CONNECTED"]),
        (["ADD", "MUL"], [], (5,), ["ADD", "FULLY_CONNECTED"]),
        (["SUB"], ["DIV"], (1, 5), ["SUB", "FULLY_CONNECTED", "DIV"]),
    ],
)
def test_constants_beside_a_product_go_into_its_weights(
    before: list[str], after: list[str], lead: tuple[int, ...], left: list[str], tmp_path: Path
) -> None:
    assert [step.op.name for step in beside(tmp_path, before, after, lead)] == left


def norm(change: Callable[[dict[str, object]], None] = lambda _: None) -> tuple[GraphBuilder, str]:
    """A LayerNorm in seven operations; `change` alters one of its facts."""
    facts: dict[str, object] = {"keep": True, "axis": [2], "eps": 1e-5, "square": ["c", "c"], "reader": False}
    change(facts)
    graph = GraphBuilder()
    shape, row = (1, 9, 64), (1, 9, 1) if facts["axis"] == [2] else (1, 1, 64)
    graph.constant("axis", facts["axis"], "int32")
    graph.constant("eps", facts["eps"])
    for name, size in (
        ("x", shape),
        ("m", row),
        ("c", shape),
        ("q", shape),
        ("v", row),
        ("s", row),
        ("r", row),
        ("y", shape),
    ):
        graph.tensor(name, size)
    graph.op("MEAN", ["x", "axis"], "m", options("Reducer", keepDims=True))
    graph.op("SUB", ["x", "m"], "c", options("Sub"))
    graph.op("MUL", facts["square"], "q", options("Mul"))  # type: ignore[arg-type]
    graph.op("MEAN", ["q", "axis"], "v", options("Reducer", keepDims=facts["keep"]))
    graph.op("ADD", ["v", "eps"], "s", options("Add"))
    graph.op("RSQRT", ["s"], "r")
    graph.op("MUL", ["c", "r"], "y", options("Mul"))
    if facts["reader"]:
        graph.tensor("other", row)
        graph.op("ADD", ["v", "v"], "other", options("Add"))
    return graph, "other" if facts["reader"] else "y"


def test_a_layernorm_is_one_step(tmp_path: Path) -> None:
    graph, _ = norm()
    ready = emulator(graph, ["x"], ["y"], tmp_path, MEASURED)
    assert [step.op.index for step in ready.steps] == [6]
    x = X.reshape(1, 60, 8)[:, :9].repeat(8, axis=2)
    centred = x.astype(np.float64) - x.mean(axis=2, keepdims=True, dtype=np.float64)
    expected = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)
    got = ready.run({"x": x}).outputs["y"]
    # inputs are rounded to 2^-11, and the result is truncated: 2^-10 of itself
    np.testing.assert_allclose(got, expected, rtol=2.0**-10, atol=4 * 2.0**-11)


@pytest.mark.parametrize(
    "fact",
    [{"axis": [1]}, {"eps": [1e-5] * 9}, {"square": ["c", "x"]}, {"reader": True}],
    ids=lambda fact: next(iter(fact)),
)
def test_what_is_no_layernorm_is_computed_step_by_step(fact: dict[str, object], tmp_path: Path) -> None:
    graph, last = norm(lambda facts: facts.update(fact))
    if "eps" in fact:
        graph.tensors[graph.names["eps"]].shape = [1, 9, 1]
    ready = emulator(graph, ["x"], list(dict.fromkeys(["y", last])), tmp_path, MEASURED)
    assert len(ready.steps) == len(graph.operators)


def test_without_the_rule_a_layernorm_is_computed_step_by_step(tmp_path: Path) -> None:
    graph, _ = norm()
    whole = emulator(graph, ["x"], ["y"], tmp_path, MEASURED)
    less = {kind: rule for kind, rule in whole.profile.rules.items() if kind != "LAYER_NORM"}
    profile = whole.profile.model_copy(update={"rules": less})
    assert len(schedule(whole.graph, whole.graph.main, profile)) == 7


def test_a_broadcast_is_numpys(tmp_path: Path) -> None:
    """The runtime's interpreter has no BROADCAST_TO of the builder's version."""
    graph = GraphBuilder()
    graph.tensor("x", X.shape)
    graph.constant("shape", [2, *X.shape[1:]], "int32")
    graph.op("BROADCAST_TO", ["x", "shape"], graph.tensor("y", (2, *X.shape[1:])), options("BroadcastTo"))
    got = emulator(graph, ["x"], ["y"], tmp_path, "ieee-fp32").run({"x": X}).outputs["y"]
    assert np.array_equal(got, np.concatenate([X, X]))


def test_layout() -> None:
    assert layout((2, 3, 4)) == (2, 1, 3, 4)
    assert layout((17,)) == (1, 1, 1, 17)
    assert layout((5, 8)) == (5, 1, 1, 8)
    assert layout(()) == (1, 1, 1, 1)
    assert layout((1, 2, 3, 4)) == (1, 2, 3, 4)


def test_weights_are_prepared_once_and_outputs_repeat(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (1, 5, 8))
    graph.constant("w16", np.linspace(-1, 1, 64).reshape(8, 8), "float16")
    graph.op("DEQUANTIZE", ["w16"], graph.tensor("w", (8, 8)), options("Dequantize"))
    graph.op("FULLY_CONNECTED", ["x", "w"], graph.tensor("y", (1, 5, 8)), options("FullyConnected", keepNumDims=True))
    ready = emulator(graph, ["x"], ["y"], tmp_path, MEASURED)
    first, second = (ready.run({"x": X[0, :5, :1].reshape(1, 5, 8)}).outputs["y"] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert np.isfinite(first).all()
    assert first.any()
