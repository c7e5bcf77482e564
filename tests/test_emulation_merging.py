"""Constants that a product takes in: the same real numbers as the graph's, computed in float32 and rounded once.

A merge in the wrong order, or of something that is read elsewhere, is another model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_tflite_emulation import options

from fidelity.arithmetic.float16 import IEEE
from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.arithmetic.rules import Case, Product
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph

Single = NDArray[np.float32]
TAKES = Product(cases=(Case(),), merges_before=("ADD", "MUL"), merges_after=("MUL", "ADD"))
RELU = 1


def profile(weights: bool = False) -> Profile:
    """float32 throughout; products take in what the measured delegate's take in. `weights` are float16, if so."""
    plain = load_profile("ieee-fp32")
    rules = {**plain.rules, "FULLY_CONNECTED": TAKES, "CONV_2D": TAKES}
    return plain.model_copy(update={"rules": rules, "weights": IEEE if weights else None})


def emulator(graph: GraphBuilder, outputs: list[str], folder: Path, weights: bool = False) -> Emulator:
    path = folder / "graph.tflite"
    path.write_bytes(graph.build(["x"], outputs))
    return Emulator(read_graph(path), profile(weights))


def drawn(seed: int, *shape: int) -> Single:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape).astype(np.float32)


def elementwise(graph: GraphBuilder, kind: str, x: str, constant: NDArray[np.floating], name: str, act: int = 0) -> str:
    shape = tuple(graph.tensors[graph.names[x]].shape)
    graph.constant(f"{name}_c", constant)
    graph.op(kind, [x, f"{name}_c"], graph.tensor(name, shape), options(kind.capitalize(), fusedActivationFunction=act))
    return name


def connected(graph: GraphBuilder, x: str, w: Single, b: Single | None = None, act: int = 0) -> str:
    lead = tuple(graph.tensors[graph.names[x]].shape[:-1])
    graph.constant("w", w)
    names = [x, "w"]
    if b is not None:
        names.append(graph.constant("b", b))
    made = options("FullyConnected", keepNumDims=True, fusedActivationFunction=act)
    graph.op("FULLY_CONNECTED", names, graph.tensor("y", (*lead, len(w))), made)
    return "y"


@pytest.mark.parametrize("bias", [False, True])
def test_what_a_dense_layer_takes_in_is_the_same_function(bias: bool, tmp_path: Path) -> None:
    """y = ((W (m2 (m1 x) + a2 + a1) + b) n1 n2) + c1 + c2, in float64; 32 sums of numbers up to 100, each rounded."""
    m, a, n, c = drawn(1, 2, 8), drawn(2, 2, 8), drawn(3, 2, 5), drawn(4, 2, 5)
    x, w, b = drawn(5, 1, 3, 8), drawn(6, 5, 8), drawn(7, 5)
    graph = GraphBuilder()
    at = graph.tensor("x", (1, 3, 8))
    for place, (kind, value) in enumerate((("MUL", m[0]), ("MUL", m[1]), ("ADD", a[1]), ("ADD", a[0]))):
        at = elementwise(graph, kind, at, value, f"before{place}")
    at = connected(graph, at, w, b if bias else None)
    for place, (kind, value) in enumerate((("MUL", n[0]), ("MUL", n[1]), ("ADD", c[0]), ("ADD", c[1]))):
        at = elementwise(graph, kind, at, value, f"after{place}")
    ready = emulator(graph, [at], tmp_path)
    assert [step.op.name for step in ready.steps] == ["FULLY_CONNECTED"]
    inside = x.astype(np.float64) * m[0] * m[1] + a[1] + a[0]
    expected = (inside @ w.T.astype(np.float64) + (b if bias else 0)) * n[0] * n[1] + c[0] + c[1]
    np.testing.assert_allclose(ready.run({"x": x}).outputs[at], expected, atol=32 * 100 * 2.0**-24)


def test_what_a_convolution_takes_in_is_one_a_channel_at_every_place_of_its_window(tmp_path: Path) -> None:
    """Without padding; 36 products of numbers up to 10 and as many sums, each rounded."""
    m, a, x, w = drawn(1, 6), drawn(2, 6), drawn(3, 1, 4, 5, 6), drawn(4, 5, 2, 3, 6)
    graph = GraphBuilder()
    at = elementwise(graph, "MUL", graph.tensor("x", (1, 4, 5, 6)), m, "scaled")
    at = elementwise(graph, "ADD", at, a, "shifted")
    graph.constant("w", w)
    made = options("Conv2D", padding=1, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    graph.op("CONV_2D", [at, "w"], graph.tensor("y", (1, 3, 3, 5)), made)
    ready = emulator(graph, ["y"], tmp_path)
    assert len(ready.steps) == 1
    inside = x[0].astype(np.float64) * m + a
    expected = [[np.sum(inside[r : r + 2, c : c + 3] * w, axis=(1, 2, 3)) for c in range(3)] for r in range(3)]
    np.testing.assert_allclose(ready.run({"x": x}).outputs["y"][0], expected, atol=36 * 10 * 2.0**-23)


def test_merged_weights_are_rounded_once_and_not_before(tmp_path: Path) -> None:
    """(1 + 2^-11)^2 is 1 + 2^-10 and a little, while either factor is 1 in float16. The bias likewise."""
    odd = np.float32(1 + 2.0**-11)
    graph = GraphBuilder()
    at = elementwise(graph, "MUL", graph.tensor("x", (1, 1)), np.full(1, odd), "scaled")
    at = connected(graph, at, np.full((1, 1), odd), np.full(1, odd))
    at = elementwise(graph, "ADD", at, np.full(1, 2.0**-11), "shifted")
    ready = emulator(graph, [at], tmp_path, weights=True)
    assert ready.run({"x": np.ones((1, 1), np.float32)}).outputs[at].tolist() == [[2 + 2.0**-9]]
    assert ready.run({"x": np.zeros((1, 1), np.float32)}).outputs[at].tolist() == [[1 + 2.0**-10]]


def test_weights_and_biases_that_stand_alone_are_float16_too(tmp_path: Path) -> None:
    odd = np.float32(1 + 2.0**-11 + 2.0**-20)
    graph = GraphBuilder()
    at = connected(graph, graph.tensor("x", (1, 1)), np.full((1, 1), odd), np.full(1, -odd))
    ready = emulator(graph, [at], tmp_path, weights=True)
    for x, expected in ((0, -1 - 2.0**-10), (3, 2 + 2 * 2.0**-10)):
        assert ready.run({"x": np.full((1, 1), x, np.float32)}).outputs["y"].tolist() == [[expected]]


def test_a_shift_before_is_summed_one_term_after_the_other(tmp_path: Path) -> None:
    graph = GraphBuilder()
    shift = np.float32([2.0**24, 1, -(2.0**24), 3])
    at = elementwise(graph, "ADD", graph.tensor("x", (1, 2, 4)), shift, "shifted")
    at = connected(graph, at, np.ones((1, 4), np.float32))
    ready = emulator(graph, [at], tmp_path)
    assert len(ready.steps) == 1
    assert ready.run({"x": np.zeros((1, 2, 4), np.float32)}).outputs["y"].tolist() == [[[3.0], [3.0]]]


def activated_product(graph: GraphBuilder) -> list[str]:
    at = connected(graph, graph.tensor("x", (1, 8, 8)), drawn(1, 8, 8), act=RELU)
    return [elementwise(graph, "ADD", at, drawn(2, 8), "shifted")]


def activated_scale(graph: GraphBuilder) -> list[str]:
    at = elementwise(graph, "MUL", graph.tensor("x", (1, 8, 8)), drawn(2, 8), "scaled", act=RELU)
    return [connected(graph, at, drawn(1, 8, 8))]


def one_a_row(graph: GraphBuilder) -> list[str]:
    """As many numbers as channels, and yet one a position."""
    at = connected(graph, graph.tensor("x", (1, 8, 8)), drawn(1, 8, 8))
    return [elementwise(graph, "ADD", at, drawn(2, 1, 8, 1), "shifted")]


def one_an_element(graph: GraphBuilder) -> list[str]:
    at = connected(graph, graph.tensor("x", (1, 2, 8)), drawn(1, 8, 8))
    return [elementwise(graph, "ADD", at, drawn(2, 1, 2, 8), "shifted")]


def source_read_twice(graph: GraphBuilder) -> list[str]:
    at = elementwise(graph, "MUL", graph.tensor("x", (1, 8, 8)), drawn(2, 8), "scaled")
    graph.op("ABS", [at], graph.tensor("other", (1, 8, 8)))
    return [connected(graph, at, drawn(1, 8, 8)), "other"]


def source_is_an_output(graph: GraphBuilder) -> list[str]:
    at = elementwise(graph, "MUL", graph.tensor("x", (1, 8, 8)), drawn(2, 8), "scaled")
    return [connected(graph, at, drawn(1, 8, 8)), at]


def result_read_twice(graph: GraphBuilder) -> list[str]:
    at = connected(graph, graph.tensor("x", (1, 8, 8)), drawn(1, 8, 8))
    graph.op("ABS", [at], graph.tensor("other", (1, 8, 8)))
    return [elementwise(graph, "ADD", at, drawn(2, 8), "shifted"), "other"]


def result_is_an_output(graph: GraphBuilder) -> list[str]:
    at = connected(graph, graph.tensor("x", (1, 8, 8)), drawn(1, 8, 8))
    return [elementwise(graph, "ADD", at, drawn(2, 8), "shifted"), at]


def shift_beside_zeros(graph: GraphBuilder) -> list[str]:
    """A padded image: the zeros around it are not added to, so that no bias can stand for the shift."""
    at = elementwise(graph, "ADD", graph.tensor("x", (1, 4, 5, 6)), drawn(2, 6), "shifted")
    graph.constant("w", drawn(1, 5, 3, 3, 6))
    graph.op("CONV_2D", [at, "w"], graph.tensor("y", (1, 4, 5, 5)), options("Conv2D", padding=0, strideH=1, strideW=1))
    return ["y"]


@pytest.mark.parametrize(
    "build",
    [
        activated_product,
        activated_scale,
        one_a_row,
        one_an_element,
        source_read_twice,
        source_is_an_output,
        result_read_twice,
        result_is_an_output,
        shift_beside_zeros,
    ],
)
def test_what_is_read_elsewhere_or_is_not_linear_stays(
    build: Callable[[GraphBuilder], list[str]], tmp_path: Path
) -> None:
    graph = GraphBuilder()
    outputs = build(graph)
    ready = emulator(graph, outputs, tmp_path)
    assert len(ready.steps) == len(graph.operators)
    x = drawn(9, *ready.graph.main.tensors[ready.signature.inputs[0][1]].shape)
    got = ready.run({"x": x})
    assert not got.missing
    assert set(got.outputs) == set(outputs)


def test_a_single_number_is_one_for_every_channel(tmp_path: Path) -> None:
    graph = GraphBuilder()
    at = elementwise(graph, "MUL", graph.tensor("x", (1, 8, 8)), np.float32(3), "scaled")
    at = elementwise(
        graph, "ADD", connected(graph, at, np.eye(8, dtype=np.float32)), np.full((1, 1, 1), 0.5), "shifted"
    )
    ready = emulator(graph, [at], tmp_path)
    assert len(ready.steps) == 1
    x = drawn(9, 1, 8, 8).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(ready.run({"x": x}).outputs[at], x * 3 + np.float32(0.5))


@pytest.mark.parametrize("between", [["ADD"], ["MUL"], ["MUL", "ADD"], ["ADD", "MUL"], ["ADD", "MUL", "ADD"]])
def test_what_stands_between_two_products_is_taken_once(between: list[str], tmp_path: Path) -> None:
    """By the first, and the rest by the second, as the delegate does. 8 x 8 sums of numbers up to 100, each rounded."""
    x, v, w = drawn(1, 1, 3, 8), drawn(2, 8, 8), drawn(3, 5, 8)
    graph = GraphBuilder()
    at = connected(graph, graph.tensor("x", (1, 3, 8)), w=v)
    expected = x.astype(np.float64) @ v.T
    for place, kind in enumerate(between):
        constant = drawn(4 + place, 8)
        at = elementwise(graph, kind, at, constant, f"between{place}")
        expected = expected * constant if kind == "MUL" else expected + constant
    graph.constant("w2", w)
    made = options("FullyConnected", keepNumDims=True)
    graph.op("FULLY_CONNECTED", [at, "w2"], graph.tensor("z", (1, 3, 5)), made)
    ready = emulator(graph, ["z"], tmp_path)
    assert len(ready.steps) == 2
    assert ready.steps[0].merging is not None
    assert [op.name for op, _ in ready.steps[0].merging.after] == between[: 2 if between[0] == "MUL" else 1]
    got = ready.run({"x": x})
    assert not got.unreached
    np.testing.assert_allclose(got.outputs["z"], expected @ w.T, atol=64 * 100 * 2.0**-24)
