"""`fidelity labels`: label embeddings by a text tower, for `compare --labels` and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.errors import EXIT_PASS, BadInput

if TYPE_CHECKING:
    from fidelity.models.label_set import LabelRecord


def labels(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="open_clip:NAME, as in open_clip:PE-Core-B-16")],
    file: Annotated[Path, typer.Argument(metavar="LABELS", help="A text file, one label a line.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .json; an .npy is written beside it.")],
    weights: Annotated[
        str, typer.Option(help="seeded, pretrained or file:PATH (.safetensors, .pt), of the tower or the whole model")
    ] = "seeded",
    templates: Annotated[
        str, typer.Option(help="simple, imagenet, imagenet-small, or a text file of one template a line, with {}")
    ] = "simple",
    seed: o.Seed = 0,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """What are these labels to the model's text tower? Embeddings and where they come from."""
    from fidelity.models.prompts import read_labels, read_templates  # noqa: PLC0415
    from fidelity.models.text_source import TextSource, open_clip  # noqa: PLC0415
    from fidelity.models.weights import Weights  # noqa: PLC0415

    session = o.Session(json, verbose, None)
    if output.suffix != ".json":
        raise BadInput(f"--output {output}: expected a name that ends in .json")
    source, chosen = TextSource.parse(model), Weights.parse(weights)
    texts = read_labels(file), read_templates(templates)
    open_clip()  # says what to install, before anything asks for torch
    from fidelity.models.label_embeddings import make_label_set, steps  # noqa: PLC0415
    from fidelity.models.label_set import write_label_set  # noqa: PLC0415

    with session.reporter.stage("embed", steps(*texts)) as step:
        record, content = make_label_set(source, chosen, seed, texts, f"{output.stem}.npy", step)
    write_label_set(output, record, content)
    session.show(record, lines(record, output))
    return EXIT_PASS


def lines(record: LabelRecord, path: Path) -> list[str]:
    """What was made, of what, and where it is."""
    return [
        f"{len(record.labels)} labels x {len(record.templates)} template(s) by {record.model}, "
        f"{record.weights} weights {record.weights_sha256[:16]}...: {record.shape[1]} components",
        f"written: {path} and {record.file}, sha256 {record.sha256[:16]}...",
    ]
