"""`fidelity run`: one execution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.errors import EXIT_FAIL, EXIT_PASS

if TYPE_CHECKING:
    from fidelity.devices.job import JobResult


def run(
    file: o.Artefact,
    device: o.Device = "cpu",
    precision: o.Precision = "default",
    input_file: Annotated[
        Path | None,
        typer.Option("--input", help="A float32 .npy for the model's input, not the photographs."),
    ] = None,
    images: o.Images = o.IMAGES,
    inputs: o.Inputs = None,
    seed: o.Seed = 0,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """One execution: outputs, residency, timing. --output keeps the result's JSON."""
    from fidelity.api.artefacts import run as run_artefact  # noqa: PLC0415
    from fidelity.gating.single import load_array  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    execution = run_artefact(
        file,
        device=device,
        precision=precision,
        inputs=load_array(input_file, file) if input_file else o.names(inputs),
        images=images,
        seed=seed,
        reporter=session.reporter,
    )
    session.show(execution.result, [*result_lines(execution.result), f"job: {execution.folder}"])
    return EXIT_PASS if execution.result.status == "ok" else EXIT_FAIL


def result_lines(result: JobResult) -> list[str]:
    """Status, adapter, precision, residency with refusals, determinism, times, memory."""
    lines = [f"{result.status}{f': {result.error}' if result.error else ''}"]
    if result.adapter:
        lines.append(f"adapter {result.adapter.name}{' (software)' if result.adapter.software else ''}")
    lines.append(f"precision asked {result.precision_asked}, had {result.precision_had}")
    if result.residency:
        r = result.residency
        lines.append(f"residency {r.nodes_on_device} of {r.nodes_total} nodes in {r.partitions} partition(s)")
        lines += [f"  refused {x.op}: {x.reason} {x.tensor or ''}" for x in r.refusals[:10]]
        if len(r.refusals) > 10:
            lines.append(f"  ... and {len(r.refusals) - 10} more refusals")
    elif result.status == "ok":
        lines.append("residency not known: the runtime's log does not tell")
    repeated = [x.deterministic for x in result.outputs if x.deterministic is not None]
    if repeated:
        lines.append(f"deterministic: {'yes' if all(repeated) else 'NO'} ({len(repeated)} input(s) run twice)")
    if result.timing:
        t = result.timing
        steady = "not known" if t.steady is None else f"{t.steady:.3f} s"
        lines.append(f"compile {t.compile:.3f} s, first {t.first:.3f} s, steady {steady}")
    if result.peak_memory_bytes:
        lines.append(f"peak memory {result.peak_memory_bytes / 2**20:.0f} MiB")
    return lines
