"""Locating on a real device: the artefact, the inputs and the reference that a verb or the gate has at hand."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.profile import Profile
from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.comparison.run_facts import Family, RunKind, device_family
from fidelity.devices.discovery import Device, resolve
from fidelity.devices.job import Precision, PrecisionHad
from fidelity.errors import BadInput
from fidelity.gating.expecting import profile_for
from fidelity.gating.packing import with_pack
from fidelity.localisation.asked import Answer, Good, Where
from fidelity.localisation.locate import locate
from fidelity.localisation.noise import error_of
from fidelity.localisation.on_device import Ran, RunModel, on_device
from fidelity.localisation.records import Located
from fidelity.localisation.reference import Reference
from fidelity.record import canonical_json
from fidelity.tflite.fingerprint import file_sha256
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import WeightsDtype, weights_dtype_of
from fidelity.tflite.structure import Graph

if TYPE_CHECKING:
    from torch import nn

Single = NDArray[np.float32]
PACK = "repro"
_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16-accumulate-fp32")


@dataclass(frozen=True)
class Known:
    """The truth about an artefact: its output by input, and the tower that it was made of, where that is known."""

    name: str
    outputs: Mapping[str, NDArray[np.float64]]
    tower: nn.Module | None = None


@dataclass(frozen=True)
class Asked:
    """What is located: an artefact on a device at a precision, by a policy; under the profile given, or its own."""

    artefact: Path
    device: Device
    precision: Precision
    policy: Policy
    profile: Profile | None = None


def locate_and_pack(
    asked: Asked,
    inputs: Mapping[str, Single],
    known: Known | None,
    cache: Cache,
    step: Callable[[str], None],
    folder: Path,
    *,
    pack: str = PACK,
    look: bool = False,
) -> Located:
    """What `answered` gives, with a repro pack in `folder`/`pack`."""
    with answered(asked, inputs, known, cache, step, look=look) as answer:
        step("repro pack")
        return with_pack(answer, asked.device, asked.precision, folder, pack)


@contextmanager
def answered(
    asked: Asked,
    inputs: Mapping[str, Single],
    known: Known | None,
    cache: Cache,
    step: Callable[[str], None],
    *,
    look: bool = False,
) -> Iterator[Answer]:
    """Locates at the input that the device is furthest off on: of all outputs, relative L2 against the truth. With
    `look` there is a trace even where nothing is wrong.

    The answer, while what the device did for it is kept: a search whose device was lost in between, or that was
    interrupted, goes on where it was.
    """
    graph = read_graph(asked.artefact)
    ((taken, _),) = graph.signature().inputs
    _check(graph, inputs, known)
    with _kept(asked, graph, inputs, cache) as jobs:
        where = _where(asked, jobs)
        errors = {}
        if len(inputs) > 1:
            for name, array in inputs.items():
                step(name)
                errors[name] = _error(where, graph, {taken: array}, known.outputs[name] if known else None)
        worst = max(errors or inputs, key=lambda name: errors.get(name, 0.0))
        step(f"locate at {worst}")
        reference = None if known is None else _reference(graph, known, worst)
        found = locate(graph, {taken: inputs[worst]}, where, _good(asked, graph), reference, worst, look=look)
        every = errors or {worst: found.located.errors.actual}
        yield replace(found, located=found.located.model_copy(update={"inputs": every}))


def _check(graph: Graph, inputs: Mapping[str, Single], known: Known | None) -> None:
    """Raises BadInput for an input that the reference has nothing of, or an output of another shape than the file's."""
    if known is None:
        return
    missing = sorted(set(inputs) - set(known.outputs))
    if missing:
        raise BadInput(f"input {missing[0]!r}: {known.name} has no reference for it")
    for name, index in graph.signature().outputs:
        shape, other = graph.main.tensors[index].shape, known.outputs[next(iter(inputs))].shape
        if shape != other:
            raise BadInput(f"{graph.path}: output {name!r} is {list(shape)}, {known.name} has {list(other)}")


def _reference(graph: Graph, known: Known, name: str) -> Reference:
    outputs = {output: known.outputs[name] for output, _ in graph.signature().outputs}
    return Reference(known.name, outputs, known.tower)


def _error(where: Where, graph: Graph, inputs: dict[str, Single], truth: NDArray[np.float64] | None) -> float:
    """How far the device is off at one input; against the CPU where there is no reference."""
    ran = where.run(bytes(graph.data), dict(inputs))
    right = dict.fromkeys(ran.outputs, truth) if truth is not None else where.cpu(bytes(graph.data), inputs).outputs
    errors = [error_of(ran.outputs[n], r) if n in ran.outputs else np.inf for n, r in right.items() if r is not None]
    return max(errors, default=float("inf"))


def _where(asked: Asked, jobs: Path) -> Where:
    device, cpu = asked.device, resolve("cpu")
    gpu = device.job_device != "cpu"
    others: dict[str, RunModel] = {}
    if gpu and asked.precision != "fp32":
        others = {each: on_device(device, each, jobs) for each in _PRECISIONS if each != asked.precision}

    def profile_of(ran: Ran) -> Profile | None:
        return profile_for(ran.result, asked.profile) if ran.result else None

    run = on_device(device, asked.precision, jobs)
    return Where(device.info.name, run, on_device(cpu, "default", jobs) if gpu else run, others, profile_of)


def good_by(policy: Policy, family: Family, precision: PrecisionHad, weights: WeightsDtype) -> Good:
    """A policy's limits on relative L2 for this kind of run, and for the same artefact on a CPU."""

    def limit(device: Family, had: PrecisionHad) -> float:
        limits = policy.limits_of(RunKind(device=device, precision=had, weights=weights)) or {}
        found = limits.get("relative_l2")
        return found.at_most if found is not None and found.at_most is not None else float("inf")

    on_cpu = limit("cpu", "fp32")
    return Good(on_cpu if family == "cpu" else limit(family, precision), on_cpu)


def _good(asked: Asked, graph: Graph) -> Good:
    precision: PrecisionHad = "fp32" if asked.precision == "fp32" else "fp16"
    return good_by(asked.policy, device_family(asked.device.job_device), precision, weights_dtype_of(graph))


@contextmanager
def _kept(asked: Asked, graph: Graph, inputs: Mapping[str, Single], cache: Cache) -> Iterator[Path]:
    """A folder for finished jobs of this very search, removed when it has its answer."""
    key = {
        "artefact": file_sha256(graph),
        "device": asked.device.spec,
        "driver": asked.device.info.driver,
        "precision": asked.precision,
        "inputs": sorted(inputs),
    }
    jobs = cache.root / "locate" / hashlib.sha256(canonical_json(key)).hexdigest()[:32]
    jobs.mkdir(parents=True, exist_ok=True)
    yield jobs
    shutil.rmtree(jobs, ignore_errors=True)
