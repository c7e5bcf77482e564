"""A blind trial: whole models predicted under the shipped profile first, then run on the software GPU.

python benchmarks/whole_models.py FOLDER [CASE ...]

Writes FOLDER/predictions.json before anything runs, then FOLDER/trial.json; prints a row for each case and
input: outputs with the device's very bits, correlation with float64 predicted and actual, and whether a
site overflowed. A case is MODEL/WEIGHTS/REWRITES; without any, those of the docs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.observe import Observer, Part
from fidelity.arithmetic.profile import load_profile
from fidelity.cache import Cache
from fidelity.comparison.metrics.correlation import correlation
from fidelity.comparison.metrics.outcome import Measured
from fidelity.devices.discovery import resolve
from fidelity.gating.artefacts import make_artefact
from fidelity.gating.config import RunPlan
from fidelity.gating.execution import execute
from fidelity.models.subject import build_subject, truth
from fidelity.rewrites.catalogue import chosen
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Operator

PROFILE = "mldrift-webgpu-lavapipe"
STOCK = "split_qkv,rotate_half,pool_one_query"
FEW = ("astronaut", "coffee", "noise", "black")
PEAKS = {"tiny_patch16_384": (400, 900), "small_patch16_384": (400, 900), "base_patch16_224": (200, 540)}
CASES = [
    f"{model}/{weights}/{rewrites}"
    for model, peaks in PEAKS.items()
    for weights in ("seeded", *(f"massive:{peak}@1" for peak in peaks))
    for rewrites in ("all", STOCK)
]
LARGEST = 65504.0


def main() -> None:
    """Predict every case, write the predictions down, then run them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    cases = sys.argv[2:] or CASES
    predictions = {case: predicted(case, folder) for case in cases}
    stored = {case: {name: p["told"] for name, p in each.items()} for case, each in predictions.items()}
    (folder / "predictions.json").write_text(json.dumps(stored, indent=1))
    rows = [row for case in cases for row in compared(case, predictions[case], folder)]
    (folder / "trial.json").write_text(json.dumps(rows, indent=1))
    same = sum(row["identical"] == row["outputs"] for row in rows)
    worst = max(abs(row["predicted"] - row["actual"]) for row in rows)
    agree = sum(row["overflow"] == row["collapsed"] for row in rows)
    print(f"{len(rows)} cases: {same} bit-identical, correlations within {worst:.1e}, overflow agrees in {agree}")


def subject_of(case: str) -> Any:
    """The model of a case, with its inputs: all of B/16's, four of the larger images'."""
    model, weights, _ = case.split("/")
    names = None if model.startswith("base") else FEW
    return build_subject(f"timm:vit_pe_core_{model}", weights, 0, Path("golden/images"), names)


def artefact_of(case: str, subject: Any) -> Path:
    """The .tflite of a case, with float16 weights."""
    return make_artefact(subject, chosen(case.split("/")[2]), "float16", Cache(), lambda _: None)


def predicted(case: str, folder: Path) -> dict[str, Any]:
    """Expected outputs by input, with what is told of them before the device runs."""
    subject = subject_of(case)
    emulator = Emulator(read_graph(artefact_of(case, subject)), load_profile(PROFILE))
    wanted = truth(subject)
    (key, _), *_ = emulator.signature.inputs
    found = {}
    for name, array in subject.inputs.arrays.items():
        overflowed: list[str] = []
        started = time.perf_counter()
        expected = emulator.run({key: array}, lambda op, seen=overflowed: watcher(op, seen)).outputs  # type: ignore[misc]
        seconds = time.perf_counter() - started
        (output,) = expected.values()
        told = {"correlation": related(output, wanted[name]), "first": overflowed[0] if overflowed else None}
        print(f"predicted {case} {name}: {told}, {seconds:.1f} s", flush=True)
        found[name] = {"output": output, "truth": wanted[name], "told": told}
    return found


def watcher(op: Operator, overflowed: list[str]) -> Observer:
    """Notes the operator when one of its numbers is at the end of float16's range, or NaN."""

    def observe(part: Part, values: NDArray[np.float32]) -> None:
        if part in ("result", "difference", "product") and not np.all(np.abs(values) < LARGEST):
            overflowed.append(f"{op.index} {op.name} {part}")

    return observe


def compared(case: str, predictions: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Run a case on the GPU and hold each output against what was predicted."""
    subject = subject_of(case)
    plan = RunPlan(label="trial", device="gpu", weights_dtype="float16", timeout_seconds=1800)
    artefact = artefact_of(case, subject)
    execution = execute(artefact, resolve("gpu"), plan, subject.inputs.arrays, Cache(), lambda _: None)
    rows = []
    for name, prediction in predictions.items():
        (actual,) = execution.outputs[name].values()
        reached = related(actual, prediction["truth"])
        rows.append(
            {
                "case": case,
                "input": name,
                "outputs": actual.size,
                "identical": int(np.sum(actual.view(np.uint32) == prediction["output"].view(np.uint32))),
                "predicted": prediction["told"]["correlation"],
                "actual": reached,
                "overflow": prediction["told"]["first"] is not None,
                "collapsed": not reached > 0.99,
            }
        )
        print(rows[-1], flush=True)
    return rows


def related(output: NDArray[Any], wanted: NDArray[np.float64]) -> float:
    """Correlation with float64; -2 where there is none, as for a constant or NaN."""
    found = correlation(output, wanted)
    return found.value if isinstance(found, Measured) else -2.0


if __name__ == "__main__":
    main()
