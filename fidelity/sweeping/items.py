"""One image of a data set, as the plan names it: where its bytes lie, not the bytes.

An image is a stretch of a file: the whole of it in a folder, a member's data in a tar. So a worker needs no
tar reader, nothing is ever extracted, and a hostile member name is a label and no path.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from fidelity.errors import BadInput
from fidelity.record import Record

LARGEST_IMAGE = 256 << 20
"""Bytes of one encoded image. Above it the image is refused unread."""


class Stamp(Record):
    """What tells that a file was changed without reading it: its size in bytes and time of change in ns."""

    size: int
    mtime_ns: int


class Item(Record):
    """One image: its number in the data set, a label, and the stretch of a file that holds it.

    `file` is relative to the data set's root. `refused` says why the image must not be read, where the listing
    already shows it (a link, a hole, too large): such an image is counted as unreadable, never passed over.
    """

    number: int
    name: str
    file: str
    offset: int
    size: int
    stamp: Stamp
    refused: str | None = None


class Chunk(Record):
    """The unit of work: neighbours in the data set's order, done and stored together or not at all."""

    number: int
    items: tuple[Item, ...]


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file now. Raises OSError."""
    found = path.stat()
    return Stamp(size=found.st_size, mtime_ns=found.st_mtime_ns)


def read_item(root: Path, item: Item) -> bytes:
    """The image's encoded bytes.

    Raises BadInput when its file changed since it was listed: figures of two versions of a data set in one
    result would be figures of neither.
    """
    path = root / item.file
    try:
        with path.open("rb") as stream:
            if stamp_of(path) != item.stamp:
                raise BadInput(f"{path}: changed since the sweep began; run it again")
            return _stretch(stream, item)
    except OSError as error:
        raise BadInput(f"{path}: listed when the sweep began, cannot be read now: {error.strerror}") from error


def _stretch(stream: BinaryIO, item: Item) -> bytes:
    stream.seek(item.offset)
    content = stream.read(item.size)
    if len(content) != item.size:
        raise BadInput(f"{item.file}: ends inside {item.name}; the file is cut")
    return content
