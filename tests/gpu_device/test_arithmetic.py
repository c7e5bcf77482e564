"""The emulated sums against the real delegate in fp16, bit for bit, on shapes drawn for this run.

Orders as arithmetic.md has measured them on Mesa 25's lavapipe; another driver is another
arithmetic and is skipped by name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import Conversion, round_to_float16
from fidelity.arithmetic.matmul import matmul
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.summation import Accumulator, total
from fidelity.devices.discovery import Device
from fidelity.devices.local import load_outputs, run_job

sys.path.insert(0, str(Path(__file__).parents[1]))
from ai_edge_litert import schema_py_generated as schema
from tiny_models import job_folder

from fidelity.tflite.build import GraphBuilder

pytestmark = pytest.mark.gpu_device
MEASURED = "llvmpipe Mesa 25."
HALF = Accumulator("float16")
Single = NDArray[np.float32]
ROWS = (1, 7, 16, 17, 40, 197, 1024)


@pytest.fixture
def measured(gpu: Device) -> Device:
    if MEASURED not in str(gpu.info.driver):
        pytest.skip(f"no arithmetic has been measured for {gpu.info}")
    return gpu


@pytest.fixture
def generator() -> np.random.Generator:
    """Shapes and values are drawn afresh by every run; a failure prints them."""
    return np.random.Generator(np.random.Philox())


def normal(generator: np.random.Generator, *shape: int) -> Single:
    return round_to_float16(generator.standard_normal(shape))


def run(gpu: Device, folder: Path, graph: GraphBuilder, x: dict[str, Single], names: list[str]) -> dict[str, Single]:
    """Outputs of one run of the whole graph, which must be resident in fp16."""
    job = job_folder(folder, graph.build(list(x), names), {"one": dict(x)}, device=gpu.job_device)
    result = run_job(job, gpu)
    assert (result.status, result.error, result.precision_had) == ("ok", None, "fp16")
    return dict(load_outputs(job, result)["one"])


def fully_connected_order(rows: int, outputs: int) -> Order:
    if rows > 16:
        return Order()
    parts = next((p for p, below in ((8, 2048), (4, 4096), (2, 8192)) if outputs < below), 1)
    return Order(lanes=4, parts=parts, combine="halves")


def same(got: Single, expected: Single, what: object) -> None:
    wrong = int(np.sum(got != expected))
    assert wrong == 0, f"{what}: {wrong} of {got.size} outputs differ, first {got[got != expected][0]}"


def test_fully_connected(measured: Device, generator: np.random.Generator, tmp_path: Path) -> None:
    graph, x, expected, shapes = GraphBuilder(), {}, {}, {}
    for index, rows in enumerate(ROWS):
        terms, outputs = (int(n) for n in generator.integers(3, (1030, 3000)))
        a, w, bias = normal(generator, rows, terms), normal(generator, outputs, terms), normal(generator, outputs)
        graph.tensor(f"x{index}", a.shape)
        graph.tensor(f"y{index}", (rows, outputs))
        graph.constant(f"w{index}", w)
        graph.constant(f"b{index}", bias)
        names = [f"x{index}", f"w{index}", f"b{index}"]
        graph.op("FULLY_CONNECTED", names, f"y{index}", schema.FullyConnectedOptionsT())
        x[f"x{index}"], shapes[f"y{index}"] = a, (rows, terms, outputs)
        product = matmul(a, np.ascontiguousarray(w.T), fully_connected_order(rows, outputs), HALF)
        expected[f"y{index}"] = round_to_float16(product + bias)
    got = run(measured, tmp_path, graph, x, list(expected))
    for name, wanted in expected.items():
        same(got[name], wanted, ("rows, terms, outputs", shapes[name]))


def test_batch_matmul(measured: Device, generator: np.random.Generator, tmp_path: Path) -> None:
    graph, x, expected, shapes = GraphBuilder(), {}, {}, {}
    for index, rows in enumerate(ROWS):
        heads, terms, columns = (int(n) for n in generator.integers((1, 4, 4), (5, 260, 260)))
        a, b = normal(generator, 1, heads, rows, terms), normal(generator, 1, heads, terms, columns)
        graph.tensor(f"a{index}", a.shape)
        graph.tensor(f"b{index}", b.shape)
        graph.tensor(f"y{index}", (1, heads, rows, columns))
        graph.op("BATCH_MATMUL", [f"a{index}", f"b{index}"], f"y{index}", schema.BatchMatMulOptionsT())
        x |= {f"a{index}": a, f"b{index}": b}
        shapes[f"y{index}"] = (heads, rows, terms, columns)
        expected[f"y{index}"] = np.stack([matmul(a[0, h], b[0, h], Order(), HALF) for h in range(heads)])[None]
    got = run(measured, tmp_path, graph, x, list(expected))
    for name, wanted in expected.items():
        same(got[name], wanted, ("heads, rows, terms, columns", shapes[name]))


def test_sum_over_the_last_axis(measured: Device, generator: np.random.Generator, tmp_path: Path) -> None:
    graph, x, expected, shapes = GraphBuilder(), {}, {}, {}
    graph.constant("last", [3], "int32")
    for index, rows in enumerate(ROWS):
        terms = int(generator.integers(5, 1500))
        a = round_to_float16(100 * generator.standard_normal((1, 1, rows, terms)) ** 2)
        graph.tensor(f"a{index}", a.shape)
        graph.tensor(f"y{index}", (1, 1, rows, 1))
        options = schema.ReducerOptionsT()
        options.keepDims = True
        graph.op("SUM", [f"a{index}", "last"], f"y{index}", options)
        x[f"a{index}"], shapes[f"y{index}"] = a, (rows, terms)
        slices = -(-terms // 4)
        threads = 1 if slices < 64 else 1 << (min(slices, 256).bit_length() - 1)
        order = Order(lanes=4, lanes_apart=True, parts=threads, combine="fours")
        truncated = Conversion("toward_zero", "saturate")
        expected[f"y{index}"] = round_to_float16(total(a, order, Accumulator("float32")), truncated)[..., None]
    got = run(measured, tmp_path, graph, x, list(expected))
    for name, wanted in expected.items():
        same(got[name], wanted, ("rows, terms", shapes[name]))


EVERY = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
# Outputs of 63,488 that may differ, by 1 ulp: what special.py says was measured
EXCEPTIONS = {"EXP": 1, "GELU": 3}
UNARY = {
    "EXP": (special.exponential, schema.ExpOptionsT),
    "RSQRT": (elementwise.reciprocal_root, None),
    "SQRT": (elementwise.square_root, None),
    "GELU": (special.gelu, schema.GeluOptionsT),
}
BINARY = {
    "ADD": (elementwise.add, schema.AddOptionsT),
    "SUB": (elementwise.subtract, schema.SubOptionsT),
    "MUL": (elementwise.multiply, schema.MulOptionsT),
    "DIV": (elementwise.divide, schema.DivOptionsT),
    "SQUARED_DIFFERENCE": (elementwise.squared_difference, schema.SquaredDifferenceOptionsT),
}


def finite_or_same(got: Single, expected: Single, what: object) -> None:
    """Equal numbers, infinities included; where one is NaN both are."""
    assert np.array_equal(np.isnan(got), np.isnan(expected)), what
    same(np.nan_to_num(got, nan=0), np.nan_to_num(expected, nan=0), what)


@pytest.mark.parametrize("kind", UNARY)
def test_one_operand_on_every_float16_value(measured: Device, kind: str, tmp_path: Path) -> None:
    function, options = UNARY[kind]
    x = EVERY[np.isfinite(EVERY)].reshape(1, 1, -1, 4)
    graph = GraphBuilder()
    graph.tensor("x", x.shape)
    graph.tensor("y", x.shape)
    graph.op(kind, ["x"], "y", options() if options else None)
    got = run(measured, tmp_path, graph, {"x": x}, ["y"])["y"]
    expected = function(x)
    apart = np.flatnonzero((got != expected) & ~(np.isnan(got) & np.isnan(expected)))
    assert apart.size <= EXCEPTIONS.get(kind, 0), (kind, x.flat[apart])
    assert all(got.flat[i] in neighbours(expected.flat[i]) for i in apart), (kind, x.flat[apart])


def neighbours(value: np.float32) -> set[float]:
    half = np.float16(value)
    return {float(np.nextafter(half, np.float16(np.inf))), float(np.nextafter(half, np.float16(-np.inf)))}


def test_two_operands(measured: Device, generator: np.random.Generator, tmp_path: Path) -> None:
    """Every float16 value, each against two others drawn at random: subnormal and overflowing results too."""
    finite = EVERY[np.isfinite(EVERY)]
    a = np.concatenate([finite, finite]).reshape(1, 1, -1, 4)
    b = generator.permutation(a.reshape(-1)).reshape(a.shape)
    graph = GraphBuilder()
    graph.tensor("a", a.shape)
    graph.tensor("b", a.shape)
    for kind, (_, options) in BINARY.items():
        graph.tensor(kind, a.shape)
        graph.op(kind, ["a", "b"], kind, options())
    got = run(measured, tmp_path, graph, {"a": a, "b": b}, list(BINARY))
    for kind, (function, _) in BINARY.items():
        finite_or_same(got[kind], function(a, b), kind)
