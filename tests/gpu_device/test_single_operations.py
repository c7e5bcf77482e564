"""Single operations on a real delegate, held to the derived tolerance: on any GPU, whatever its arithmetic is.

Where the arithmetic was measured, test_arithmetic.py asks for the very bits; here a bound that follows from
how often a sum rounds has to hold, on shapes drawn for this run, and a planted fault has to break it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import round_to_float16
from fidelity.compare.tolerance import accumulation_tolerance, excess
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.run import run_job

sys.path.insert(0, str(Path(__file__).parents[1]))
from ai_edge_litert import schema_py_generated as schema
from tiny_models import job_folder

from fidelity.tflite.build import GraphBuilder

pytestmark = pytest.mark.gpu_device
Single = NDArray[np.float32]
Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """One operation with its operands, the exact result, what its terms' magnitudes sum to, and their number."""

    graph: GraphBuilder
    inputs: dict[str, Single]
    exact: Wide
    magnitude: Wide
    terms: int


def normal(generator: np.random.Generator, *shape: int) -> Single:
    return round_to_float16(generator.standard_normal(shape) + 0.25)


def fully_connected(generator: np.random.Generator) -> Probe:
    rows, terms, outputs = (int(n) for n in generator.integers((1, 3, 4), (300, 1030, 600)))
    x, w, graph = normal(generator, rows, terms), normal(generator, outputs, terms), GraphBuilder()
    graph.tensor("x", x.shape)
    graph.tensor("y", (rows, outputs))
    graph.constant("w", w)
    graph.op("FULLY_CONNECTED", ["x", "w", ""], "y", schema.FullyConnectedOptionsT())
    a, b = x.astype(np.float64), w.astype(np.float64).T
    return Probe(graph, {"x": x}, a @ b, np.abs(a) @ np.abs(b), terms)


def batch_matmul(generator: np.random.Generator) -> Probe:
    heads, rows, terms, columns = (int(n) for n in generator.integers((1, 1, 4, 4), (5, 260, 260, 260)))
    x, w, graph = normal(generator, 1, heads, rows, terms), normal(generator, 1, heads, terms, columns), GraphBuilder()
    graph.tensor("x", x.shape)
    graph.tensor("w", w.shape)
    graph.tensor("y", (1, heads, rows, columns))
    graph.op("BATCH_MATMUL", ["x", "w"], "y", schema.BatchMatMulOptionsT())
    a, b = x.astype(np.float64), w.astype(np.float64)
    return Probe(graph, {"x": x, "w": w}, a @ b, np.abs(a) @ np.abs(b), terms)


def reduction(kind: str) -> Callable[[np.random.Generator], Probe]:
    def drawn(generator: np.random.Generator) -> Probe:
        rows, terms = (int(n) for n in generator.integers((1, 5), (300, 1500)))
        x, graph, options = normal(generator, 1, 1, rows, terms), GraphBuilder(), schema.ReducerOptionsT()
        graph.tensor("x", x.shape)
        graph.tensor("y", (1, 1, rows, 1))
        graph.constant("axis", [3], "int32")
        options.keepDims = True
        graph.op(kind, ["x", "axis"], "y", options)
        share = 1 / terms if kind == "MEAN" else 1.0
        wide = x.astype(np.float64)
        total, magnitude = (np.sum(side, axis=3, keepdims=True) * share for side in (wide, np.abs(wide)))
        return Probe(graph, {"x": x}, total, magnitude, terms)

    return drawn


KINDS = {
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": batch_matmul,
    "SUM": reduction("SUM"),
    "MEAN": reduction("MEAN"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_operation_keeps_the_derived_tolerance(gpu: Device, kind: str, tmp_path: Path) -> None:
    generator = np.random.Generator(np.random.Philox())  # drawn afresh by every run; a failure prints the shapes
    for number in range(3):
        probe = KINDS[kind](generator)
        job = job_folder(
            tmp_path / str(number),
            probe.graph.build(list(probe.inputs), ["y"]),
            {"one": dict(probe.inputs)},
            device=gpu.job_device,
        )
        result = run_job(job, gpu)
        assert (result.status, result.error, result.precision_had) == ("ok", None, "fp16")
        got = load_outputs(job, result)["one"]["y"]
        tolerance = accumulation_tolerance(probe.terms, "float16", "float16")
        worst = excess(got, probe.exact, probe.magnitude, tolerance, "float16", probe.terms)
        assert worst <= 1, (kind, {name: x.shape for name, x in probe.inputs.items()}, worst)
        negated = excess(-got, probe.exact, probe.magnitude, tolerance, "float16", probe.terms)
        assert negated > 1, "a result of the wrong sign would pass"
