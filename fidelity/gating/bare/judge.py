"""Judge a bare .tflite: every entry point, its truth established, every device held against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.comparison.run_facts import run_facts
from fidelity.devices.discovery import REFERENCE, Device
from fidelity.devices.job import Precision
from fidelity.devices.reference_kernels import SHAPES, TensorShapes
from fidelity.errors import BadInput
from fidelity.files import file_sha256
from fidelity.gating.bare.entry import Shape, bound, check_names, chosen, is_dynamic, taken
from fidelity.gating.bare.expecting import expected_of
from fidelity.gating.bare.inputs import Asked, input_sets
from fidelity.gating.bare.outputs import measured_outputs, reals_of
from fidelity.gating.bare.records import BareReport, BareRun, EntryReport
from fidelity.gating.bare.running import Sets, ran
from fidelity.gating.bare.truth import Established, establish
from fidelity.gating.bare.verdict import judged
from fidelity.progress import Step
from fidelity.tflite.edit import KEY, alone
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import weights_dtype_of
from fidelity.tflite.structure import Graph, Signature


@dataclass(frozen=True)
class Question:
    """What is asked of an artefact: which entry point (None: every one), shapes, inputs, devices, the policy."""

    signature: str | None
    shapes: dict[str, Shape]
    inputs: Asked
    devices: tuple[tuple[Device, Precision], ...]
    policy: Policy


def judge_bare(artefact: Path, question: Question, cache: Cache, step: Step) -> BareReport:
    """The whole judgement. Raises BadInput for a signature, shape, range or input file that does not fit the file."""
    graph = read_graph(artefact)
    entries = chosen(graph, question.signature)
    check_names("--shape", question.shapes, graph, entries)
    check_names("--range", question.inputs.ranges, graph, entries)
    check_names("--input", question.inputs.files, graph, entries)
    shapes = [bound(graph, entry, question.shapes) for entry in entries]  # all, before anything runs
    found = tuple(
        _entry(graph, entry, each, question, cache, step) for entry, each in zip(entries, shapes, strict=True)
    )
    return BareReport(
        artefact=artefact.name,
        sha256=file_sha256(artefact),
        nodes=sum(len(subgraph.operators) for subgraph in graph.subgraphs),
        passed=bool(found) and all(each.passed for each in found),
        entries=found,
    )


def _entry(
    graph: Graph, entry: Signature, shapes: dict[str, Shape], question: Question, cache: Cache, step: Step
) -> EntryReport:
    sets = input_sets(taken(graph, entry), shapes, question.inputs)
    kernels = ran(graph.path, REFERENCE, "default", entry.key, sets, cache, step)
    if kernels.result.status == "bad_input" or (kernels.result.status == "refused" and is_dynamic(graph, entry)):
        raise BadInput(f"{graph.path}: {entry.key}: the runtime refuses the inputs: {kernels.result.error}")
    given, signature, extract = graph.path, entry.key, None
    if kernels.result.status == "ok" and (is_dynamic(graph, entry) or len(graph.entry_points) > 1):
        given, signature = _extract(graph, entry, kernels.folder, cache), KEY
        extract = file_sha256(given)
    there = read_graph(given)
    measured = measured_outputs(there, there.signature(signature))
    truth = establish(kernels, given, signature, measured, sets, cache, step)
    runs: list[BareRun] = []
    if truth.record.rests_on != "nothing":
        for device, precision in question.devices:
            runs.append(_run(given, signature, device, precision, sets, truth, question.policy, cache, step))
    return EntryReport(
        signature=entry.key,
        inputs=shapes,
        sets=tuple(sets),
        extract=extract,
        truth=truth.record,
        runs=tuple(runs),
    )


def _run(
    artefact: Path,
    signature: str,
    device: Device,
    precision: Precision,
    sets: Sets,
    truth: Established,
    policy: Policy,
    cache: Cache,
    step: Step,
) -> BareRun:
    execution = ran(artefact, device, precision, signature, sets, cache, step)
    graph = read_graph(artefact)
    measured = measured_outputs(graph, graph.signature(signature))
    actual = reals_of(execution.outputs, measured)
    facts = run_facts(execution.job, execution.result, weights_dtype_of(graph))
    expectation = expected_of(execution, graph, signature, sets, actual, truth.outputs, step)
    comparison, judgement = judged(measured, actual, truth.outputs, facts, policy, expectation)
    return BareRun(
        label=f"{device.spec} {precision}",
        device=device.spec,
        precision=precision,
        result=execution.result,
        units={name: each.unit for name, each in measured.items()},
        comparison=comparison,
        expected=expectation,
        judgement=judgement,
    )


def _extract(graph: Graph, entry: Signature, ran_in: Path, cache: Cache) -> Path:
    """The file of this entry point alone with every tensor's shape as it ran, for what takes only static graphs."""
    shapes = TensorShapes.read(ran_in / SHAPES)
    data = alone(graph, entry.key, shapes.shapes)
    key = {"artefact": file_sha256(graph.path), "entry": entry.key, "shapes": sorted(shapes.shapes.items())}
    folder = cache.entry("extract", key, lambda folder: _write(folder / "entry.tflite", data))
    return folder / "entry.tflite"


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def failures(report: BareReport) -> Sequence[str]:
    """Why it does not pass, in lines for a person."""
    told = []
    for entry in report.entries:
        if entry.truth.rests_on in ("nothing", "disputed"):
            told.append(f"{entry.signature}: no truth to judge by: {entry.truth.why}")
        told += [
            f"{entry.signature}, {run.label}: {finding.message}"
            for run in entry.runs
            for finding in run.judgement.findings
            if finding.severity == "fail"
        ]
    return told
