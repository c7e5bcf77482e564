"""Where an error begins, as rows and words: from a located run to what the page says of it."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

from fidelity.localisation.records import Kind, Located, Trace, Traced
from fidelity.prediction.module_path import block_of

SHOWN_AROUND = 6
README = "README.md"

TITLES: dict[Kind, str] = {
    "right": "Nothing to locate",
    "expected": "As this arithmetic must give",
    "overflow": "An overflow",
    "compounding": "No single operator: the error grows with depth",
    "converter": "The conversion: the CPU is wrong as well",
    "fallback": "A fallback: the numbers are not the device's own",
    "kernel": "One operator, wrong even alone",
    "layout-or-fusion": "One operator, wrong only in its surroundings",
    "unlocated": "Wrong, and no operator could be told",
}

MEANINGS: dict[Kind, str] = {
    "right": "The device is as near to the truth as it must be, and that is good enough.",
    "expected": "The device gives what its arithmetic must give, and no more can be had of it.",
    "overflow": "The device computes as its arithmetic must. The numbers leave the format; what follows is lost.",
    "compounding": "Every operator is as its arithmetic must be, and nothing overflows; the small errors add up.",
    "converter": "The same file is wrong on the CPU, so no device is to blame.",
    "fallback": "Not every node ran on the device, or the result is the CPU's bit for bit.",
    "kernel": "It gives a wrong result on right inputs, in the graph and cut out of it.",
    "layout-or-fusion": "It gives a wrong result in the graph, and a right one when it is cut out and run alone.",
    "unlocated": "The evidence says how far the search came.",
}

FINE: tuple[Kind, ...] = ("right", "expected")
"""Kinds that are no fault of anything."""


def block_rows(found: Trace) -> dict[str, Traced]:
    """The last operator of every block by the block's name, in the order in which blocks end."""
    last: dict[str, Traced] = {}
    for row in found.operators:
        if row.module:
            last[block_of(row.module)] = row
    return dict(sorted(last.items(), key=lambda item: item[1].operator))


def around(found: Located) -> tuple[Traced, ...]:
    """The traced operators beside the one where it begins, in execution order; none when nothing is to blame."""
    place = beginning(found)
    if found.trace is None or place is None:
        return ()
    rows = found.trace.operators
    nearest = min(range(len(rows)), key=lambda index: abs(rows[index].operator - place), default=0)
    return rows[max(nearest - SHOWN_AROUND, 0) : nearest + SHOWN_AROUND + 1]


def named(rows: tuple[Traced, ...]) -> tuple[tuple[str, Traced], ...]:
    """Rows by the module that they are in, as the table of blocks has them by block."""
    return tuple((row.module or "(no module)", row) for row in rows)


def beginning(found: Located) -> int | None:
    """The operator where it begins: the culprit's, or that of the overflow."""
    if found.culprit is not None:
        return found.culprit.operator
    return None if found.overflow is None else found.overflow.site.operator


def pack_link(pack: str) -> str | None:
    """The way from the page to a pack's README; None for a folder outside the run's, which is not linked to."""
    folder = PurePosixPath(pack)
    if not pack or folder.is_absolute() or ".." in folder.parts or "\\" in pack:
        return None
    return f"./{quote(str(folder / README), errors='replace')}"
