"""`fidelity locate`: from a wrong output to the first wrong operator, whose fault it is, and what cures it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.cli.gate import ProfileOption, given_profile
from fidelity.errors import EXIT_FAIL, EXIT_PASS

if TYPE_CHECKING:
    from fidelity.locate.verdict import Located

_FINE = ("right", "expected")


def locate(
    file: o.Artefact,
    reference: Annotated[
        str | None, typer.Option(help="timm:NAME or golden:NAME; without it, the artefact itself in float32")
    ] = None,
    weights: o.Weights = "seeded",
    device: o.Device = "gpu",
    precision: o.Precision = "default",
    profile: ProfileOption = None,
    image: Annotated[str, typer.Option("--input", help="The photograph or stress image to trace.")] = "astronaut",
    images: o.Images = o.IMAGES,
    goldens: Annotated[Path, typer.Option(help="Folder of the goldens.")] = Path("golden"),
    seed: o.Seed = 0,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Where does the first wrong number come from, and whose fault is it?"""
    from fidelity.devices.discovery import resolve  # noqa: PLC0415
    from fidelity.gate.expecting import profile_for  # noqa: PLC0415
    from fidelity.gate.references import find_reference  # noqa: PLC0415
    from fidelity.gate.single import check_same_weights, image_input, image_inputs  # noqa: PLC0415
    from fidelity.locate.locate import locate as run_locate  # noqa: PLC0415
    from fidelity.locate.taps import on_device  # noqa: PLC0415
    from fidelity.tflite.graph import read_graph  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    arithmetic, found_device = given_profile(profile), resolve(device)
    taken = image_input(file)
    chosen = image_inputs(taken, images, (image,), seed)
    graph = read_graph(file)
    truth = None
    if reference is not None:
        found = find_reference(reference, weights, seed, images, (image,), goldens)
        check_same_weights(file, found)
        truth = {name: found.truth[image] for name, _ in graph.signature().outputs}
    with session.reporter.stage(f"locate on {device}", 1) as step:
        step(image)
        located = run_locate(
            graph,
            {taken.name: chosen.arrays[image]},
            on_device(found_device, precision),
            on_device(resolve("cpu")),
            truth,
            lambda ran: profile_for(ran.result, arithmetic) if ran.result else None,
        )
    session.show(located, lines(located, verbose))
    return EXIT_PASS if located.kind in _FINE else EXIT_FAIL


def lines(found: Located, verbose: bool) -> list[str]:
    """The verdict, its evidence, what the errors are, the trace block by block, the cure."""
    from fidelity.locate.culprit import blocks  # noqa: PLC0415

    e = found.errors
    told = [
        f"{found.kind.upper()}{f': {found.culprit.place}' if found.culprit else ''}",
        *found.evidence,
        f"error of the output: device {e.actual:.3g}, its arithmetic {e.expected:.3g}, CPU {e.cpu:.3g}",
    ]
    if found.trace is not None:
        rows = found.trace.operators if verbose else tuple(blocks(found.trace).values())
        told.append(f"{'error':>10} {'expected':>10} {'correlation':>12} {'bits':>8}  after")
        told += [
            f"{row.error_actual:>10.3g} {row.error_expected:>10.3g} {row.correlation:>12.6f} "
            f"{row.identical_share:>8.1%}  {row.place}"
            for row in rows
        ]
    return [*told, f"cure: {found.cure}", f"{found.device_runs} run(s) of the device"]
