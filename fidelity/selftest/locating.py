"""Where a planted fault is said to be, by `locate` as the gate and its verb ask it, and whether that is where it is."""

from __future__ import annotations

from pathlib import Path

from fidelity.devices.discovery import on_cpu, resolve
from fidelity.faults.swapped import planted_anywhere
from fidelity.gating.expecting import profile_for
from fidelity.gating.locating import good_by
from fidelity.localisation.asked import Answer, Where
from fidelity.localisation.locate import locate
from fidelity.localisation.on_device import Arrays, Ran, RunModel, on_device
from fidelity.localisation.reference import Reference
from fidelity.selftest.records import Localised
from fidelity.selftest.rig import Rig
from fidelity.selftest.specimen import Specimen
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Graph

Fault = tuple[str, str, int]
"""The tensor whose operator has it, its name, the drawn number."""


def in_artefact(rig: Rig, specimen: Specimen, artefact: Path, site: str, spec: str) -> Localised:
    """A planted file beside PyTorch."""
    graph = read_graph(artefact)
    return _localised(_answer(rig, specimen, graph, spec, on_device(rig.devices[spec])), graph, site)


def in_device(rig: Rig, specimen: Specimen, fault: Fault, spec: str) -> Localised:
    """The right file on a device that has the fault in whatever it runs, pieces of the graph too."""
    right = on_device(rig.devices[spec])
    site, name, at = fault

    def faulty(model: bytes, inputs: Arrays) -> Ran:
        spoilt = planted_anywhere(model, site, name, at)
        return right(model if spoilt is None else spoilt, inputs)

    return _localised(_answer(rig, specimen, specimen.graph, spec, faulty, beside=False), specimen.graph, site)


def in_overflowing(rig: Rig, specimen: Specimen, artefact: Path, module: str, spec: str) -> Localised:
    """The artefact of a model that overflows in one module: exact is an operator of that module."""
    answer = _answer(rig, specimen, read_graph(artefact), spec, on_device(rig.devices[spec]), beside=False)
    culprit = answer.located.culprit
    told = (culprit.place, culprit.module or "") if culprit else (None, "")
    return Localised(kind=answer.located.kind, where=told[0], exact=_inside(told[1], module))


def _answer(rig: Rig, specimen: Specimen, graph: Graph, spec: str, run: RunModel, *, beside: bool = True) -> Answer:
    """What `locate` says of a graph on a device, at one input; `beside` PyTorch, or the graph itself in float32."""
    name = specimen.looked_at
    reference = None
    if beside:
        outputs = {output: specimen.truth[name] for output, _ in graph.signature().outputs}
        reference = Reference(specimen.subject.record.source, outputs, specimen.tower)
    where = Where(
        rig.devices[spec].info.name,
        run,
        run if on_cpu(spec) else on_device(resolve("cpu")),
        profile_of=lambda ran: profile_for(ran.result, None) if ran.result else None,
    )
    inputs: Arrays = {specimen.input: specimen.subject.inputs.arrays[name]}
    return locate(
        graph, inputs, where, good_by(rig.policy, "cpu" if on_cpu(spec) else "gpu", "fp16", "float16"), reference, name
    )


def _inside(told: str, module: str) -> bool:
    """Whether an artefact's name of a module, as `EvaBlock_0.norm1`, is the model's `blocks.0.norm1`, or inside it."""
    parts = told.split(" + ", maxsplit=1)[0].split(".")
    plain = ".".join(f"blocks.{p.rsplit('_', 1)[1]}" if p.startswith("EvaBlock_") else p for p in parts)
    return plain == module or plain.startswith(f"{module}.")


def _localised(answer: Answer, graph: Graph, site: str) -> Localised:
    """Exact is one operator that writes the site's tensor, or one that was planted behind it."""
    blamed = {graph.main.tensors[i].name for op in answer.operators for i in graph.main.operators[op].outputs}
    mine = {site} | {name for name in blamed if name.startswith("planted_")}
    culprit = answer.located.culprit
    where = culprit.place if culprit else None
    return Localised(kind=answer.located.kind, where=where, exact=len(answer.operators) == 1 and bool(blamed & mine))
