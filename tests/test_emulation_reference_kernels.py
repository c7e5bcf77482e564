"""Every operation that float32 alone computes, against LiteRT's own reference kernel on the same graph.

Operations that choose, move or clip give the same bits. The others round as often as the kernel does: the
difference is held to the sum of both sides' accumulation tolerances (comparison/tolerance.py).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from test_emulation_operations import PLAIN, drawn
from test_tflite_emulation import MEASURED, options

from fidelity.arithmetic.profile import load_profile
from fidelity.comparison.tolerance import accumulation_tolerance
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.emulation.single import FLOAT32_ALONE
from fidelity.tflite.graph import read_graph

Array = NDArray[Any]
SAME, VALID = 0, 1
RELU6 = 3


class Node:
    """One operator on runtime inputs and constants, with as many outputs as the runtime makes."""

    def __init__(
        self, kind: str, made: object, runtime: dict[str, Array], constants: list[Array], outputs: int = 1
    ) -> None:
        self.kind, self.made, self.runtime, self.constants, self.outputs = kind, made, runtime, constants, outputs
        self.order: list[str] | None = None
        self.dtype = "FLOAT32"

    def ordered(self, *names: str) -> Node:
        """Inputs in another order than runtime ones first; constants are c0, c1, ..."""
        self.order = list(names)
        return self

    def giving(self, dtype: str) -> Node:
        self.dtype = dtype
        return self

    def build(self, shapes: list[tuple[int, ...]]) -> bytes:
        graph = GraphBuilder()
        for name, array in self.runtime.items():
            graph.tensor(name, array.shape, str(array.dtype).upper())
        for place, array in enumerate(self.constants):
            graph.constant(f"c{place}", array, str(array.dtype))
        names = self.order or [*self.runtime, *(f"c{i}" for i in range(len(self.constants)))]
        outputs = [graph.tensor(f"y{i}", shape, self.dtype) for i, shape in enumerate(shapes)]
        graph.op(self.kind, names, outputs[0], self.made)
        graph.operators[0].outputs = [graph.names[name] for name in outputs]
        return graph.build(list(self.runtime), outputs)

    def by_kernel(self) -> list[Array]:
        """The runtime works the shapes out by itself from a graph that says (1,) of every output."""
        data = self.build([(1,)] * self.outputs)
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        runner = interpreter.get_signature_runner("serving_default")
        found = runner(**self.runtime)
        return [np.array(found[f"y{i}"]) for i in range(self.outputs)]

    def emulated(self, shapes: list[tuple[int, ...]], folder: Path) -> list[Array]:
        path = folder / "graph.tflite"
        path.write_bytes(self.build(shapes))
        got = Emulator(read_graph(path), PLAIN).run(self.runtime)
        assert not got.missing
        return [got.outputs[f"y{i}"] for i in range(self.outputs)]

    def both(self, folder: Path) -> list[tuple[Array, Array]]:
        expected = self.by_kernel()
        return list(zip(self.emulated([each.shape for each in expected], folder), expected, strict=True))


def window(stride: tuple[int, int], padding: int, act: int = 0) -> dict[str, int]:
    return {"strideH": stride[0], "strideW": stride[1], "padding": padding, "fusedActivationFunction": act}


def close(got: Array, expected: Array, terms: int, magnitude: Array | float) -> None:
    """Within what both sides may be off: each accumulates `terms` in float32 and rounds once more."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    allowed = 2 * accumulation_tolerance(terms, "float32", "float32") * magnitude
    assert np.all(np.abs(got.astype(np.float64) - expected) <= allowed)


DEPTHWISE = list(itertools.product([(1, 1), (2, 1), (2, 3)], [(1, 1), (2, 3)], [SAME, VALID], [1, 3], [(3, 3), (2, 5)]))


@pytest.mark.parametrize(("stride", "dilation", "padding", "multiplier", "kernel"), DEPTHWISE)
def test_depthwise_convolution(
    stride: tuple[int, int], dilation: tuple[int, int], padding: int, multiplier: int, kernel: tuple[int, int],
    tmp_path: Path,
) -> None:  # fmt: skip
    if dilation != (1, 1) and stride != (1, 1):
        stride = (1, 1)  # the runtime takes one or the other
    x, w, b = drawn(1, 2, 13, 16, 2), drawn(2, 1, *kernel, 2 * multiplier), drawn(3, 2 * multiplier)
    made = options(
        "DepthwiseConv2D", **window(stride, padding, RELU6), depthMultiplier=multiplier,
        dilationHFactor=dilation[0], dilationWFactor=dilation[1],
    )  # fmt: skip
    ((got, expected),) = Node("DEPTHWISE_CONV_2D", made, {"x": x}, [w, b]).both(tmp_path)
    terms = kernel[0] * kernel[1] + 1
    close(got, expected, terms, terms * np.abs(x).max() * np.abs(w).max() + np.abs(b).max())


@pytest.mark.parametrize(
    ("stride", "padding", "kernel", "size", "result"),
    [
        ((2, 2), SAME, (3, 3), (4, 5), (8, 10)),
        ((2, 2), SAME, (2, 2), (4, 5), (7, 9)),
        ((1, 1), SAME, (3, 2), (4, 5), (4, 5)),
        ((3, 2), VALID, (4, 3), (3, 4), (10, 9)),
        ((2, 2), VALID, (1, 1), (3, 4), (5, 7)),
    ],
)
@pytest.mark.parametrize("biased", [True, False])
def test_transpose_convolution(
    stride: tuple[int, int], padding: int, kernel: tuple[int, int], size: tuple[int, int], result: tuple[int, int],
    biased: bool, tmp_path: Path,
) -> None:  # fmt: skip
    x, w, b = drawn(4, 1, *size, 3), drawn(5, 2, *kernel, 3), drawn(6, 2)
    shape = np.array([1, *result, 2], np.int32)
    node = Node(
        "TRANSPOSE_CONV", options("TransposeConv", **window(stride, padding)), {"x": x}, [shape, w, b][: 2 + biased]
    )
    names = ["c0", "c1", "x", "c2"]
    ((got, expected),) = node.ordered(*names[: 3 + biased]).both(tmp_path)
    terms = kernel[0] * kernel[1] * 3 + 1
    close(got, expected, terms, terms * np.abs(x).max() * np.abs(w).max() + np.abs(b).max())


POOLS = list(itertools.product([(1, 1), (2, 2), (3, 1)], [(2, 2), (3, 4)], [SAME, VALID]))


@pytest.mark.parametrize(("stride", "size", "padding"), POOLS)
@pytest.mark.parametrize("act", [0, RELU6])
def test_pools(stride: tuple[int, int], size: tuple[int, int], padding: int, act: int, tmp_path: Path) -> None:
    x = drawn(7, 2, 9, 11, 3)
    made = options("Pool2D", **window(stride, padding, act), filterHeight=size[0], filterWidth=size[1])
    ((got, expected),) = Node("MAX_POOL_2D", made, {"x": x}, []).both(tmp_path)
    assert np.array_equal(got, expected)
    ((got, expected),) = Node("AVERAGE_POOL_2D", made, {"x": x}, []).both(tmp_path)
    close(got, expected, size[0] * size[1], np.abs(x).max())


SIZES = [(7, 9), (14, 5), (3, 27), (1, 1), (8, 4)]
ALIGNMENTS = [(False, False), (True, False), (False, True)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("aligned", "centred"), ALIGNMENTS)
def test_resizing(size: tuple[int, int], aligned: bool, centred: bool, tmp_path: Path) -> None:
    x, to = drawn(8, 2, 7, 9, 3), np.array(size, np.int32)
    made = options("ResizeBilinear", alignCorners=aligned, halfPixelCenters=centred)
    ((got, expected),) = Node("RESIZE_BILINEAR", made, {"x": x}, [to]).both(tmp_path)
    close(got, expected, 4, np.abs(x).max())
    made = options("ResizeNearestNeighbor", alignCorners=aligned, halfPixelCenters=centred)
    ((got, expected),) = Node("RESIZE_NEAREST_NEIGHBOR", made, {"x": x}, [to]).both(tmp_path)
    assert np.array_equal(got, expected)


X = drawn(9, 2, 4, 6, 12) * 3
PAIR = {"a": X, "b": np.roll(X, 1)}
AROUND = ([[0, 0], [1, 2], [3, 0], [1, 1]], [[0, 1], [4, 0], [0, 6], [2, 2]])
CHOSEN = {
    "prelu": Node("PRELU", None, {"x": X}, [drawn(10, 1, 1, 12)]),
    "leaky_relu": Node("LEAKY_RELU", options("LeakyRelu", alpha=0.3), {"x": X}, []),
    "relu": Node("RELU", None, {"x": X}, []),
    "relu6": Node("RELU6", None, {"x": X}, []),
    "relu_n1_to_1": Node("RELU_N1_TO_1", None, {"x": X}, []),
    "floor": Node("FLOOR", None, {"x": X}, []),
    "square": Node("SQUARE", options("Square"), {"x": X}, []),
    "depth_to_space": Node("DEPTH_TO_SPACE", options("DepthToSpace", blockSize=2), {"x": X}, []),
    "space_to_depth": Node("SPACE_TO_DEPTH", options("SpaceToDepth", blockSize=2), {"x": X}, []),
    "reflect": Node("MIRROR_PAD", options("MirrorPad", mode=0), {"x": X}, [np.array(AROUND[0], np.int32)]),
    "symmetric": Node("MIRROR_PAD", options("MirrorPad", mode=1), {"x": X}, [np.array(AROUND[1], np.int32)]),
    "concatenation": Node("CONCATENATION", options("Concatenation", axis=2), PAIR, []),
    "split": Node("SPLIT", options("Split", numSplits=3), {"x": X}, [np.array(3, np.int32)], 3).ordered("c0", "x"),
    "split_v": Node(
        "SPLIT_V", options("SplitV", numSplits=3), {"x": X}, [np.array([3, -1, 2], np.int32), np.array(3, np.int32)], 3
    ),
    "unpack": Node("UNPACK", options("Unpack", num=4, axis=1), {"x": X}, [], 4),
    "reduce_min": Node("REDUCE_MIN", options("Reducer", keepDims=True), {"x": X}, [np.array([1, 2], np.int32)]),
    "arg_max": Node("ARG_MAX", options("ArgMax", outputType=2), {"x": X}, [np.array(3, np.int32)]).giving("INT32"),
    "arg_min": Node("ARG_MIN", options("ArgMin", outputType=4), {"x": X}, [np.array(1, np.int32)]).giving("INT64"),
    "greater": Node("GREATER", options("Greater"), PAIR, []).giving("BOOL"),
    "less_equal": Node("LESS_EQUAL", options("LessEqual"), PAIR, []).giving("BOOL"),
    "cast": Node("CAST", options("Cast", inDataType=0, outDataType=2), {"x": X}, []).giving("INT32"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOSEN)
def test_what_moves_chooses_or_clips_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    for got, expected in CHOSEN[name].both(tmp_path):
        assert got.dtype == expected.dtype
        assert got.tobytes() == expected.tobytes()


ROUNDED = {
    "hard_swish": (Node("HARD_SWISH", options("HardSwish"), {"x": X}, []), 3),
    "log": (Node("LOG", None, {"x": np.abs(X) + np.float32(0.5)}, []), 2),
    "sin": (Node("SIN", None, {"x": X}, []), 2),
    "cos": (Node("COS", options("Cos"), {"x": X}, []), 2),
    "log_softmax": (Node("LOG_SOFTMAX", options("LogSoftmax"), {"x": X}, []), 12),
    "l2_normalization": (Node("L2_NORMALIZATION", options("L2Norm"), {"x": X}, []), 12),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_functions_round_as_often_as_the_kernel(name: str, tmp_path: Path) -> None:
    node, terms = ROUNDED[name]
    ((got, expected),) = node.both(tmp_path)
    close(got, expected, terms, max(1.0, float(np.abs(expected).max())))


def test_every_operation_is_held_against_its_kernel() -> None:
    """What float32 alone computes is in a test here, or is one of a kind that is."""
    tested = {node.kind for node in CHOSEN.values()} | {node.kind for node, _ in ROUNDED.values()}
    tested |= {"DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESIZE_BILINEAR"}
    alike = {"GREATER_EQUAL", "LESS", "EQUAL", "NOT_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "SELECT_V2"}
    assert set(FLOAT32_ALONE) - tested - alike == {"QUANTIZE", "DEQUANTIZE"}  # test_emulation_integers


@pytest.mark.parametrize("name", ["prelu", "relu", "cast"])
def test_under_a_measured_fp16_profile_they_stay_not_predictable(name: str, tmp_path: Path) -> None:
    node = CHOSEN[name]
    path = tmp_path / "graph.tflite"
    path.write_bytes(node.build([X.shape]))
    got = Emulator(read_graph(path), load_profile(MEASURED)).run(node.runtime)
    assert [(each.operator, each.reason) for each in got.missing] == [
        (0, f"profile {MEASURED} has no rule for {node.kind}")
    ]
