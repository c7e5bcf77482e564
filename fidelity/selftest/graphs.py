"""Faults of a graph: in the .tflite that is judged, and in a device that runs the right one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fidelity.arithmetic.profile import load_profile
from fidelity.devices.discovery import on_cpu
from fidelity.errors import BadInput
from fidelity.faults.plant import OVERFLOW
from fidelity.faults.swapped import planted_anywhere
from fidelity.gating.execution import Execution
from fidelity.localisation.emulations import TRUTH, emulated, parsed
from fidelity.localisation.noise import error_of
from fidelity.localisation.on_device import Arrays
from fidelity.localisation.taps import tappable
from fidelity.models.counter_random import uniform_integers
from fidelity.selftest.locating import in_artefact, in_device
from fidelity.selftest.records import FaultRow, Localised, fault_row
from fidelity.selftest.rig import Rig, as_the_right_one, seen_by_gate
from fidelity.selftest.specimen import Specimen
from fidelity.tflite.manifest import read_manifest, write_manifest

MATTERS = 0.03
"""Relative L2 of the output: twice what the policy allows fp16. A smaller effect fails no gate and should not."""

IN_FP16 = "mldrift-webgpu-lavapipe"
"""The arithmetic that an overflow must show in."""

WEIGHTS_ALONE = ("rounded_twice",)
"""Faults that move the output less than fp16 does: the weights tell, and their number does not matter."""


@dataclass(frozen=True)
class PlantedGraph:
    """A fault in the operator that writes the tensor `site`, and the file that has it."""

    fault: str
    site: str
    at: int
    operator: str
    path: Path


def plant(specimen: Specimen, fault: str, seed: int, folder: Path) -> PlantedGraph:
    """The fault at a drawn operator where it matters. Raises BadInput where it can have no effect on this graph."""
    graph, artefact = specimen.graph, bytes(specimen.graph.data)
    inputs: Arrays = {specimen.input: specimen.subject.inputs.arrays[specimen.looked_at]}
    right = emulated(graph, (), inputs, load_profile(TRUTH)).outputs
    profile = load_profile(IN_FP16 if fault in OVERFLOW else TRUTH)
    for tensor, at in _draws(tappable(graph), fault, seed):
        site = graph.main.tensors[tensor].name
        model = planted_anywhere(artefact, site, fault, at)
        if model is None or model == artefact:
            continue
        if fault not in WEIGHTS_ALONE:
            found = emulated(parsed(model), (), inputs, profile).outputs
            if not max(error_of(found[name], each) for name, each in right.items()) > MATTERS:
                continue
        path = folder / f"{fault}.tflite"
        path.write_bytes(model)
        write_manifest(path, read_manifest(specimen.artefact).provenance)
        operator = graph.main.producers[tensor]
        return PlantedGraph(fault, site, at, f"op {operator.index} {operator.name}", path)
    raise BadInput(f"{specimen.subject.record.source}: the fault {fault} has no effect at any operator")


def artefact_row(
    rig: Rig, specimen: Specimen, found: PlantedGraph, spec: str, execution: Execution, located: Localised | None
) -> FaultRow:
    """The planted file is the one that is judged: what its device must give is known, and is wrong.

    `located` is the answer at another device: the converter's fault is the file's, and none of a device's.
    """
    predicted = rig.predicted(specimen, found.path, execution)
    run = rig.judged(specimen, found.path, spec, execution, predicted)
    seen = seen_by_gate(run.judgement)
    if seen and (located is None or located.kind != "converter"):
        located = in_artefact(rig, specimen, found.path, found.site, spec)
    return fault_row(found.fault, "artefact", spec, found.operator, seen, located)


def device_row(rig: Rig, specimen: Specimen, found: PlantedGraph, spec: str, execution: Execution) -> FaultRow:
    """The right file is judged, and a device with the fault in this operator runs it."""
    right = rig.run(specimen, specimen.artefact, spec)
    predicted = rig.predicted(specimen, specimen.artefact, right)
    faulty = as_the_right_one(execution, right)
    run = rig.judged(specimen, specimen.artefact, spec, faulty, predicted)
    seen = seen_by_gate(run.judgement)
    located = in_device(rig, specimen, (found.site, found.fault, found.at), spec) if seen else None
    return fault_row(found.fault, "device", spec, found.operator, seen, located)


def shows(fault: str, spec: str) -> bool:
    """Whether a device can show the fault at all."""
    return fault not in OVERFLOW or not on_cpu(spec)


def _draws(sites: tuple[int, ...], fault: str, seed: int) -> Iterator[tuple[int, int]]:
    """Every operator once, in a drawn order, with a drawn number for each."""
    words = uniform_integers(seed, f"selftest graph {fault}", 2 * len(sites))
    for place in np.argsort(words[: len(sites)], kind="stable"):
        yield sites[place], int(words[len(sites) + place] >> np.uint64(33))
