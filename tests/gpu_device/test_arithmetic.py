"""The measured profile against the real delegate in fp16, bit for bit, on shapes and values drawn for this run.

Another driver is another arithmetic and is skipped by name: `fidelity reveal` measures it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fidelity.arithmetic.float16 import round_to_float16
from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.devices.discovery import Device

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
from device_graphs import Cases, differing, options  # noqa: E402

pytestmark = pytest.mark.gpu_device
MEASURED = "llvmpipe Mesa 25."
ROWS = (1, 7, 16, 17, 40, 197, 1024)
EVERY = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
FINITE = EVERY[np.isfinite(EVERY)]
BINARY = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "SQUARED_DIFFERENCE": "SquaredDifference",
    "MAXIMUM": "MaximumMinimum",
    "MINIMUM": "MaximumMinimum",
}
UNARY = {"EXP": "Exp", "RSQRT": None, "SQRT": None, "GELU": "Gelu", "ABS": "Abs", "NEG": "Neg", "LOGISTIC": None}


@pytest.fixture
def measured(gpu: Device) -> Device:
    if MEASURED not in str(gpu.info.driver):
        pytest.skip(f"no arithmetic has been measured for {gpu.info}")
    return gpu


@pytest.fixture
def profile() -> Profile:
    return load_profile("mldrift-webgpu-lavapipe")


@pytest.fixture
def cases() -> Cases:
    """Shapes and values are drawn afresh by every run; a failure prints them."""
    return Cases(np.random.Generator(np.random.Philox()))


def test_one_operand_on_every_float16_value(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    x = FINITE.reshape(1, 1, -1, 4)
    for kind, table in UNARY.items():
        cases.output(cases.op(kind, [cases.input(x)], x.shape, options(table) if table else None), kind)
    for exponent in (0.5, -0.5, 2.0, 3.0, 0.3):
        inputs = [cases.input(x), cases.constant(np.full((1, 1, 1, 1), exponent))]
        cases.output(cases.op("POW", inputs, x.shape, options("Pow")), f"POW {exponent}")
    assert differing(cases, measured, profile, tmp_path) == {}


def test_two_operands(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    """Every float16 value against two others: subnormal and overflowing results too; and a row, and a number."""
    a = np.concatenate([FINITE, FINITE]).reshape(1, 1, -1, 4)
    for kind, table in BINARY.items():
        b = cases.generator.permutation(a.reshape(-1)).reshape(a.shape)
        for what, other in (
            ("tensor", cases.input(b)),
            ("row", cases.input(b[:, :, :1])),
            ("constant row", cases.constant(b[0, 0, 0])),
            ("number", cases.constant(float(cases.generator.standard_normal()))),
        ):
            cases.output(cases.op(kind, [cases.input(a), other], a.shape, options(table)), f"{kind} with a {what}")
    assert differing(cases, measured, profile, tmp_path) == {}


def test_fully_connected(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    for rows in ROWS:
        terms, outputs = cases.size(3, 1030), cases.size(3, 3000)
        x, w = cases.normal(rows, terms), cases.constant(cases.normal(outputs, terms))
        made = options("FullyConnected", keepNumDims=True)
        y = cases.op(
            "FULLY_CONNECTED", [cases.input(x), w, cases.constant(cases.normal(outputs))], (rows, outputs), made
        )
        cases.output(y, f"{rows} rows, {terms} terms, {outputs} outputs")
    assert differing(cases, measured, profile, tmp_path) == {}


def test_constants_beside_a_product(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    """MUL and ADD before and behind, taken into the weights or not, by rank and shape of the constant."""
    for lead in ((1, 20), (3, 4, 5), (20,), (1,), (2, 1)):
        for before in (["MUL", "ADD"], ["ADD", "MUL"], ["ADD"], []):
            for after in (["MUL", "ADD"], ["ADD", "MUL"], ["MUL"], []):
                terms, outputs = cases.size(5, 70), cases.size(5, 70)
                current = cases.input(cases.normal(*lead, terms))
                for kind in before:
                    beside = cases.constant(cases.normal(terms))
                    current = cases.op(kind, [current, beside], (*lead, terms), options(kind.capitalize()))
                weights = [cases.constant(cases.normal(outputs, terms)), cases.constant(cases.normal(outputs))]
                made = options("FullyConnected", keepNumDims=True)
                current = cases.op("FULLY_CONNECTED", [current, *weights], (*lead, outputs), made)
                for kind in after:
                    beside = cases.constant(cases.normal(outputs) if cases.size(0, 1) else 0.3)
                    current = cases.op(kind, [current, beside], (*lead, outputs), options(kind.capitalize()))
                cases.output(current, f"{before}, FULLY_CONNECTED on {lead}, {after}")
    assert differing(cases, measured, profile, tmp_path) == {}


def test_constants_between_two_products(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    """Each goes into one of them, the first if it can."""
    made = options("FullyConnected", keepNumDims=True)
    for lead in ((1, 20), (1, 5, 6), (20,)):
        for between in (("ADD",), ("MUL",), ("MUL", "ADD"), ("ADD", "MUL"), ("ADD", "ADD"), ("MUL", "ADD", "MUL")):
            inputs = [cases.input(cases.normal(*lead, 24)), cases.constant(cases.normal(16, 24))]
            current = cases.op("FULLY_CONNECTED", inputs, (*lead, 16), made)
            for kind in between:
                constant = cases.constant(cases.normal(16))
                current = cases.op(kind, [current, constant], (*lead, 16), options(kind.capitalize()))
            weights = cases.constant(cases.normal(12, 16))
            current = cases.op("FULLY_CONNECTED", [current, weights], (*lead, 12), made)
            cases.output(current, f"{between} between two products on {lead}")
    assert differing(cases, measured, profile, tmp_path) == {}


def test_batch_matmul(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    for rows in ROWS:
        for adjoint in (False, True):
            heads, terms, columns = cases.size(1, 5), cases.size(4, 260), cases.size(4, 260)
            b = cases.normal(1, heads, columns, terms) if adjoint else cases.normal(1, heads, terms, columns)
            inputs = [cases.input(cases.normal(1, heads, rows, terms)), cases.input(b)]
            y = cases.op("BATCH_MATMUL", inputs, (1, heads, rows, columns), options("BatchMatMul", adjY=adjoint))
            cases.output(y, f"heads, rows, terms, columns {heads, rows, terms, columns}, adjoint {adjoint}")
    assert differing(cases, measured, profile, tmp_path) == {}


def test_conv_2d(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    for size, channels, outputs, window in ((16, 3, 50, 8), (14, 5, 9, 3), (9, 1, 4, 2), (32, 3, 192, 16)):
        x, w = cases.normal(1, 2 * size, size, channels), cases.normal(outputs, window, window, channels)
        made = options("Conv2D", strideH=window, strideW=window, padding=1, dilationHFactor=1, dilationWFactor=1)
        inputs = [cases.input(x), cases.constant(w), cases.constant(cases.normal(outputs))]
        shape = (1, 2 * size // window, size // window, outputs)
        cases.output(cases.op("CONV_2D", inputs, shape, made), f"{x.shape} with {w.shape}")
    assert differing(cases, measured, profile, tmp_path) == {}


@pytest.mark.parametrize("kind", ["SUM", "MEAN", "REDUCE_MAX"])
def test_reductions(measured: Device, profile: Profile, cases: Cases, tmp_path: Path, kind: str) -> None:
    """Over the last axis and over others, dimensions kept or not, read by an elementwise operation or not."""
    for rows in ROWS:
        for axis in (1, 2, 3):
            for keep in (True, False):
                shape = (
                    (1, cases.size(1, 8), rows, cases.size(5, 1500)) if axis == 3 else (1, cases.size(2, 300), rows, 24)
                )
                x = round_to_float16(8 * cases.generator.standard_normal(shape) ** 2)
                reduced = tuple(1 if i == axis else n for i, n in enumerate(shape) if keep or i != axis)
                inputs = [cases.input(x), cases.constant([axis], "int32")]
                y = cases.op(kind, inputs, reduced, options("Reducer", keepDims=keep))
                if rows in (7, 40):
                    y = cases.op("ADD", [y, cases.constant(0.3)], reduced, options("Add"))
                cases.output(y, f"{shape} over {axis}, kept {keep}")
    assert differing(cases, measured, profile, tmp_path) == {}


def test_softmax(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    """Rows on both sides of 1,024 and 16,384, widths that fill no slice, a following product."""
    for lead in ((1, 7), (1, 1023), (1, 1024), (12, 197), (3, 6000), (1, 1)):
        for follow in (False, True):
            shape = (1, *lead, cases.size(5, 260) if lead[1] < 6000 else 9)
            y = cases.op("SOFTMAX", [cases.input(cases.normal(*shape, scale=3))], shape, options("Softmax", beta=1.0))
            if follow:
                y = cases.op("MUL", [y, cases.constant(0.7)], shape, options("Mul"))
            cases.output(y, f"{shape}, followed {follow}")
    assert differing(cases, measured, profile, tmp_path) == {}


@pytest.mark.parametrize("kept", [True, False])
def test_layer_norm(measured: Device, profile: Profile, cases: Cases, tmp_path: Path, kept: bool) -> None:
    """As one operation where the dimensions are kept, step by step where not; with gain and bias behind it."""
    for rows in (1, 5, 8, 17, 33, 127, 128, 197, 577):
        for terms in (4 * cases.size(1, 300), 32 * cases.size(1, 40), cases.size(3, 1300)):
            shape, row = (1, rows, terms), (1, rows, 1)
            less = row if kept else row[:2]
            axis = cases.constant([2], "int32")
            x = cases.input(cases.normal(*shape, scale=3) + np.float32(cases.size(0, 3)))
            mean = cases.op("MEAN", [x, axis], row, options("Reducer", keepDims=True))
            difference = cases.op("SUB", [x, mean], shape, options("Sub"))
            square = cases.op("MUL", [difference, difference], shape, options("Mul"))
            variance = cases.op("MEAN", [square, axis], less, options("Reducer", keepDims=kept))
            shifted = cases.op("ADD", [variance, cases.constant(1e-5)], less, options("Add"))
            if not kept:
                shifted = cases.op("RESHAPE", [shifted, cases.constant(row, "int32")], row, options("Reshape"))
            y = cases.op("MUL", [difference, cases.op("RSQRT", [shifted], row)], shape, options("Mul"))
            if cases.size(0, 1):
                y = cases.op("MUL", [y, cases.constant(cases.normal(terms))], shape, options("Mul"))
                y = cases.op("ADD", [y, cases.constant(cases.normal(terms))], shape, options("Add"))
            cases.output(y, f"{shape}")
    assert differing(cases, measured, profile, tmp_path) == {}


def test_movement(measured: Device, profile: Profile, cases: Cases, tmp_path: Path) -> None:
    """Reshape kinds between two additions, so that something is computed on both sides."""
    shape = (1, 6, 10, 8)
    moves = {
        "RESHAPE": ([cases.constant([1, 10, 6, 8], "int32")], (1, 10, 6, 8), options("Reshape")),
        "TRANSPOSE": ([cases.constant([0, 2, 1, 3], "int32")], (1, 10, 6, 8), options("Transpose")),
        "SLICE": (
            [cases.constant([0, 1, 2, 3], "int32"), cases.constant([1, 4, 5, 5], "int32")],
            (1, 4, 5, 5),
            options("Slice"),
        ),
        "PAD": ([cases.constant([[0, 0], [1, 0], [0, 2], [0, 0]], "int32")], (1, 7, 12, 8), options("Pad")),
    }
    for kind, (rest, after, made) in moves.items():
        x = cases.op("ADD", [cases.input(cases.normal(*shape)), cases.constant(0.1)], shape, options("Add"))
        y = cases.op(kind, [x, *rest], after, made)
        cases.output(cases.op("MUL", [y, cases.constant(1.1)], after, options("Mul")), kind)
    assert differing(cases, measured, profile, tmp_path) == {}


FUSED = ("ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE")


@pytest.mark.parametrize("kind", ["SUM", "MEAN", "SOFTMAX"])
def test_pairs(measured: Device, profile: Profile, cases: Cases, tmp_path: Path, kind: str) -> None:
    """Every elementwise operation before and behind a sum, of two runtime tensors or with a constant."""
    shape, row = (1, 23, 260), (1, 23, 1)
    for beside in FUSED:
        for runtime in (True, False):
            made = options(BINARY[beside])
            other = cases.input(cases.normal(*shape) + 3) if runtime else cases.constant(cases.normal(shape[-1]))
            before = cases.op(beside, [cases.input(cases.normal(*shape)), other], shape, made)
            cases.output(_reduced(cases, kind, before, shape), f"{beside} (runtime {runtime}) before {kind}")
            result = row if kind != "SOFTMAX" else shape
            reduced = _reduced(cases, kind, cases.input(cases.normal(*shape)), shape)
            other = cases.input(cases.normal(*result) + 3) if runtime else cases.constant(0.7)
            for order in ([reduced, other], [other, reduced]):
                y = cases.op(beside, order, result, options(BINARY[beside]))
            cases.output(y, f"{beside} (runtime {runtime}) behind {kind}")
    assert differing(cases, measured, profile, tmp_path) == {}


def _reduced(cases: Cases, kind: str, x: str, shape: tuple[int, ...]) -> str:
    if kind == "SOFTMAX":
        return cases.op(kind, [x], shape, options("Softmax", beta=1.0))
    return cases.op(kind, [x, cases.constant([2], "int32")], (*shape[:2], 1), options("Reducer", keepDims=True))
