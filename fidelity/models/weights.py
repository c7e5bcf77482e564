"""Which weights a source gets: `seeded`, `massive[:PEAK[@BLOCK]]`, `pretrained` or `file:PATH`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from fidelity.errors import BadInput
from fidelity.files import file_sha256
from fidelity.record import Record

if TYPE_CHECKING:
    from torch import nn

    from fidelity.models.source import Source

_MASSIVE = re.compile(r"^massive(?::(?P<peak>\d+(?:\.\d+)?)(?:@(?P<block>\d+))?)?$")
DEFAULT_PEAK = 235.0  # where fp16 sums of squares collapse a stock LayerNorm (facts.md, A 175)
DEFAULT_BLOCK = 1


class Weights(Record):
    """The choice of weights. `peak` is the largest |x| that massive activations reach."""

    kind: Literal["seeded", "massive", "pretrained", "file"]
    peak: float = DEFAULT_PEAK
    block: int = DEFAULT_BLOCK
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The choice as written on the command line. Raises BadInput."""
        if text in ("seeded", "pretrained"):
            return cls.model_validate({"kind": text})
        if text.startswith("file:") and len(text) > len("file:"):
            return cls(kind="file", path=text.removeprefix("file:"))
        match = _MASSIVE.fullmatch(text)
        if match is None:
            raise BadInput(
                f"weights {text!r}: expected seeded, massive, massive:PEAK, massive:PEAK@BLOCK, pretrained or file:PATH"
            )
        return cls(
            kind="massive",
            peak=float(match["peak"] or DEFAULT_PEAK),
            block=int(match["block"] or DEFAULT_BLOCK),
        )

    def __str__(self) -> str:
        if self.kind == "massive":
            return f"massive:{np.format_float_positional(self.peak, trim='-')}@{self.block}"
        return f"file:{self.path}" if self.kind == "file" else self.kind

    def identity(self) -> str:
        """What a cache key needs: for a file its content's hash, else the choice itself."""
        if self.kind != "file":
            return str(self)
        path = Path(self.path or "")
        if not path.is_file():
            raise BadInput(f"weights file {path}: no such file")
        return f"file:{file_sha256(path)}"


def build_model(source: Source, weights: Weights, seed: int) -> nn.Module:
    """The source's torch module with these weights; eval mode, float32, CPU.

    Raises BadInput (unknown model, weights that do not fit) or EnvironmentMissing (no hub).
    """
    # torch is an extra: the specification above must parse without it
    if weights.kind == "pretrained":
        return source.build(pretrained=True)
    model = source.build()
    if weights.kind == "file":
        from fidelity.models.weight_file import load_weight_file  # noqa: PLC0415

        load_weight_file(model, Path(weights.path or ""))
    elif weights.kind == "massive":
        from fidelity.models.massive import fill_massive  # noqa: PLC0415

        fill_massive(model, seed, weights.peak, weights.block)
    else:
        from fidelity.models.seeded import fill_seeded  # noqa: PLC0415

        fill_seeded(model, seed)
    return model


def weights_sha256(model: nn.Module) -> str:
    """One hash over every parameter's name, shape and float32 bytes, in name order."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}:{tuple(parameter.shape)}:".encode())
        digest.update(parameter.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
