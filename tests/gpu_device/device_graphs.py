"""Random graphs of one kind of operation, run on the device and under its profile, compared bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from tiny_models import job_folder

from fidelity.arithmetic.float16 import round_to_float16
from fidelity.arithmetic.profile import Profile
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.run import run_job
from fidelity.tflite.build import GraphBuilder
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph

Single = NDArray[np.float32]
Shape = tuple[int, ...]


class Cases:
    """One graph of many independent pieces: each adds inputs, operators and outputs of its own."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.graph = GraphBuilder()
        self.inputs: dict[str, Single] = {}
        self.outputs: dict[str, str] = {}
        self._count = 0

    def name(self, stem: str) -> str:
        """A name that is not taken."""
        self._count += 1
        return f"{stem}{self._count}"

    def normal(self, *shape: int, scale: float = 1.0) -> Single:
        """Normal values that float16 holds."""
        return round_to_float16(self.generator.standard_normal(shape) * scale)

    def input(self, value: Single) -> str:
        """A runtime tensor with this value."""
        name = self.graph.tensor(self.name("x"), value.shape)
        self.inputs[name] = np.asarray(value, np.float32)
        return name

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """A constant."""
        return self.graph.constant(self.name("c"), value, dtype)

    def op(self, kind: str, inputs: list[str], shape: Shape, options: Any = None) -> str:
        """The result of one more operator."""
        name = self.graph.tensor(self.name("y"), shape)
        self.graph.op(kind, inputs, name, options)
        return name

    def output(self, tensor: str, what: str) -> None:
        """Compare this tensor; `what` says what it is when it differs."""
        self.outputs[tensor] = what

    def size(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        return int(self.generator.integers(low, high + 1))


def options(table: str, **fields: Any) -> Any:
    """Options of a schema class: options("Reducer", keepDims=True)."""
    made = getattr(schema, f"{table}OptionsT")()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def differing(cases: Cases, gpu: Device, profile: Profile, folder: Path) -> dict[str, str]:
    """What the device and the emulation disagree on: how many elements, and the first of them."""
    content = cases.graph.build(list(cases.inputs), list(cases.outputs))
    job = job_folder(folder, content, {"one": cases.inputs}, device=gpu.job_device)
    result = run_job(job, gpu)
    assert (result.status, result.error, result.precision_had) == ("ok", None, "fp16")
    assert result.residency is not None
    assert result.residency.full, result.residency.refusals
    actual = load_outputs(job, result)["one"]
    emulated = Emulator(read_graph(folder / "given.tflite"), profile).run(cases.inputs)
    assert not emulated.missing, emulated.missing
    return dict(_differences(cases.outputs, actual, emulated.outputs))


def _differences(
    outputs: dict[str, str], actual: dict[str, Single], expected: dict[str, Single]
) -> Iterable[tuple[str, str]]:
    for name, what in outputs.items():
        a, b = actual[name], expected[name]
        wrong = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            yield what, f"{int(wrong.sum())} of {wrong.size}, first at {first}: {a[first]!r}, expected {b[first]!r}"
