"""`fidelity bench`: steady and best latency on each device, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.errors import EXIT_FAIL, EXIT_PASS, BadInput

if TYPE_CHECKING:
    from fidelity.bench import Bench, BenchRow, Published


def bench(
    file: o.Artefact,
    device: o.Devices = None,
    precision: o.Precision = "default",
    runs: Annotated[int, typer.Option(min=1, help="At most so many timed runs on each device.")] = 50,
    seconds: Annotated[float, typer.Option(min=0.1, help="No new run after so long.")] = 60.0,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 2,
    baseline: Annotated[Path | None, typer.Option(help="An earlier bench, written by --output.")] = None,
    policy: Annotated[str, typer.Option(help="default, or a policy TOML file with [bench].")] = "default",
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Steady and best latency, spread and drift, CPU and GPU side by side."""
    from fidelity.bench import Bench, BenchPlan, against_baseline  # noqa: PLC0415
    from fidelity.bench import bench as run_bench  # noqa: PLC0415
    from fidelity.comparison.policy import load_policy  # noqa: PLC0415
    from fidelity.devices.discovery import resolve  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    limits = load_policy(policy)
    earlier = None if baseline is None else Bench.read(baseline)
    if earlier is not None and limits.bench is None:
        raise BadInput(f"--baseline: policy {limits.name!r} has no [bench] median_regression to hold it to")
    plan = BenchPlan(precision=precision, runs=runs, seconds=seconds, threads=threads)
    devices = [resolve(spec) for spec in device or ("cpu", "gpu")]
    with session.reporter.stage("bench", len(devices)) as step:
        found = run_bench(file, devices, plan, step)
    if earlier is not None:
        found = against_baseline(found, earlier, limits)
    session.show(found, lines(found))
    return EXIT_PASS if found.passed else EXIT_FAIL


def lines(found: Bench) -> list[str]:
    """One line a device, the published row, then what is too slow."""
    head = f"{'device':24} {'median':>9} {'best':>9} {'p95':>9} {'spread':>7} {'drift':>7}  nodes, precision, runs"
    rows = [row_line(row) for row in found.rows]
    return [head, *rows, published_line(found.published), *(f"fail: {finding}" for finding in found.findings)]


def row_line(row: BenchRow) -> str:
    """Milliseconds; how it ran; what to know about the figures."""
    if row.latency is None:
        return f"{row.device:24} NOT TIMED: {row.error}"
    figures, r = row.latency, row.residency
    times = " ".join(f"{_milliseconds(value):>9}" for value in (figures.median, figures.best, figures.p95))
    nodes = f"{r.nodes_on_device}/{r.nodes_total}" if r else "residency not known"
    steady = f"steady from run {figures.steady_from + 1}" if figures.steady_from is not None else "NEVER STEADY"
    known = [nodes, row.precision_had, f"{figures.runs} runs", steady]
    if figures.drifts:
        known.append("THROTTLING" if figures.drift > 0 else "still getting faster")
    if row.info.software:
        known.append("software GPU: its time says nothing of a phone's")
    return f"{row.device:24} {times} {figures.spread:>7.1%} {figures.drift:>+7.1%}  {', '.join(known)}"


def published_line(published: Published) -> str:
    """The row that somebody else measured."""
    times = f"{_milliseconds(published.median):>9} {_milliseconds(published.best):>9}"
    nodes = f"{published.nodes_on_device}/{published.nodes_total}"
    return f"{'(published)':24} {times} {'':>9} {'':>7} {'':>7}  {nodes}, {published.device}: {published.source}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
