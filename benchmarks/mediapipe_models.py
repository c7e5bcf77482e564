"""Judge every .tflite of a folder on the CPU and the GPU, and print the table of docs/judge.md.

    pip download --no-deps -d DIR mediapipe==0.10.21    # then unzip the wheel's *.tflite into FOLDER
    python benchmarks/mediapipe_models.py FOLDER [--device cpu --device gpu] [--fp32] [--keep DIR]

Each model is judged on random numbers and three photographs, in the range that MediaPipe's graphs give its input.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fidelity.cache import Cache
from fidelity.comparison.policy import load_policy
from fidelity.devices.discovery import on_cpu, resolve
from fidelity.errors import BadInput
from fidelity.gating.bare.inputs import Asked
from fidelity.gating.bare.judge import Question, failures, judge_bare
from fidelity.gating.bare.records import BareReport, BareRun, EntryReport
from fidelity.progress import Reporter
from fidelity.tflite.graph import read_graph

SETS = ("random-0", "astronaut", "coffee", "rocket")
SIGNED = ("face_detection", "pose_detection")
"""Models whose input MediaPipe scales to [-1, 1]; the others' is [0, 1]."""

HEAD = "| model | truth | on | nodes there | worst relative L2 | steady time | verdict |\n|---|---|---|---|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", action="append", help="cpu, gpu, ...")
    parser.add_argument("--fp32", action="store_true", help="the GPU in fp32 too")
    parser.add_argument("--model", action="append", help="only these, by file stem")
    parser.add_argument("--keep", type=Path, help="a folder for the reports, one JSON a model")
    asked = parser.parse_args()
    runs = [
        (resolve(word), precision)
        for word in asked.device or ["cpu", "gpu"]
        for precision in (["default", "fp32"] if asked.fp32 and not on_cpu(word) else ["default"])
    ]
    print(HEAD, flush=True)
    reasons: list[str] = []
    for path in sorted(asked.folder.glob("*.tflite")):
        if asked.model and path.stem not in asked.model:
            continue
        reporter = Reporter()
        try:
            with reporter.stage(path.stem, len(SETS)) as step:
                report = judge_bare(path, _question(path, runs), Cache(), step)
        except BadInput as error:
            print(f"| `{path.stem}` | | | | | | bad input: {error} |", flush=True)
            continue
        if asked.keep:
            report.write(asked.keep / f"{path.stem}.json")
        for line in _rows(path.stem, report):
            print(line, flush=True)
        reasons += [f"{path.stem}: {line}" for line in failures(report)]
    print("\n".join(["", *reasons]))


def _question(path: Path, runs: list) -> Question:  # type: ignore[type-arg]
    names = [name for entry in read_graph(path).entry_points for name, _ in entry.inputs]
    low = -1.0 if path.stem.startswith(SIGNED) else 0.0
    inputs = Asked(dict.fromkeys(names, (low, 1.0)), {}, Path("golden/images"), 0, SETS)
    return Question(None, {}, inputs, tuple(runs), load_policy())


def _rows(name: str, report: BareReport) -> list[str]:
    rows = []
    for entry in report.entries:
        if not entry.runs:
            rows.append(f"| `{name}` | {entry.truth.rests_on} | | | | | refused: {entry.truth.why[:90]} |")
        rows += [_row(name, entry, run) for run in entry.runs]
    return rows


def _row(name: str, entry: EntryReport, run: BareRun) -> str:
    r, timing = run.result.residency, run.result.timing
    nodes = f"{r.nodes_on_device} of {r.nodes_total}" if r else "not known"
    errors = [o.metrics["relative_l2"] for o in run.comparison.outputs if "relative_l2" in o.metrics]
    worst = f"{max(errors):.2g}" if errors else "-"
    steady = f"{timing.steady * 1000:.0f} ms" if timing and timing.steady is not None else "-"
    had = f"{run.device.partition(':')[0]} {run.result.precision_had}"
    verdict = "pass" if run.judgement.passed else "**fail**"
    return f"| `{name}` | {entry.truth.rests_on} | {had} | {nodes} | {worst} | {steady} | {verdict} |"


if __name__ == "__main__":
    main()
