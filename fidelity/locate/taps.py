"""A device's intermediate tensors: the graph with further outputs, in as few runs as the device allows.

A further output can change what is computed: it keeps operations from being taken together, and a
delegate may answer with another tensor (LiteRT #8599). So every tapped run gives the graph's own
outputs too, and whether they are still those of the graph without taps is part of the result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.profile import Profile
from fidelity.compare.expectation import same_bits
from fidelity.compare.metrics.outcome import Measured
from fidelity.compare.metrics.relative_l2 import relative_l2
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.job import JobResult, Precision
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.tflite.edit import TAP, with_taps
from fidelity.tflite.emulation.schedule import schedule
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Graph

Array = NDArray[Any]
Arrays = dict[str, Array]
_INPUT = "traced"


@dataclass(frozen=True)
class Ran:
    """One run of a model: outputs by the signature's names, or why there are none."""

    outputs: Arrays
    resident: bool
    error: str | None = None
    result: JobResult | None = None


RunModel = Callable[[bytes, Arrays], Ran]
"""Runs a .tflite on one set of inputs. The only thing that locating knows of a device."""


def on_device(device: Device, precision: Precision = "default", timeout_seconds: float = 600.0) -> RunModel:
    """Runs on a real device, each model in a job of its own."""

    def run(model: bytes, inputs: Arrays) -> Ran:
        with tempfile.TemporaryDirectory(prefix="fidelity-locate-") as scratch:
            path, job = Path(scratch) / "model.tflite", Path(scratch) / "job"
            path.write_bytes(model)
            prepare_job(
                job,
                path,
                {_INPUT: inputs},
                device=device.job_device,
                precision=precision,
                timeout_seconds=timeout_seconds,
            )
            result = run_job(job, device)
            if result.status != "ok":
                return Ran({}, False, f"{result.status}: {result.error}", result)
            resident = result.residency is not None and result.residency.full
            return Ran(load_outputs(job, result)[_INPUT], resident, None, result)

    return run


@dataclass
class Tapped:
    """Arrays by tensor index. `refused` could not be shown, with the reason; `changed` are tensors whose
    run gave other final outputs than the graph without taps."""

    values: dict[int, Array] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    changed: frozenset[int] = frozenset()
    runs: int = 0


def tappable(graph: Graph, profile: Profile | None = None) -> tuple[int, ...]:
    """Every float32 tensor that an operator computes from the inputs, in execution order, outputs apart.

    What is computed from constants alone is no one's fault at run time. Under a profile that says what
    the device takes together, the tensors between are left out: they are never written. Shown all the
    same, LiteRT 2.3.0 gives whatever lay in memory (a MUL taken into the weights of the product that
    reads it), or stops taking the operations together.
    """
    subgraph, entry = graph.main, graph.signature()
    live = {index for _, index in entry.inputs}
    steps = schedule(graph, subgraph, profile) if profile else ()
    written = {step.writes for step in steps if not step.inside and not step.followed}
    found = []
    for op in subgraph.operators:
        if live.isdisjoint(op.inputs):
            continue
        live |= set(op.outputs)
        found += [index for index in op.outputs if subgraph.tensors[index].dtype == "float32"]
    outputs = {index for _, index in entry.outputs}
    return tuple(index for index in found if index not in outputs and (profile is None or index in written))


def tapped(graph: Graph, tensors: Sequence[int], inputs: Arrays, run: RunModel, final: Mapping[str, Array]) -> Tapped:
    """What `run` gives at these tensors; `final` are the outputs of the graph without taps.

    All at once, and in halves where the device refuses that or no longer takes every node.
    """
    found = Tapped()
    _tap(graph, list(tensors), inputs, run, final, found)
    return found


def _tap(
    graph: Graph, tensors: list[int], inputs: Arrays, run: RunModel, final: Mapping[str, Array], found: Tapped
) -> None:
    if not tensors:
        return
    ran = run(with_taps(graph, tensors), inputs)
    found.runs += 1
    if ran.error is None and ran.resident:
        found.values |= {int(name.removeprefix(TAP)): array for name, array in ran.outputs.items() if _is_tap(name)}
        if any(not same_bits(ran.outputs[name], array) for name, array in final.items()):
            found.changed |= set(tensors)
    elif len(tensors) == 1:
        found.refused[tensors[0]] = ran.error or "with it as an output, not every node runs on the device"
    else:
        middle = len(tensors) // 2
        _tap(graph, tensors[:middle], inputs, run, final, found)
        _tap(graph, tensors[middle:], inputs, run, final, found)


def _is_tap(name: str) -> bool:
    return name.startswith(TAP) and name.removeprefix(TAP).isdigit()


def error_of(found: Array, right: Array) -> float:
    """Relative L2 against the truth; infinite where it is undefined, as for what is not finite and should be."""
    outcome = relative_l2(found, right)
    if isinstance(outcome, Measured):
        return outcome.value
    nothing = outcome.cause in ("zero_reference", "empty") and not np.any(found)
    return 0.0 if nothing else float("inf")


def parsed(model: bytes) -> Graph:
    """The graph of a file's bytes; its weights stay mapped after the file's name is gone."""
    with tempfile.TemporaryDirectory(prefix="fidelity-locate-") as scratch:
        path = Path(scratch) / "piece.tflite"
        path.write_bytes(model)
        return read_graph(path)
