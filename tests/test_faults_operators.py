"""What an operator has wrong when its bias, operands, axis, eps or weights are: the numbers of the wrong operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_faults_graph import ROWS, SHAPE, B, Single, V, W, X, right, spoilt
from test_tflite_builder import GraphBuilder
from test_tflite_emulation import options

from fidelity.faults.plant import planted
from fidelity.localisation.emulations import parsed


def test_a_dropped_bias_is_missed_and_nothing_else() -> None:
    np.testing.assert_array_equal(spoilt("dense", "dropped_bias", 0), right()["plain"])
    np.testing.assert_allclose(right()["dense"] - right()["plain"], np.broadcast_to(B, (2, ROWS, 4)), atol=1e-6)


def test_swapped_operands_are_read_the_other_way_round() -> None:
    r = right()
    np.testing.assert_array_equal(spoilt("difference", "swapped_operands", 0), r["exp"] - r["sum"])
    np.testing.assert_array_equal(spoilt("ratio", "swapped_operands", 0), r["exp"] / X)
    np.testing.assert_allclose(spoilt("matrix", "swapped_operands", 0)[0], np.exp(V) @ V, rtol=1e-5, atol=1e-5)


def test_an_ignored_adj_reads_the_transposes_memory_in_the_shape_that_is_there() -> None:
    """As #8913 does: what is [5, 7] in memory as [7, 5] is read as it lies, not turned."""
    second = np.ascontiguousarray(right()["exp"].swapaxes(1, 2)).reshape(SHAPE)
    expected = X.astype(np.float64) @ second.swapaxes(1, 2)
    np.testing.assert_allclose(spoilt("scores", "ignored_adj", 0), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(spoilt("matrix", "ignored_adj", 0)[0], V @ np.exp(V).T, rtol=1e-5, atol=1e-5)


def test_a_softmax_over_the_other_axis_sums_to_one_there() -> None:
    scores = right()["scores"].astype(np.float64)
    expected = np.exp(scores) / np.exp(scores).sum(axis=-2, keepdims=True)
    np.testing.assert_allclose(spoilt("shares", "wrong_softmax_axis", 0), expected, rtol=1e-5)


def test_a_wrong_eps_is_ten() -> None:
    np.testing.assert_array_equal(spoilt("mean and eps", "wrong_eps", 0), right()["mean"] + np.float32(10))


def weights_of(model: bytes, operator: str) -> Single:
    """The constant that the operator of this name reads as its second input, or as its first, for a DEQUANTIZE."""
    graph = parsed(model)
    op = next(each for each in graph.main.operators if each.name == operator)
    return graph.constant(graph.main.tensors[op.inputs[0 if operator == "DEQUANTIZE" else 1]])


ODD = np.float32([1, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-23, -1 - 2.0**-8, 2.0**-126, 3e38])
"""What bfloat16 has, ties to either side, what is just above one, the least normal number and nearly the largest."""


@pytest.mark.parametrize("value", [W, np.tile(ODD, (4, 1))], ids=["drawn", "odd"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_rounded_twice_have_the_bits_of_bfloat16(value: Single, dtype: str) -> None:
    """Against torch's own rounding; float16 weights are rounded where they are stored, before the DEQUANTIZE."""
    graph = GraphBuilder()
    graph.tensor("x", SHAPE)
    with np.errstate(over="ignore"):
        stored = np.where(np.abs(value) > 6e4, 1, value).astype(dtype)  # float16 ends at 65504
    graph.constant("w", stored, dtype)
    reads = "w"
    if dtype == "float16":
        reads = graph.tensor("w32", W.shape)
        graph.op("DEQUANTIZE", ["w"], reads, options("Dequantize"))
    made = options("FullyConnected", keepNumDims=True)
    graph.op("FULLY_CONNECTED", ["x", reads], graph.tensor("y", (2, ROWS, 4)), made)
    model = planted(graph.build(["x"], ["y"]), "y", "rounded_twice", 0)
    assert model is not None
    found = weights_of(model, "DEQUANTIZE" if dtype == "float16" else "FULLY_CONNECTED")
    expected = torch.from_numpy(stored.astype(np.float32)).bfloat16().float().numpy().astype(dtype)
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def test_weights_rounded_twice_are_those_that_the_product_computes_with() -> None:
    rounded = torch.from_numpy(W).bfloat16().double().numpy()
    np.testing.assert_allclose(spoilt("plain", "rounded_twice", 0), X.astype(np.float64) @ rounded.T, atol=1e-5)
    half = torch.from_numpy(W.astype(np.float16)).bfloat16().double().numpy()
    np.testing.assert_allclose(spoilt("halved", "rounded_twice", 0), X.astype(np.float64) @ half.T, atol=1e-5)
