"""A device's intermediate tensors: the graph with further outputs, in as few runs as the device allows.

A further output can change what is computed: it keeps operations from being taken together, and a
delegate may answer with another tensor (LiteRT #8599). So every tapped run gives the graph's own
outputs too, and whether they are still those of the graph without taps is part of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fidelity.arithmetic.profile import Profile
from fidelity.comparison.expectation import same_bits
from fidelity.localisation.on_device import Array, Arrays, RunModel
from fidelity.tflite.edit import TAP, with_taps
from fidelity.tflite.emulation.schedule import schedule
from fidelity.tflite.structure import Graph


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
    steps = schedule(graph, subgraph, profile) if profile else ()
    written = {step.writes for step in steps if not step.inside and not step.followed}
    found = []
    for op in subgraph.operators:
        found += [index for index in op.outputs if index in graph.live and subgraph.tensors[index].dtype == "float32"]
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
