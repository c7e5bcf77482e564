"""`fidelity golden record|verify`: committed references, and whether they are still what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fidelity.cli import options as o
from fidelity.errors import EXIT_PASS, BadInput

golden = typer.Typer(help="Record or verify committed float64 references.")
Root = Annotated[Path, typer.Option(help="Folder of the goldens.")]
ROOT = Path("golden")


@golden.command()
def record(
    name: Annotated[str, typer.Argument(help="Name of the golden.")],
    source: Annotated[str, typer.Option(help="timm:NAME[?option=value&...]")],
    weights: o.Weights = "seeded",
    traced: Annotated[bool, typer.Option("--traced", help="Record every block's output too.")] = False,
    root: Root = ROOT,
    images: o.Images = o.IMAGES,
    seed: o.Seed = 0,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Record the unrewritten model's float64 embeddings of every input."""
    from fidelity.golden import record_golden  # noqa: PLC0415 - torch is an extra
    from fidelity.models.subject import build_subject  # noqa: PLC0415

    manifest = record_golden(root, name, build_subject(source, weights, seed, images, None), traced=traced)
    lines = [f"golden {name}: {len(manifest.arrays)} arrays recorded under {root / name}"]
    o.Session(json, verbose, output).show(manifest, lines)
    return EXIT_PASS


@golden.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="Name of the golden; all of them without one.")] = None,
    root: Root = ROOT,
    images: o.Images = o.IMAGES,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Check every byte, rebuild model and inputs from their seeds, and compute the values again."""
    from fidelity.golden import MANIFEST, GoldenChecks, verify_golden  # noqa: PLC0415 - torch is an extra

    names = [name] if name else sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}"))
    if not names:
        raise BadInput(f"no golden under {root}; record one with fidelity golden record")
    checks = GoldenChecks(checks=tuple(verify_golden(root, each, images) for each in names))
    lines = [
        f"golden {c.name}: {c.arrays} arrays, worst {c.worst:.3g} relative L2 at {c.where}, allowed {c.allowed:g}"
        for c in checks.checks
    ]
    o.Session(json, verbose, output).show(checks, lines)
    return EXIT_PASS
