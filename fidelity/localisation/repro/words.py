"""What a repro pack says for a person: its README, ready to be pasted into an issue.

Names come from an untrusted file: each stands in a code span of one line, without back-ticks or table bars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jinja2
import numpy as np

from fidelity.localisation.noise import LIMIT, NOISE
from fidelity.localisation.records import Kind
from fidelity.localisation.repro.piece import WITHOUT_OVERFLOW, Piece

if TYPE_CHECKING:
    from fidelity.localisation.repro.write import Repro

_SHOWN = 3
_LONGEST = 300

LIMITS: dict[str, str] = {
    "kernel": f"{LIMIT:g} times the error that the device's own arithmetic must have here, and no less than half a "
    "unit in the last place of what it stores",
    "overflow": f"{WITHOUT_OVERFLOW:g}, a hundred times half a unit of fp16: without one it is not that far off",
    "converter": f"{NOISE:.3g}, half a unit in the last place of fp16: the same in float32 is nearer",
}

_WHAT: dict[str, str] = {
    "kernel": "On right inputs the result is wrong",
    "layout-or-fusion": "On right inputs the result is wrong, and that of each operator alone is right",
    "overflow": "On right inputs the result is beyond the largest number of the format that it is computed in",
    "converter": "The result is not what PyTorch computes there, on whatever device",
}


def summary(kind: Kind, piece: Piece) -> str:
    """One line: the kind of failure and how far off."""
    return f"{kind}: relative L2 {piece.error:.4g} against the truth, allowed {piece.allowed:.4g}"


def readme(repro: Repro, piece: Piece) -> str:
    """The README; the same pack gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fidelity.localisation.repro", "."),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown; what is untrusted goes through code()
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    what = _WHAT.get(repro.kind, _WHAT["kernel"])
    if repro.kind == "layout-or-fusion" and repro.extent == "piece" and len(repro.operators) == 1:
        what = _WHAT["kernel"]
    text: str = environment.get_template("readme.md").render(
        repro=repro, what=what, code=_code, ours=repro.device.versions.get("ai-edge-litert"), elements=_elements(piece)
    )
    return text


def _elements(piece: Piece) -> list[tuple[str, str, str]]:
    """The elements of the worst output that are furthest off: where, what it was, what it should be."""
    actual, truth = (each[piece.worst].astype(np.float64) for each in (piece.actual, piece.truth))
    if actual.shape != truth.shape:
        return []
    apart = np.nan_to_num(np.abs(actual - truth), nan=np.inf, posinf=np.inf).reshape(-1)
    places = np.argsort(-apart, kind="stable")[:_SHOWN]
    where = [[int(each) for each in np.unravel_index(place, truth.shape)] for place in places]
    return [(str(w), f"{actual.flat[p]:.8g}", f"{truth.flat[p]:.8g}") for w, p in zip(where, places, strict=True)]


def _code(text: object) -> str:
    """Text as a Markdown code span of one line that may stand in a table."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())
    plain = plain.replace("`", "'").replace("|", "/")
    return f"`{plain[:_LONGEST]}{'...' if len(plain) > _LONGEST else ''}`" if plain else "-"
