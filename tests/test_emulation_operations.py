"""What an operator's options mean: padding, strides, adjoint sides, axes; and which of them are refused by name.

Under the float32 profile, against NumPy's loops; the measured order of a transposed product to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from test_tflite_emulation import MEASURED, options, runtime

from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph

Array = NDArray[np.generic]
Single = NDArray[np.float32]
PLAIN = load_profile("ieee-fp32")


def ready(graph: GraphBuilder, inputs: list[str], outputs: list[str], folder: Path, profile: Profile) -> Emulator:
    path = folder / "graph.tflite"
    path.write_bytes(graph.build(inputs, outputs))
    return Emulator(read_graph(path), profile)


def drawn(seed: int, *shape: int) -> Single:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape).astype(np.float32)


def one(
    kind: str,
    inputs: dict[str, Array],
    shape: tuple[int, ...],
    made: object = None,
    constants: tuple[tuple[str, object], ...] = (),
) -> GraphBuilder:
    """One operator on runtime inputs, then constants of a dtype each."""
    graph = GraphBuilder()
    for name, value in inputs.items():
        graph.tensor(name, value.shape, str(value.dtype).upper())
    for place, (dtype, value) in enumerate(constants):
        graph.constant(f"c{place}", value, dtype)
    graph.op(kind, [*inputs, *(f"c{place}" for place in range(len(constants)))], graph.tensor("y", shape), made)
    return graph


def result(graph: GraphBuilder, inputs: dict[str, Single], folder: Path, profile: Profile = PLAIN) -> Single:
    got = ready(graph, list(inputs), ["y"], folder, profile).run(inputs)
    assert not got.missing
    return got.outputs["y"]


def windows(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Number of SAME windows and zeros before, as TensorFlow's documentation has them."""
    count = -(-size // stride)
    return count, max(0, (count - 1) * stride + (kernel - 1) * dilation + 1 - size) // 2


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [((2, 2), (1, 1), (1, 1)), ((4, 2), (2, 1), (1, 1)), ((3, 2), (1, 1), (2, 3)), ((1, 1), (2, 3), (1, 1))],
)
def test_same_padding_puts_the_odd_zero_after_and_dilated_windows_reach_further(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], tmp_path: Path
) -> None:
    x, w = drawn(1, 1, 7, 9, 2), drawn(2, 3, *kernel, 2)
    (high, top), (wide, left) = (windows(x.shape[1 + i], kernel[i], stride[i], dilation[i]) for i in range(2))
    made = options(
        "Conv2D",
        padding=0,
        strideH=stride[0],
        strideW=stride[1],
        dilationHFactor=dilation[0],
        dilationWFactor=dilation[1],
    )
    got = result(one("CONV_2D", {"x": x}, (1, high, wide, 3), made, (("float32", w),)), {"x": x}, tmp_path)
    padded = np.zeros((40, 40, 2))
    padded[10 : 10 + 7, 10 : 10 + 9] = x[0]
    expected = np.zeros((1, high, wide, 3))
    for row, column, out in np.ndindex(expected.shape[1:]):
        for r, c in np.ndindex(*kernel):
            at = (10 - top + row * stride[0] + r * dilation[0], 10 - left + column * stride[1] + c * dilation[1])
            expected[0, row, column, out] += padded[at] @ w[out, r, c].astype(np.float64)
    np.testing.assert_allclose(got, expected, atol=16 * 16 * 2.0**-24)


@pytest.mark.parametrize(("adj_x", "adj_y"), [(True, False), (False, True), (True, True)])
def test_adjoint_sides_are_swapped(adj_x: bool, adj_y: bool, tmp_path: Path) -> None:
    a, b = drawn(3, 2, 4, 5), drawn(4, 2, 5, 6)
    given = {"a": a.swapaxes(1, 2).copy() if adj_x else a, "b": b.swapaxes(1, 2).copy() if adj_y else b}
    graph = one("BATCH_MATMUL", given, (2, 4, 6), options("BatchMatMul", adjX=adj_x, adjY=adj_y))
    got = result(graph, given, tmp_path)
    np.testing.assert_allclose(got, a.astype(np.float64) @ b, atol=5 * 10 * 2.0**-24)


def in_turn(terms: NDArray[np.float16]) -> np.float16:
    total = np.float16(0)
    for term in terms:
        total = np.float16(total + term)
    return total


def test_a_transposed_right_side_is_summed_in_slices_on_the_measured_device(tmp_path: Path) -> None:
    """12 x 8 of 64 terms: eight parts of slices of four, each slice summed by itself. Untransposed, one by one."""
    a, b = (drawn(seed, 1, rows, 64).astype(np.float16).astype(np.float32) for seed, rows in ((5, 12), (6, 8)))
    given = {"a": a, "b": b}
    measured = load_profile(MEASURED)
    graph = one("BATCH_MATMUL", given, (1, 12, 8), options("BatchMatMul", adjY=True))
    turned = result(graph, given, tmp_path, measured)
    given = {"a": a, "b": b.swapaxes(1, 2).copy()}
    plain = result(one("BATCH_MATMUL", given, (1, 12, 8), options("BatchMatMul")), given, tmp_path, measured)
    for row, column in np.ndindex(12, 8):
        terms = (a[0, row] * b[0, column]).astype(np.float16)
        assert plain[0, row, column] == in_turn(terms)
        slices = [in_turn(terms[first : first + 4]) for first in range(0, 64, 4)]
        parts = [np.float16(slices[part] + slices[part + 8]) for part in range(8)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [np.float16(parts[i] + parts[i + half]) for i in range(half)]
        assert turned[0, row, column] == parts[0]
    assert not np.array_equal(plain, turned)


def test_weights_and_a_bias_may_be_runtime_tensors(tmp_path: Path) -> None:
    given = {"x": drawn(7, 3, 4), "w": drawn(8, 5, 4), "b": drawn(9, 5)}
    graph = one("FULLY_CONNECTED", given, (3, 5), options("FullyConnected"))
    expected = given["x"].astype(np.float64) @ given["w"].T + given["b"]
    np.testing.assert_allclose(result(graph, given, tmp_path), expected, atol=4 * 8 * 2.0**-24)


def test_activations_clip_both_ends(tmp_path: Path) -> None:
    x = np.linspace(-9, 9, 19, dtype=np.float32)[np.newaxis]
    for act, expected in ((1, np.maximum(x, 0)), (3, np.clip(x, 0, 6))):
        graph = one("ADD", {"x": x}, x.shape, options("Add", fusedActivationFunction=act), (("float32", 0.0),))
        assert np.array_equal(result(graph, {"x": x}, tmp_path), expected)


V = drawn(10, 2, 3, 4)
MOVES: dict[str, tuple[str, object, tuple[tuple[str, object], ...], Single]] = {
    "dropped axis": (
        "STRIDED_SLICE",
        options("StridedSlice", shrinkAxisMask=0b010, endMask=0b101),
        (("int32", [0, 1, 1]), ("int32", [0, 2, 0]), ("int32", [1, 1, 2])),
        V[:, 1, 1::2],
    ),
    "dropped last": (
        "STRIDED_SLICE",
        options("StridedSlice", shrinkAxisMask=0b100, beginMask=0b011, endMask=0b011),
        (("int32", [0, 0, -1]), ("int32", [0, 0, 0]), ("int32", [1, 1, 1])),
        V[:, :, -1],
    ),
    "offset": (
        "STRIDED_SLICE",
        options("StridedSlice", offset=True),
        (("int32", [1, 1, 2]), ("int32", [1, 2, 2]), ("int32", [1, 1, 1])),
        V[1:2, 1:3, 2:4],
    ),
    "gathered rows": ("GATHER", options("Gather", axis=1), (("int32", [2, 2, 0]),), V[:, [2, 2, 0]]),
    "squeezed": ("SQUEEZE", options("Squeeze"), (), V),
    "old reshape": ("RESHAPE", options("Reshape", newShape=[4, 6]), (), V.reshape(4, 6)),
}


@pytest.mark.parametrize("what", MOVES)
def test_moves_are_numpys(what: str, tmp_path: Path) -> None:
    kind, made, constants, expected = MOVES[what]
    got = result(one(kind, {"x": V}, expected.shape, made, constants), {"x": V}, tmp_path)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize(("axis", "join"), [(0, np.concatenate), (1, np.concatenate), (0, np.stack), (2, np.stack)])
def test_joining_is_along_the_axis_that_the_file_names(axis: int, join: Callable[..., Single], tmp_path: Path) -> None:
    kind, table = ("CONCATENATION", "Concatenation") if join is np.concatenate else ("PACK", "Pack")
    given = {"x": V, "z": V + 1}
    expected = join([V, V + 1], axis=axis)
    more = {} if kind == "CONCATENATION" else {"valuesCount": 2}
    graph = one(kind, given, expected.shape, options(table, axis=axis, **more))
    assert np.array_equal(result(graph, given, tmp_path), expected)
    assert np.array_equal(runtime(graph, given, ["y"])["y"], expected)


IMAGE = drawn(11, 1, 4, 4, 8)
NAMED: dict[str, tuple[GraphBuilder, Single, str]] = {
    "beta": (one("SOFTMAX", {"x": V}, V.shape, options("Softmax", beta=2.0)), V, "SOFTMAX with beta 2.0"),
    "gelu": (one("GELU", {"x": V}, V.shape, options("Gelu", approximate=True)), V, "the tanh form of GELU"),
    "activation": (
        one("ADD", {"x": V}, V.shape, options("Add", fusedActivationFunction=5), (("float32", 1.0),)),
        V,
        "the fused activation SIGN_BIT",
    ),
    "batched gather": (
        one("GATHER", {"x": V}, V.shape, options("Gather", axis=1, batchDims=1), (("int32", [[0, 1, 2], [0, 1, 2]]),)),
        V,
        "batch_dims of GATHER",
    ),
    "ellipsis": (
        one(
            "STRIDED_SLICE",
            {"x": V},
            V.shape,
            options("StridedSlice", ellipsisMask=1, endMask=7),
            tuple(("int32", [value] * 3) for value in (0, 9, 1)),
        ),
        V,
        "ellipsis_mask and new_axis_mask",
    ),
    "groups": (
        one("CONV_2D", {"x": IMAGE}, (1, 4, 4, 2), options("Conv2D"), (("float32", np.ones((2, 1, 1, 4))),)),
        IMAGE,
        "a grouped CONV_2D, 8 channels with weights for 4",
    ),
    "shape": (one("ABS", {"x": V}, (2, 3)), V, r"gives [2, 3, 4], the file says [2, 3]"),
}


@pytest.mark.parametrize("what", NAMED)
def test_what_an_option_asks_and_the_emulator_lacks_is_named(what: str, tmp_path: Path) -> None:
    graph, x, words = NAMED[what]
    got = ready(graph, ["x"], ["y"], tmp_path, PLAIN).run({"x": x})
    assert [each.operator for each in got.missing] == [0]
    assert words in got.missing[0].reason
    assert not got.outputs


def test_the_schema_numbers_of_activations_are_the_ones_used_here() -> None:
    kinds = schema.ActivationFunctionType
    assert (kinds.NONE, kinds.RELU, kinds.RELU6, kinds.TANH) == (0, 1, 3, 4)
