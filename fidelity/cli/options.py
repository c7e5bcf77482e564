"""The options that verbs share, declared once, and what is done with them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from fidelity.progress import Reporter
from fidelity.record import Record, write_text

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of weights and stress inputs.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more on stderr.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Where the result is written.")]
Source = Annotated[str, typer.Argument(help="timm:NAME, as in timm:vit_pe_core_base_patch16_224")]
Weights = Annotated[
    str, typer.Option(help="seeded, massive[:PEAK[@BLOCK]], pretrained or file:PATH (.safetensors, .pt)")
]
Rewrites = Annotated[str, typer.Option(help="all, none, or a list: split_qkv,rotate_half,...")]
Images = Annotated[Path, typer.Option(help="Folder of photographs with a provenance.json.")]
Inputs = Annotated[str | None, typer.Option(help="Only these inputs, by name: astronaut,black")]
Device = Annotated[str, typer.Option(help="cpu, gpu, gpu:<adapter>, android:<serial> or android:<serial>/cpu")]
Devices = Annotated[
    list[str] | None,
    typer.Option("--device", help="cpu, gpu, gpu:<adapter>, android:<serial> or android:<serial>/cpu; may be repeated"),
]
Artefact = Annotated[Path, typer.Argument(help="A .tflite file.", metavar="FILE")]
ArtefactDtype = Annotated[Literal["float32", "float16"], typer.Option("--weights-dtype")]
Precision = Annotated[
    Literal["default", "fp16", "fp32", "fp16-accumulate-fp32"],
    typer.Option(help="default is fp16 where the GPU has it"),
]

IMAGES = Path("golden/images")


@dataclass(frozen=True)
class Session:
    """How this call of the command line talks: JSON or text, how much, and where results go."""

    json: bool
    verbose: bool
    output: Path | None

    @property
    def reporter(self) -> Reporter:
        """Progress on stderr; with --json on a terminal as well, so that stdout stays one document."""
        return Reporter()

    def show(self, result: Record, lines: list[str]) -> None:
        """The result: as JSON with --json, else these lines. Written to --output too, as JSON."""
        if self.output is not None:
            write_text(self.output, result.to_json())
        if self.json:
            sys.stdout.write(result.to_json())
        else:
            console = Console(soft_wrap=True)
            for line in lines:
                console.print(line, highlight=False, markup=False)


def names(text: str | None) -> tuple[str, ...] | None:
    """A comma-separated list, or None when the option was not given."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
