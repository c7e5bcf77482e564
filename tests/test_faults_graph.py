"""A planted fault does to a right result what its name says, to the bit, and nothing else; else it is not planted.

Every number is NumPy's on the right result. The runtime on the CPU reads each planted file and agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from test_tflite_builder import GraphBuilder
from test_tflite_emulation import options

from fidelity.arithmetic.profile import load_profile
from fidelity.faults.plant import FAULTS, OPERATORS, OVERFLOW, RESULTS, planted
from fidelity.localisation.emulations import parsed
from fidelity.tflite.emulation.emulate import Emulator

Single = NDArray[np.float32]
ROWS, WIDTH = 5, 7
SHAPE = (2, ROWS, WIDTH)
DRAWN = (0, 38, 2**31 - 1)


def drawn(*shape: int, seed: int) -> Single:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape).astype(np.float32)


X, V = drawn(*SHAPE, seed=1), drawn(ROWS, ROWS, seed=9)
W, B = drawn(4, WIDTH, seed=2), drawn(4, seed=3)


@cache
def everything() -> bytes:
    """One operator of every kind that a fault asks for, each an output: what one does to another is in no doubt."""
    graph = GraphBuilder()
    square = (1, ROWS, ROWS)
    graph.tensor("x", SHAPE)
    graph.tensor("v", square)
    constants = {"scale": np.linspace(0.5, 1.5, WIDTH), "w": W, "b": B, "zero": np.zeros(4), "eps": [1e-6]}
    constants |= {"half": [0.5], "nothing": [0.0], "each": np.full(WIDTH, 1e-6), "full": np.ones(SHAPE)}
    for name, value in constants.items():
        graph.constant(name, value)
    graph.constant("last", [2], "int32")
    graph.constant("all", [0, 1, 2], "int32")
    graph.constant("w16", W, "float16")

    def op(kind: str, reads: list[str], writes: str, shape: tuple[int, ...] = SHAPE, table: str = "", **given: object):
        graph.op(kind, reads, graph.tensor(writes, shape), options(table or kind.capitalize(), **given))

    op("MUL", ["x", "scale"], "scaled")
    op("EXP", ["x"], "exp")
    op("ADD", ["scaled", "x"], "sum")
    op("SUB", ["sum", "exp"], "difference")
    op("DIV", ["x", "exp"], "ratio")
    for name, bias in (("dense", ["b"]), ("plain", []), ("unbiased", ["zero"])):
        op("FULLY_CONNECTED", ["x", "w", *bias], name, (2, ROWS, 4), "FullyConnected", keepNumDims=True)
    op("DEQUANTIZE", ["w16"], "w32", (4, WIDTH))
    op("FULLY_CONNECTED", ["x", "w32"], "halved", (2, ROWS, 4), "FullyConnected", keepNumDims=True)
    op("BATCH_MATMUL", ["x", "exp"], "scores", (2, ROWS, ROWS), "BatchMatMul", adjY=True)
    op("SOFTMAX", ["scores"], "shares", (2, ROWS, ROWS), beta=1.0)
    op("EXP", ["v"], "positive", square)
    op("BATCH_MATMUL", ["v", "positive"], "matrix", square, "BatchMatMul")
    op("MEAN", ["x", "last"], "mean", (2, ROWS, 1), "Reducer", keepDims=True)
    for constant in ("eps", "half", "nothing"):
        op("ADD", ["mean", constant], f"mean and {constant}", (2, ROWS, 1))
    op("ADD", ["x", "each"], "x and each")
    op("ADD", ["full", "x"], "x and full")
    op("MEAN", ["x", "all"], "number", (), "Reducer")
    return graph.build(["x", "v"], [op for op in graph.names if op not in constants and op not in _INPUTS])


_INPUTS = ("x", "v", "last", "all", "w16", "w32")


def emulated(model: bytes, profile: str = "ieee-fp32", x: Single = X) -> dict[str, Single]:
    found = Emulator(parsed(model), load_profile(profile)).run({"x": x, "v": V[None]})
    assert not found.missing
    return found.outputs


@cache
def right() -> dict[str, Single]:
    return emulated(everything())


def spoilt(tensor: str, fault: str, at: int) -> Single:
    model = planted(everything(), tensor, fault, at)
    assert model is not None
    found = emulated(model)
    readers = {"scaled": {"sum", "difference"}, "sum": {"difference"}, "scores": {"shares"}}
    readers |= {
        "exp": {"difference", "ratio", "scores", "shares"},
        "mean": {name for name in found if name.startswith("mean")},
    }
    readers |= {"positive": {"matrix"}}
    others = found.keys() - {tensor} - readers.get(tensor, set())
    assert all(np.array_equal(found[name], right()[name]) for name in others)
    return found[tensor]


def at_place(value: Single, axis: int, place: int, to: float) -> Single:
    index: list[object] = [slice(None)] * value.ndim
    index[axis] = place
    other = value.copy()
    other[tuple(index)] = to
    return other


def one_nan(value: Single, at: int) -> Single:
    other = value.copy()
    other.reshape(-1)[at % value.size] = np.nan
    return other


BECOMES: dict[str, Callable[[Single, int], Single]] = {
    "wrong_scale": lambda y, _: y * np.float32(1.5),
    "wrong_sign": lambda y, _: -y,
    "swapped_halves": lambda y, _: np.roll(y, y.shape[-1] - y.shape[-1] // 2, -1),
    "shifted_row": lambda y, _: np.roll(y, 1, -2),
    "zeroed_token": lambda y, at: at_place(y, -2, 1 + at % (y.shape[-2] - 2), 0),  # never the first or the last
    "dead_channel": lambda y, at: at_place(y, -1, at % y.shape[-1], 0),
    "saturated_channel": lambda y, at: at_place(y, -1, at % y.shape[-1], 65504),
    "nan_element": one_nan,
}


@pytest.mark.parametrize("at", DRAWN)
@pytest.mark.parametrize("tensor", ["sum", "dense", "matrix"])
@pytest.mark.parametrize("fault", BECOMES)
def test_a_result_becomes_what_the_fault_says(fault: str, tensor: str, at: int) -> None:
    np.testing.assert_array_equal(spoilt(tensor, fault, at), BECOMES[fault](right()[tensor], at))


def test_an_aliased_output_is_one_of_the_operands() -> None:
    assert {at % 2 for at in DRAWN} == {0, 1}
    for at in DRAWN:
        other = ("sum", "exp")[at % 2]
        np.testing.assert_array_equal(spoilt("difference", "aliased_output", at), right()[other])
    for at in DRAWN:
        np.testing.assert_array_equal(spoilt("x and full", "aliased_output", at), X)  # and never a constant


def test_a_stale_output_is_an_earlier_result_of_its_shape_and_no_operand() -> None:
    for at, name in enumerate(("scaled", "sum", "difference")):
        np.testing.assert_array_equal(spoilt("ratio", "stale_output", at), right()[name])
    np.testing.assert_array_equal(spoilt("sum", "stale_output", 3), right()["exp"])


@pytest.mark.parametrize("x", [X, X * np.float32(2.0**-130), X * np.float32(2.0**100)], ids=["as is", "tiny", "large"])
def test_an_overflow_has_the_same_bits_in_float32_and_is_beyond_float16_from_8_on(x: Single) -> None:
    model = planted(everything(), "scaled", "overflow", 0)
    assert model is not None
    expected = emulated(everything(), x=x)["scaled"]
    np.testing.assert_array_equal(emulated(model, x=x)["scaled"].view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("size", "finite"), [(7.99, True), (8.0, False), (-8.0, False)])
def test_where_an_overflow_begins_in_float16(size: float, finite: bool) -> None:
    model = planted(everything(), "x and each", "overflow", 0)
    assert model is not None
    found = emulated(model, "ieee-fp16-storage", np.full(SHAPE, size, np.float32))["x and each"]
    assert np.isfinite(found).all() == finite


CANNOT = [
    ("zeroed_token", "number"),
    ("shifted_row", "number"),
    ("swapped_halves", "mean"),
    ("swapped_halves", "number"),
    ("dead_channel", "mean"),
    ("dead_channel", "number"),
    ("saturated_channel", "mean"),
    ("saturated_channel", "number"),
    ("nan_element", "number"),
    ("aliased_output", "dense"),
    ("stale_output", "scaled"),
    ("stale_output", "number"),
    ("dropped_bias", "plain"),
    ("dropped_bias", "unbiased"),
    ("dropped_bias", "sum"),
    ("swapped_operands", "sum"),
    ("swapped_operands", "scaled"),
    ("ignored_adj", "dense"),
    ("wrong_softmax_axis", "scores"),
    ("wrong_eps", "mean and half"),
    ("wrong_eps", "mean and nothing"),
    ("wrong_eps", "x and each"),
    ("wrong_eps", "scaled"),
    ("rounded_twice", "scores"),
]


@pytest.mark.parametrize(("fault", "tensor"), CANNOT)
def test_an_operator_that_cannot_have_it_has_none(fault: str, tensor: str) -> None:
    assert tensor in right()
    assert planted(everything(), tensor, fault, 3) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_without_the_operator_stays_as_it_is(fault: str) -> None:
    """A piece of a graph that has not the faulty operator is right, byte for byte; so is one that only reads it."""
    model = everything() + b"\0" * 8  # which writing it again would not keep
    for tensor in ("no such tensor", "x", "w"):
        assert planted(model, tensor, fault, 3) == model


def test_an_operator_of_several_results_or_of_integers_has_no_fault() -> None:
    graph = GraphBuilder()
    graph.tensor("x", SHAPE)
    graph.tensor("i", (4,), "INT32")
    graph.constant("axis", 0, "int32")
    graph.op("ADD", ["i", "i"], graph.tensor("twice", (4,), "INT32"), options("Add"))
    graph.op("SPLIT", ["axis", "x"], graph.tensor("one", (1, ROWS, WIDTH)), options("Split", numSplits=2))
    graph.operators[-1].outputs.append(graph.names[graph.tensor("two", (1, ROWS, WIDTH))])
    model = graph.build(["x", "i"], ["one", "two", "twice"])
    assert {planted(model, tensor, fault, 1) for tensor in ("one", "two", "twice") for fault in FAULTS} == {None}


WHERE = {
    **dict.fromkeys(RESULTS, "difference"),
    **dict.fromkeys(OPERATORS, "scores"),
    **dict.fromkeys(OVERFLOW, "scaled"),
    "dropped_bias": "dense",
    "rounded_twice": "dense",
    "swapped_operands": "matrix",
    "wrong_softmax_axis": "shares",
    "wrong_eps": "mean and eps",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_runtime_reads_a_planted_file_and_agrees(fault: str) -> None:
    """What the emulator makes of a planted file is what LiteRT does: sums in another order apart."""
    model = planted(everything(), WHERE[fault], fault, 38)
    assert model is not None
    found = Interpreter(model_content=model).get_signature_runner("serving_default")(x=X, v=V[None])
    for name, expected in emulated(model).items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-5, atol=2e-5, err_msg=name)
