"""`fidelity sweep`: an artefact against PyTorch over a whole data set, on as many processes or hosts as there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.cli.gate import PolicyOption
from fidelity.cli.lines import check_lines
from fidelity.errors import EXIT_FAIL, EXIT_PASS

if TYPE_CHECKING:
    from fidelity.sweeping.agreement import Agreement
    from fidelity.sweeping.report import RunSummary, SweepReport

_SHOWN = 5


def sweep(
    file: o.Artefact,
    data: Annotated[Path, typer.Argument(help="A folder of images or of .tar shards, or one .tar.")],
    reference: Annotated[str, typer.Option(help="timm:NAME")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the sweep; given again, it goes on.")],
    weights: o.Weights = "seeded",
    device: o.Devices = None,
    precision: o.Precision = "default",
    policy: PolicyOption = "default",
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes on this machine.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="A Dask scheduler's address instead: tcp://HOST:PORT")] = None,
    chunk: Annotated[int, typer.Option(min=1, max=4096, help="Images of one unit of work.")] = 64,
    worst: Annotated[int, typer.Option(min=1, max=1000, help="How many of the worst images are kept.")] = 10,
    allow_unreadable: Annotated[int, typer.Option(min=0, help="How many images may be unreadable.")] = 0,
    seed: o.Seed = 0,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Does this artefact match PyTorch on every image of a data set?"""
    from fidelity.comparison.policy import load_policy  # noqa: PLC0415
    from fidelity.sweeping.cluster import Workers  # noqa: PLC0415
    from fidelity.sweeping.sweep import SweepChoice, sweep_order  # noqa: PLC0415
    from fidelity.sweeping.sweep import sweep as run_sweep  # noqa: PLC0415

    session = o.Session(json, verbose, None)
    limits = load_policy(policy)
    devices = tuple(dict.fromkeys(device or ["cpu"]))
    order = sweep_order(file, data, reference, weights, seed, devices, precision)
    choice = SweepChoice(chunk=chunk, worst=worst, allow_unreadable=allow_unreadable)
    report = run_sweep(order, data, output, limits, Workers(workers, scheduler), choice, session.reporter)
    session.show(report, [*sweep_lines(report, verbose), f"results: {output}"])
    return EXIT_PASS if report.passed else EXIT_FAIL


def sweep_lines(report: SweepReport, verbose: bool) -> list[str]:
    """Counts, then each device with its shares and worst images, then why it failed, then the verdict."""
    lines = [
        f"{report.images} images of {report.data}: {report.distinct} distinct, {report.duplicates} duplicates, "
        f"{report.unreadable} unreadable"
    ]
    for run in report.runs:
        lines += _run_lines(run, verbose)
    lines += [f"fail: {reason}" for reason in report.reasons]
    return [*lines, f"{'PASS' if report.passed else 'FAIL'}: {report.artefact} over {report.images} images"]


def _run_lines(run: RunSummary, verbose: bool) -> list[str]:
    kind = run.judgement.kind
    lines = [
        f"{run.device} ({kind}): {_share(run.passed)} within every limit",
        f"  nearest neighbour kept by {_share(run.neighbours)}",
    ]
    for name in ("correlation", "relative_l2"):
        found = run.metrics.get(name)
        if found is not None:
            bad = ", ".join(f"{float(share):.1%} {value:.3g}" for share, value in found.quantiles.items())
            lines.append(f"  {name}: worst {found.worst:.9g} at {found.at}; off by at most, of images: {bad}")
    for each in run.worst if verbose else run.worst[:_SHOWN]:
        why = f", {each.why}" if each.why else ""
        lines.append(f"  worst {each.rank}: {each.name}, relative L2 {each.relative_l2:.3g}{why}: {each.file}")
    shown = check_lines(run.judgement)[:-1]
    return lines + ([f"  {line}" for line in shown] if verbose or not run.judgement.passed else [])


def _share(found: Agreement) -> str:
    return f"{found.count} of {found.of} images ({found.share:.2%}; 95 % interval {found.low:.2%} to {found.high:.2%})"
