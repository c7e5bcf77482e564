"""What a profile makes of a graph's tensors: all of them at once, or those of a piece of it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fidelity.arithmetic.profile import Profile
from fidelity.errors import BadInput
from fidelity.localisation.on_device import Array, Arrays
from fidelity.prediction.site import Site
from fidelity.prediction.watch import SiteWatch
from fidelity.tflite.edit import TAP, prefix, with_taps
from fidelity.tflite.emulation.emulate import Emulated, Emulator
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Graph

TRUTH, STAND_IN, STAND_IN_SINGLE = "ieee-fp32", "ieee-fp16-storage", "ieee-fp32"


@dataclass(frozen=True)
class Emulation:
    """Outputs by name, values by tensor, and every site with the largest magnitude that it reached."""

    outputs: Arrays
    values: dict[int, Array]
    sites: tuple[Site, ...]


def emulated(graph: Graph, tensors: Sequence[int], inputs: Arrays, profile: Profile, name: str = "traced") -> Emulation:
    """What a profile makes of the graph with these tensors shown. Raises BadInput for what the emulator lacks."""
    shown = parsed(with_taps(graph, tensors)) if tensors else graph
    emulator = Emulator(shown, profile)
    watch = SiteWatch(shown.main, profile, emulator.steps)
    entered = {index: inputs[key] for key, index in emulator.signature.inputs}
    found = whole_outputs(emulator.run(inputs, watch.during(name, entered)), graph)
    values = {index: found.pop(f"{TAP}{index}") for index in tensors}
    return Emulation(found, values, watch.sites())


def emulated_piece(piece: Graph, inputs: Arrays, profile: Profile) -> Arrays:
    """The outputs of a piece, of which `inputs` may hold more than it takes. Raises BadInput as `emulated`."""
    emulator = Emulator(piece, profile)
    return whole_outputs(emulator.run({name: inputs[name] for name, _ in emulator.signature.inputs}), piece)


def emulated_tensor(graph: Graph, tensor: int, inputs: Arrays, profile: Profile) -> Array:
    """One tensor of the graph, by what computes it alone."""
    return emulated_piece(parsed(prefix(graph, tensor)), inputs, profile)[f"{TAP}{tensor}"]


def whole_outputs(found: Emulated, graph: Graph) -> Arrays:
    """The outputs, all of them. Raises BadInput for an operation that the emulator lacks."""
    if found.missing:
        first = found.missing[0]
        others = f", and {len(found.missing) - 1} more are missing" if len(found.missing) > 1 else ""
        raise BadInput(
            f"{graph.path}: op {first.operator} {first.name}: {first.reason}{others}: what it must give is not known, "
            f"nor of the {len(found.unreached)} operators after it; cut them off, or build the graph without it"
        )
    return found.outputs


def parsed(model: bytes) -> Graph:
    """The graph of a file's bytes; its weights stay mapped after the file's name is gone."""
    with tempfile.TemporaryDirectory(prefix="fidelity-locate-") as scratch:
        path = Path(scratch) / "piece.tflite"
        path.write_bytes(model)
        return read_graph(path)
