"""Tiny .tflite files for the executor's tests: each known to the last bit, and built in a millisecond."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from test_tflite_builder import GraphBuilder, add_and_scale, schema

from fidelity.devices.job import JobResult
from fidelity.devices.prepare import Tensors, prepare_job

X = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], dtype=np.float32)
Y = (X + np.float32([1, 2, 3])) * np.float32(0.5)  # what add_and_scale makes of X, without rounding


def two_in_two_out() -> bytes:
    """a + b and a * b on float32 [4]: names that a mix-up of the order would exchange."""
    graph = GraphBuilder()
    for name in ("b", "a", "product", "sum"):
        graph.tensor(name, (4,))
    graph.op("ADD", ["a", "b"], "sum", schema.AddOptionsT())
    graph.op("MUL", ["a", "a"], "product", schema.MulOptionsT())
    return graph.build(["b", "a"], ["product", "sum"])


def integers() -> bytes:
    """x + x on int32 [3]."""
    graph = GraphBuilder()
    graph.tensor("x", (3,), "INT32")
    graph.tensor("y", (3,), "INT32")
    graph.op("ADD", ["x", "x"], "y", schema.AddOptionsT())
    return graph.build(["x"], ["y"])


def overflowing() -> bytes:
    """x * x on float32 [1, 1, 1, 4]: past fp16's largest number for 300, past float32's for 1e30."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 1, 1, 4))
    graph.tensor("y", (1, 1, 1, 4))
    graph.op("MUL", ["x", "x"], "y", schema.MulOptionsT())
    return graph.build(["x"], ["y"])


def resident(width: int = 8) -> bytes:
    """Three elementwise nodes on float32 [1, 1, 4, width], all of which the delegate takes."""
    graph = GraphBuilder()
    shape = (1, 1, 4, width)
    for name in ("x", "shifted", "squared", "y"):
        graph.tensor(name, shape)
    graph.constant("shift", np.linspace(-1, 1, width))
    graph.constant("scale", np.linspace(0.5, 1.5, width))
    graph.op("ADD", ["x", "shift"], "shifted", schema.AddOptionsT())
    graph.op("MUL", ["shifted", "shifted"], "squared", schema.MulOptionsT())
    graph.op("MUL", ["squared", "scale"], "y", schema.MulOptionsT())
    return graph.build(["x"], ["y"])


def refused() -> bytes:
    """x + 1, reshaped to rank 5 and back: the delegate refuses both reshapes."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 2, 4, 8))
    graph.constant("one", np.ones(8))
    graph.tensor("model/sum", (1, 2, 4, 8))
    graph.tensor("model/five;1", (1, 2, 2, 2, 8))
    graph.tensor("y", (1, 2, 4, 8))
    graph.constant("five", [1, 2, 2, 2, 8], "int32")
    graph.constant("four", [1, 2, 4, 8], "int32")
    graph.op("ADD", ["x", "one"], "model/sum", schema.AddOptionsT())
    graph.op("RESHAPE", ["model/sum", "five"], "model/five;1", schema.ReshapeOptionsT())
    graph.op("RESHAPE", ["model/five;1", "four"], "y", schema.ReshapeOptionsT())
    return graph.build(["x"], ["y"])


def job_folder(
    folder: Path, model: bytes, inputs: dict[str, Tensors], *, device: str = "cpu", **options: object
) -> Path:
    """A prepared job of `model` in `folder`/job; options are prepare_job's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "given.tflite"
    path.write_bytes(model)
    job = folder / "job"
    prepare_job(job, path, inputs, device=device, **options)  # type: ignore[arg-type]
    return job


def add_and_scale_job(folder: Path, **options: object) -> Path:
    """The smallest job that succeeds: add_and_scale on X, on the CPU."""
    return job_folder(folder, add_and_scale(), {"one": {"x": X}}, **options)


def one_line(result: JobResult) -> str:
    """The error of a result that failed; it must be one line for a person."""
    assert result.status != "ok"
    assert result.error
    assert "\n" not in result.error
    return result.error


def sha256(path: Path) -> str:
    """A file's digest, as a job records it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
