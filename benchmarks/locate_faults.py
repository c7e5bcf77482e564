"""How often `locate` names the very operator of a fault that was planted in it, and what that costs in device runs.

    python benchmarks/locate_faults.py FILE SOURCE FOLDER [--count 100]

FILE is a float16 artefact of SOURCE with seeded weights. Faults are drawn over every operator that computes something
from the input, over the faults that it can have, and over where they are planted:

  gpu       the device is wrong, wherever the operator runs        -> kernel
  gpu-graph the device is wrong in graphs of more than 3 operators -> layout-or-fusion
  cpu, cpu-graph  the same of the CPU
  overflow  the file is right in float32 and beyond fp16           -> overflow
  artefact  the file is another than the model                     -> converter

A fault that moves the output by less than 0.03 (relative L2; twice what fp16 may) is drawn again: it fails no gate. A
result is a line of FOLDER/faults.jsonl, so that an interrupted trial goes on.

    python benchmarks/locate_faults.py FILE SOURCE FOLDER --packs PYTHON

makes the repro pack of every fault that was found, and runs it with PYTHON, that of a new environment with
ai-edge-litert and NumPy alone. The device of a planted fault is the right one and a model with the fault, so that is
what is packed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fidelity.arithmetic.profile import load_profile
from fidelity.devices.discovery import Device as FoundDevice
from fidelity.devices.discovery import resolve
from fidelity.faults.plant import FAULTS, OPERATORS, OVERFLOW, RESULTS, planted
from fidelity.gating.artefacts import tower_of
from fidelity.gating.expecting import profile_for
from fidelity.localisation import search as locating
from fidelity.localisation import torch_nodes
from fidelity.localisation import trace as tracing
from fidelity.localisation.asked import Answer, Good, Where
from fidelity.localisation.conversion import beside_pytorch
from fidelity.localisation.emulations import TRUTH, emulated, parsed
from fidelity.localisation.locate import locate
from fidelity.localisation.noise import NOISE, NOISE_SINGLE, error_of
from fidelity.localisation.on_device import Arrays, Ran, RunModel, on_device
from fidelity.localisation.pieces import Case
from fidelity.localisation.records import Errors, Located
from fidelity.localisation.reference import Reference
from fidelity.localisation.repro.piece import Blame, smallest
from fidelity.localisation.repro.write import Device, write_pack
from fidelity.localisation.taps import tappable
from fidelity.localisation.wanted import wanted_values
from fidelity.models.counter_random import uniform_integers
from fidelity.models.subject import build_subject, truth
from fidelity.prediction.module_path import block_of, module_path
from fidelity.rewrites.catalogue import chosen
from fidelity.tflite.edit import cut
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Graph

MATTERS = 0.03
OVERFLOWS = 65504 / 2.0**13  # what the planted factor takes beyond fp16
GOOD = Good(device=0.01414, cpu=0.004472)
SHARES = (("gpu", 18), ("gpu-graph", 8), ("overflow", 6), ("cpu", 18), ("cpu-graph", 10), ("artefact", 40))
KINDS = {
    "gpu": "kernel",
    "gpu-graph": "layout-or-fusion",
    "cpu": "kernel",
    "cpu-graph": "layout-or-fusion",
    "overflow": "overflow",
    "artefact": "converter",
}
ARTEFACT = [name for name in FAULTS if name not in ("stale_output", "aliased_output", "overflow")]
"""Stale and aliased memory are a device's."""
LARGEST_PIECE = 3


@dataclass(frozen=True)
class Drawn:
    """One planted fault."""

    number: int
    place: str
    tensor: int
    fault: str
    at: int


class Trial:
    """One artefact with its model and one photograph."""

    def __init__(self, file: Path, source: str) -> None:
        self.graph = read_graph(file)
        subject = build_subject(source, "seeded", 0, Path("golden/images"), ("astronaut",))
        ((name, _),) = self.graph.signature().inputs
        self.inputs: Arrays = {name: subject.inputs.arrays["astronaut"]}
        outputs = {output: truth(subject)["astronaut"] for output, _ in self.graph.signature().outputs}
        self.reference = Reference(source, outputs, tower_of(subject, chosen("all")))
        self.sites = tappable(self.graph)
        right = emulated(self.graph, self.sites, self.inputs, load_profile(TRUTH))
        self.right = right.outputs
        self.large = tuple(each for each in self.sites if np.abs(right.values[each]).max(initial=0) > OVERFLOWS)
        self.gpu, self.cpu = on_device(resolve("gpu")), on_device(resolve("cpu"))

    def draw(self, count: int) -> Iterator[Drawn]:
        """Faults that matter, in the shares of SHARES."""
        places = [place for place, share in SHARES for _ in range(round(share * count / 100))]
        order = np.argsort(uniform_integers(0, "fault places", len(places)), kind="stable")
        for number, place in enumerate(places[each] for each in order):
            words = iter(uniform_integers(0, f"fault {number}", 3 * 400).tolist())
            while True:
                sites = self.large if place == "overflow" else self.sites
                tensor = sites[next(words) % len(sites)]
                names = (
                    list(OVERFLOW)
                    if place == "overflow"
                    else ARTEFACT
                    if place == "artefact"
                    else [*RESULTS, *OPERATORS]
                )
                drawn = Drawn(number, place, tensor, names[next(words) % len(names)], next(words) % (1 << 31))
                if self.matters(drawn):
                    yield drawn
                    break

    def matters(self, drawn: Drawn) -> bool:
        """Whether the planted graph's output is far enough from the right one."""
        model = planted(bytes(self.graph.data), self.name(drawn), drawn.fault, drawn.at)
        if model is None:
            return False
        profile = load_profile("mldrift-webgpu-lavapipe" if drawn.place == "overflow" else TRUTH)
        found = emulated(parsed(model), (), self.inputs, profile).outputs
        return max(error_of(found[name], each) for name, each in self.right.items()) > MATTERS

    def name(self, drawn: Drawn) -> str:
        """The name of the tensor whose operator has the fault."""
        return self.graph.main.tensors[drawn.tensor].name

    def locate(self, drawn: Drawn) -> tuple[Answer, Graph]:
        """The answer, and the graph that it is about: the planted one where the file has the fault."""
        gpu = drawn.place in ("gpu", "gpu-graph", "overflow")
        right = self.gpu if gpu else self.cpu
        graph, reference, run = self.graph, None, right
        if drawn.place in ("overflow", "artefact"):
            model = planted(bytes(graph.data), self.name(drawn), drawn.fault, drawn.at)
            if model is None:
                raise ValueError(f"{drawn}: cannot be planted")
            graph, reference = parsed(model), self.reference if drawn.place == "artefact" else None
        else:
            run = self.faulty(right, drawn)
        where = Where(
            "the software GPU" if gpu else "the CPU",
            run,
            self.cpu if gpu else run,
            profile_of=lambda ran: profile_for(ran.result, None) if ran.result else None,
        )
        return locate(graph, self.inputs, where, GOOD, reference, "astronaut"), graph

    def blame(self, drawn: Drawn, row: dict[str, Any]) -> tuple[Blame, FoundDevice]:
        """What the pack of a found fault is made of, and the device that it is for."""
        gpu = drawn.place in ("gpu", "gpu-graph", "overflow")
        right = self.gpu if gpu else self.cpu
        profile = load_profile("mldrift-webgpu-lavapipe" if gpu else TRUTH)
        graph, run, truth_of = self.graph, self.faulty(right, drawn), {}
        operators = (int(row["culprit"].split()[1]),)
        if drawn.place in ("overflow", "artefact"):
            model = planted(bytes(graph.data), self.name(drawn), drawn.fault, drawn.at)
            graph, run = parsed(model or b""), right
        if drawn.place == "artefact":
            beside, values = beside_pytorch(graph, self.inputs, self.reference)
            known, tensor = beside.counterparts, graph.main.operators[operators[0]].outputs[0]
            truth_of = {**values, **known.values}
            truth_of |= wanted_values(graph, tensor, known, self.reference, self.inputs)
        case = Case(graph, self.inputs, run, profile, NOISE if gpu else NOISE_SINGLE)
        device = resolve("gpu" if gpu else "cpu")
        return Blame(case, operators, row["kind"], truth_of), device

    def faulty(self, right: RunModel, drawn: Drawn) -> RunModel:
        """The device, with the fault in whatever it runs."""
        smallest = LARGEST_PIECE + 1 if drawn.place.endswith("-graph") else 1

        def run(model: bytes, inputs: Arrays) -> Ran:
            if len(parsed(model).main.operators) < smallest:
                return right(model, inputs)
            spoilt = planted(model, self.name(drawn), drawn.fault, drawn.at)
            return right(model if spoilt is None else spoilt, inputs)

        return run


def judged(trial: Trial, drawn: Drawn) -> dict[str, Any]:
    """One line of the result."""
    started = time.monotonic()
    answer, graph = trial.locate(drawn)
    seconds = time.monotonic() - started
    found = answer.located
    site = trial.graph.main.producers[drawn.tensor]
    blamed = [index for op in answer.operators for index in graph.main.operators[op].outputs]
    names = {graph.main.tensors[index].name for index in blamed}
    mine = {trial.name(drawn)} | {n for n in names if n.startswith("planted_")}
    kind = KINDS[drawn.place]
    if kind == "kernel" and planted_alone(trial, drawn) is False:
        kind = "layout-or-fusion"
    module = module_path(trial.name(drawn)) or ""
    return {
        **vars(drawn),
        "operator": site.index,
        "kind_of_operator": site.name,
        "module": module,
        "kind": found.kind,
        "kind_right": found.kind == kind,
        "exact": len(answer.operators) == 1 and bool(names & mine),
        "group": len(answer.operators),
        "in_group": bool(names & mine),
        "block_right": bool(found.culprit) and block_of(found.culprit.module or module) == block_of(module),
        "culprit": found.culprit.place if found.culprit else None,
        "runs": found.device_runs,
        "seconds": round(seconds, 1),
        "evidence": list(found.evidence)[:3],
    }


def packs(trial: Trial, rows: list[dict[str, Any]], folder: Path, python: Path) -> None:
    """A pack for every row, replayed; how large they are and how many fail again."""
    sizes: Counter[Any] = Counter()
    for row in sorted(rows, key=lambda each: each["number"]):
        drawn = Drawn(row["number"], row["place"], row["tensor"], row["fault"], row["at"])
        target = folder / "packs" / str(drawn.number)
        shutil.rmtree(target, ignore_errors=True)
        size, code = packed(trial, drawn, row, target, python)
        sizes[size, code] += 1
        print(
            f"{drawn.number:3} {drawn.place:9} {drawn.fault:18} {row['culprit']}: {size} operators, exit {code}",
            flush=True,
        )
    print("operators in the piece, exit code of run.py: how many", dict(sizes))
    print(
        f"{sum(n for (size, code), n in sizes.items() if size <= LARGEST_PIECE and code == 1)} fail again in at most "
        f"{LARGEST_PIECE} operators"
    )


def packed(trial: Trial, drawn: Drawn, row: dict[str, Any], target: Path, python: Path) -> tuple[int, int]:
    """The operators in one pack, and what its program ends with; 0 and -1 where there is none."""
    blame, device = trial.blame(drawn, row)
    piece = smallest(blame)
    if piece is None:
        return 0, -1
    spoilt = planted(piece.model, trial.name(drawn), drawn.fault, drawn.at) if blame.case.graph is trial.graph else None
    piece = replace(piece, model=spoilt or piece.model)
    errors = Errors(actual=0.0, expected=0.0, cpu=0.0)
    located = Located(
        input="astronaut",
        device=device.info.name,
        kind=blame.kind,
        culprit=None,
        evidence=tuple(row["evidence"]),
        cure="",
        errors=errors,
        trace=None,
        device_runs=0,
    )
    accelerator = "cpu" if device.job_device == "cpu" else "gpu"
    words = Device(
        name=device.info.name, driver=device.info.driver, accelerator=accelerator, precision="default", versions={}
    )
    write_pack(target, piece, blame.case.graph, located, words)
    command = [str(python), str(target / "run.py")]
    ran = subprocess.run(
        command, env={**os.environ, **device.environment}, capture_output=True, timeout=300, check=False
    )
    return len(piece.operators), ran.returncode


def planted_alone(trial: Trial, drawn: Drawn) -> bool:
    """Whether the operator has the fault when it is cut out: what was read from elsewhere in the graph is not there."""
    piece = cut(trial.graph, [trial.graph.main.producers[drawn.tensor].index])
    return planted(piece, trial.name(drawn), drawn.fault, drawn.at) is not None


def main() -> None:
    """Run the trial, or what is left of it, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("source")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--only", default="", help="places, as in gpu,overflow")
    parser.add_argument(
        "--alone", action="store_true", help="compute everything anew for each fault, as one search does"
    )
    parser.add_argument("--packs", type=Path, default=None, help="the python of a new environment")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = options.folder / "faults.jsonl"
    done = {row["number"]: row for row in map(json.loads, lines.read_text().splitlines())} if lines.exists() else {}
    if not options.alone:
        remember(options.file)
    trial = Trial(options.file, options.source)
    if options.packs:
        packs(trial, list(done.values()), options.folder, options.packs)
        return
    places = options.only.split(",") if options.only else [place for place, _ in SHARES]
    for drawn in trial.draw(options.count):
        if drawn.number in done or drawn.place not in places:
            continue
        done[drawn.number] = judged(trial, drawn)
        with lines.open("a") as stream:
            stream.write(json.dumps(done[drawn.number]) + "\n")
        row = done[drawn.number]
        print(
            f"{drawn.number:3} {drawn.place:9} {drawn.fault:18} op {row['operator']:4} {row['kind_of_operator']:16} "
            f"{'exact' if row['exact'] else '-----'} {row['kind']:16} {'' if row['kind_right'] else 'KIND'} "
            f"{row['runs']} runs {row['seconds']} s  {row['culprit']}",
            flush=True,
        )
    summary(list(done.values()), len(trial.graph.main.operators))


def remember(file: Path) -> None:
    """Compute what all faults share once: the emulation of the right graph, and the values of PyTorch.

    The answers are the same; only the seconds are not those of a search on its own.
    """
    emulate = locating.emulated
    emulations: dict[Any, Any] = {}

    def once(graph: Graph, tensors: Any, inputs: Arrays, profile: Any, name: str = "traced") -> Any:
        key = (tuple(tensors), profile.name)
        if graph.path != file:
            return emulate(graph, tensors, inputs, profile, name)
        if key not in emulations:
            emulations[key] = emulate(graph, tensors, inputs, profile, name)
        return emulations[key]

    locating.emulated = tracing.emulated = once
    visit_nodes = torch_nodes.visit_nodes
    nodes: dict[Any, list[Any]] = {}

    def replay(tower: Any, inputs: Any, outputs: Any, halved: frozenset[str], visit: Any) -> None:
        if halved not in nodes:
            nodes.clear()
            nodes[halved] = []
            visit_nodes(tower, inputs, outputs, halved, nodes[halved].append)
        for node in nodes[halved]:
            visit(node)

    torch_nodes.visit_nodes = replay


def summary(rows: list[dict[str, Any]], operators: int) -> None:
    """The figures of the issue."""
    limit = math.ceil(math.log2(operators)) + 4
    print(
        f"{len(rows)} faults: exact operator {sum(r['exact'] for r in rows)}, "
        f"block {sum(r['block_right'] for r in rows)}, kind {sum(r['kind_right'] for r in rows)}"
    )
    print(
        f"runs of the device: at most {max(r['runs'] for r in rows)}, mean {np.mean([r['runs'] for r in rows]):.2f}, "
        f"allowed {limit}; seconds: at most {max(r['seconds'] for r in rows)}"
    )
    print(Counter((r["place"], r["kind"]) for r in rows))


if __name__ == "__main__":
    main()
