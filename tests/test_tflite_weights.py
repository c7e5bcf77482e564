"""Where an artefact's constants come from: every honest origin is known, and every other bit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fidelity.models.counter_random import normal
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.graph import read_graph
from fidelity.tflite.weights import ConstantOrigin, audit_weights

ROWS, OUT, IN = 3, 24, 16
W = normal(0, "w", (OUT, IN))
B = normal(0, "b", (OUT,))
GAIN, SHIFT = 1 + 0.1 * normal(0, "gain", (IN,)), normal(0, "shift", (IN,))
TABLE = normal(0, "table", (ROWS, 2 * IN))
WEIGHTS = {"fc.weight": W, "fc.bias": B, "norm.weight": GAIN, "norm.bias": SHIFT, "rope": TABLE}


def origins(tmp_path: Path, weights: np.ndarray, bias: np.ndarray) -> dict[str, ConstantOrigin]:
    """The origins of a product's weights and bias; float16 weights go through a DEQUANTIZE."""
    graph = GraphBuilder()
    graph.tensor("x", (ROWS, IN))
    graph.tensor("y", (ROWS, OUT))
    name = graph.constant("w", weights, str(weights.dtype))
    if weights.dtype == np.float16:
        graph.tensor("w32", weights.shape)
        graph.op("DEQUANTIZE", ["w"], "w32")
        name = "w32"
    graph.constant("b", bias)
    graph.op("FULLY_CONNECTED", ["x", name, "b"], "y", schema.FullyConnectedOptionsT())
    path = tmp_path / "m.tflite"
    path.write_bytes(graph.build(["x"], ["y"]))
    return {each.tensor: each for each in audit_weights(read_graph(path), WEIGHTS).constants}


def bfloat16(value: np.ndarray) -> np.ndarray:
    bits = value.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(
        np.float32
    )


HONEST: dict[str, tuple[np.ndarray, np.ndarray, str, str]] = {
    "as it is": (W, B, "copied", "copied"),
    "rounded once": (W.astype(np.float16), B, "rounded", "copied"),
    "no bias": (W, np.zeros_like(B), "copied", "zeros"),
    "a gain taken in": ((W * GAIN).astype(np.float16), B + W @ SHIFT, "scaled", "scaled"),
    "a factor of rows": ((W * B[:, np.newaxis]).astype(np.float16), B * B, "scaled", "scaled"),
    "both": ((W * B[:, np.newaxis] * GAIN).astype(np.float16), B * (B + W @ SHIFT), "scaled", "scaled"),
}


@pytest.mark.parametrize("case", HONEST)
def test_what_a_converter_does_with_weights_is_known(tmp_path: Path, case: str) -> None:
    weights, bias, of_weights, of_bias = HONEST[case]
    found = origins(tmp_path, weights, bias.astype(np.float32))
    assert (found["w"].how, found["b"].how) == (of_weights, of_bias)
    assert found["w"].source == "fc.weight"


def one_ulp(value: np.ndarray) -> np.ndarray:
    other = value.copy()
    other.reshape(-1)[7] = np.nextafter(other.reshape(-1)[7], np.inf, dtype=value.dtype)
    return other


ALTERED: dict[str, np.ndarray] = {
    "bfloat16 first": bfloat16(W).astype(np.float16),
    "bfloat16": bfloat16(W),
    "one element off by one ulp": one_ulp(W),
    "truncated": (W.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32),
    "two rows exchanged": W[[1, 0, *range(2, OUT)]],
}


@pytest.mark.parametrize("case", ALTERED)
def test_other_bits_are_told(tmp_path: Path, case: str) -> None:
    found = origins(tmp_path, ALTERED[case], B)["w"]
    assert (found.how, found.source) == ("unexplained", "fc.weight")
    assert found.differing == np.count_nonzero(ALTERED[case] != W.astype(ALTERED[case].dtype))
    assert "has the bits of no weight" in found.told()
    assert found.altered == (case != "two rows exchanged")


def test_a_bias_that_does_not_fit_the_scaling_is_told(tmp_path: Path) -> None:
    found = origins(tmp_path, (W * GAIN).astype(np.float16), (B + 1.01 * (W @ SHIFT)).astype(np.float32))
    assert (found["w"].how, found["b"].how) == ("scaled", "unexplained")


def test_a_transposed_weight_is_the_weight(tmp_path: Path) -> None:
    graph: Any = GraphBuilder()
    for name, shape in (("x", (1, ROWS, OUT)), ("y", (1, ROWS, IN))):
        graph.tensor(name, shape)
    graph.constant("t", np.ascontiguousarray(W.T)[np.newaxis].transpose(0, 2, 1))
    graph.op("BATCH_MATMUL", ["x", "t"], "y", schema.BatchMatMulOptionsT())
    path = tmp_path / "m.tflite"
    path.write_bytes(graph.build(["x"], ["y"]))
    (found,) = audit_weights(read_graph(path), WEIGHTS).constants
    assert (found.how, found.source) == ("copied", "fc.weight")


def test_half_of_a_table_is_part_of_it(tmp_path: Path) -> None:
    graph: Any = GraphBuilder()
    for name in ("x", "y"):
        graph.tensor(name, (1, 1, ROWS, IN))
    graph.constant("half", TABLE[:, IN:][np.newaxis, np.newaxis])
    graph.op("MUL", ["x", "half"], "y", schema.MulOptionsT())
    path = tmp_path / "m.tflite"
    path.write_bytes(graph.build(["x"], ["y"]))
    (found,) = audit_weights(read_graph(path), WEIGHTS).constants
    assert (found.how, found.source) == ("part", "rope")


def test_a_small_constant_is_not_like_a_weight_of_zeros(tmp_path: Path) -> None:
    graph: Any = GraphBuilder()
    for name in ("x", "y"):
        graph.tensor(name, (1, IN))
    graph.constant("small", np.full((1, IN), 0.01, np.float32))
    graph.op("ADD", ["x", "small"], "y", schema.AddOptionsT())
    path = tmp_path / "m.tflite"
    path.write_bytes(graph.build(["x"], ["y"]))
    (found,) = audit_weights(read_graph(path), {"k_bias": np.zeros(IN, np.float32)}).constants
    assert (found.how, found.source, found.altered) == ("unexplained", None, False)
