"""`fidelity locate`: from a wrong output to the first wrong operator, whose fault it is, and what cures it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.cli.gate import REPORTS, PolicyOption, ProfileOption
from fidelity.errors import EXIT_FAIL, EXIT_PASS, BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fidelity.localisation.records import Located, Traced

LOCATED = "located.json"


def locate(
    file: o.Artefact,
    reference: Annotated[
        str | None, typer.Option(help="timm:NAME or golden:NAME; without it, the artefact itself in float32")
    ] = None,
    weights: o.Weights = "seeded",
    device: o.Device = "gpu",
    precision: o.Precision = "default",
    profile: ProfileOption = None,
    policy: PolicyOption = "default",
    inputs: Annotated[
        str, typer.Option("--inputs", "--input", help="Photographs or stress images; the worst of them is traced.")
    ] = "astronaut",
    show: Annotated[
        list[str] | None,
        typer.Option(
            help="Operators of the trace: blocks.7.norm1, op:12, kind:SOFTMAX or tensor:NAME; may be repeated."
        ),
    ] = None,
    images: o.Images = o.IMAGES,
    goldens: Annotated[Path, typer.Option(help="Folder of the goldens.")] = Path("golden"),
    seed: o.Seed = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the reports.")] = REPORTS,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Where does the first wrong number come from, and whose fault is it?"""
    from fidelity.api.artefacts import locate as run_search  # noqa: PLC0415
    from fidelity.gating.run_folder import new_run  # noqa: PLC0415
    from fidelity.localisation.select import parse_selectors, selected  # noqa: PLC0415
    from fidelity.report.located_rows import FINE  # noqa: PLC0415
    from fidelity.tflite.graph import read_graph  # noqa: PLC0415

    session = o.Session(json, verbose, None)
    selectors = parse_selectors(show or ())
    with new_run(output, f"locate-{file.stem}") as folder:
        found = run_search(
            file,
            reference=reference,
            weights=weights,
            device=device,
            precision=precision,
            policy=policy,
            profile=profile,
            inputs=o.names(inputs),
            images=images,
            goldens=goldens,
            seed=seed,
            folder=folder,
            look=bool(selectors),
            reporter=session.reporter,
        )
        found.write(folder / LOCATED)
    told = lines(found, verbose)
    if selectors:
        if found.trace is None:
            raise BadInput(f"--show: nothing was traced: {found.evidence[0]}")
        told += table(selected(found.trace.operators, read_graph(file), selectors))
    where = output / folder.name.removeprefix(".partial-")
    session.show(found, [*told, f"written: {where / (found.pack or LOCATED)}"])
    return EXIT_PASS if found.kind in FINE else EXIT_FAIL


def lines(found: Located, verbose: bool) -> list[str]:
    """The verdict, its evidence, what the errors are, the trace block by block, the cure."""
    from fidelity.localisation.culprit import blocks  # noqa: PLC0415

    e = found.errors
    told = [
        f"{found.kind.upper()}{f': {found.culprit.place}' if found.culprit else ''}",
        *found.evidence,
        f"error of the output at {found.input}: device {e.actual:.3g}, "
        f"its arithmetic {e.expected:.3g}, CPU {e.cpu:.3g}",
    ]
    if len(found.inputs) > 1:
        told += [f"  {name}: {error:.3g}" for name, error in found.inputs.items()]
    if found.trace is not None:
        rows = found.trace.operators if verbose else tuple(blocks(found.trace).values())
        told += table(rows)
    return [*told, f"cure: {found.cure}", f"{found.device_runs} run(s) of the device"]


def table(rows: Sequence[Traced]) -> list[str]:
    """Rows of a trace: how far actual and expected are off, what is left of the format, the largest channels."""
    head = f"{'error':>9} {'expected':>9} {'r':>9} {'r expected':>10} {'bits':>7} {'headroom':>8}  after"
    return [
        head,
        *(
            f"{row.error_actual:>9.3g} {row.error_expected:>9.3g} "
            f"{row.correlation:>9.6f} {row.correlation_expected:>10.6f} "
            f"{row.identical_share:>7.1%} {row.headroom:>8.2f}  {row.place}{_channels(row)}"
            for row in rows
        ),
    ]


def _channels(row: Traced) -> str:
    """The largest channel and what it reaches: a massive one stands out from row to row."""
    return f", channel {row.channels[0]} at {row.magnitudes[0]:.3g}" if row.channels else ""
