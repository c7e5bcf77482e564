"""`fidelity judge`: a .tflite without its source model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cache import Cache
from fidelity.cli import options as o
from fidelity.cli.gate import PolicyOption
from fidelity.cli.lines import check_lines
from fidelity.cli.run import result_lines
from fidelity.errors import EXIT_FAIL, EXIT_PASS, BadInput

if TYPE_CHECKING:
    from fidelity.gating.bare.records import BareReport, BareRun, EntryReport


def judge(
    file: o.Artefact,
    device: o.Devices = None,
    precision: o.Precision = "default",
    signature: Annotated[str | None, typer.Option(help="Judge this entry point alone, not every one.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="NAME=1,224,224,3 binds a dynamic input; may be repeated.")
    ] = None,
    value_range: Annotated[
        list[str] | None, typer.Option("--range", help="NAME=0,1: range of an input's numbers; may be repeated.")
    ] = None,
    input_file: Annotated[
        list[str] | None, typer.Option("--input", help="NAME=FILE.npy in place of made inputs; may be repeated.")
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(help="Only these sets of inputs: random-0,astronaut; else all there are.")
    ] = None,
    policy: PolicyOption = "default",
    images: o.Images = o.IMAGES,
    seed: o.Seed = 0,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Is a .tflite computed rightly on these devices? Judged without its source model."""
    from fidelity.comparison.policy import load_policy  # noqa: PLC0415
    from fidelity.devices.discovery import on_cpu, resolve  # noqa: PLC0415
    from fidelity.gating.bare.entry import pairs, parsed_ranges, parsed_shapes  # noqa: PLC0415
    from fidelity.gating.bare.inputs import Asked  # noqa: PLC0415
    from fidelity.gating.bare.judge import Question, judge_bare  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    words = list(dict.fromkeys(device or ["cpu"]))
    files = {name: Path(path) for name, path in pairs("--input", input_file or ()).items()}
    question = Question(
        signature=signature,
        shapes=parsed_shapes(shape or ()),
        inputs=Asked(parsed_ranges(value_range or ()), files, images, seed, o.names(inputs)),
        devices=tuple((resolve(word), "default" if on_cpu(word) else precision) for word in words),
        policy=load_policy(policy),
    )
    if not file.is_file():
        raise BadInput(f"{file}: no such file")
    with session.reporter.stage(f"judge {file.name}", 1) as step:
        report = judge_bare(file, question, Cache(), step)
    session.show(report, lines(report, verbose))
    return EXIT_PASS if report.passed else EXIT_FAIL


def lines(report: BareReport, verbose: bool) -> list[str]:
    """Each entry point: what it was run on, what the truth rests on, each run as `compare` tells it."""
    told = [f"{report.artefact}: {report.nodes} operators, {len(report.entries)} entry point(s)"]
    for entry in report.entries:
        told += _entry_lines(entry, verbose)
    return [*told, "PASS" if report.passed else "FAIL"]


def _entry_lines(entry: EntryReport, verbose: bool) -> list[str]:
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in entry.inputs.items())
    told = [f"{entry.signature}: {shapes or 'no input'}; {len(entry.sets)} set(s) of inputs"]
    if entry.extract is not None:
        told.append(f"devices run this entry point alone, its shapes bound: sha256 {entry.extract[:16]}")
    truth = entry.truth
    told.append(f"truth rests on {truth.rests_on}: {truth.why}")
    told += [
        f"  {'ok  ' if each.holds else 'FAIL'} {each.output}: emulation {each.worst:.3g} from the reference kernels "
        f"({each.unit}), allowed {each.allowed:.3g}, at {each.at}"
        for each in truth.agreements
    ]
    shown = truth.lacking if verbose else truth.lacking[:3]
    told += [f"  not emulated: op {each.operator} {each.name}: {each.reason}" for each in shown]
    if len(shown) < len(truth.lacking):
        told.append(f"  ... and {len(truth.lacking) - len(shown)} more (-v shows all)")
    if not entry.runs:
        told.append("fail: no device was run, for there is no truth to hold it against")
    for run in entry.runs:
        told += [f"{run.label}:", *result_lines(run.result), *_verdict(run)]
    return told


def _verdict(run: BareRun) -> list[str]:
    return check_lines(run.judgement, several=len(run.units) > 1)
