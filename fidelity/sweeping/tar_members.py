"""The members of a tar, one after the other, from their headers alone: nothing is extracted, nothing kept.

`tarfile` ends quietly at a damaged header and at the first block of zeros; images behind it would be missing and
nobody told. So what follows the last member must be zeros to the end of the file.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fidelity.errors import BadInput

_LARGEST_HEADER = 1 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Member:
    """One member: its name as stored, where its data begin, their size in bytes, and whether it is a plain file."""

    name: str
    offset: int
    size: int
    regular: bool


class _BoundedInfo(tarfile.TarInfo):
    """A header whose extensions (long names, pax records) are read only up to a limit: they are read whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        extensions = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *_PAX)
        if self.type in extensions and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        # tarfile's own hook for subclasses, which its stubs do not tell
        return super()._proc_member(archive)  # type: ignore[misc]


_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


def tar_members(path: Path) -> Iterator[Member]:
    """Every member but folders, in order, in constant memory.

    Raises BadInput, with the byte, for a file that is no tar, is cut, has a damaged header, or goes on behind its end.
    """
    try:
        with path.open("rb") as stream:
            yield from _members(path, stream)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error


def _members(path: Path, stream: BinaryIO) -> Iterator[Member]:
    try:
        with tarfile.TarFile(fileobj=stream, mode="r", tarinfo=_BoundedInfo) as archive:
            while (found := archive.next()) is not None:
                # or it would keep a record of every member
                archive.members.clear()  # type: ignore[attr-defined]
                if not found.isdir():
                    yield Member(found.name, found.offset_data, found.size, found.isreg() and not found.issparse())
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"{path}: not a tar, or cut, near byte {stream.tell()}: {error}") from error
    _check_end(path, stream, end)


def _check_end(path: Path, stream: BinaryIO, end: int) -> None:
    stream.seek(end)
    block = stream.read(_BLOCK)
    if not block:
        raise BadInput(f"{path}: ends at byte {end} without an end of archive: cut?")
    while block:
        if block.count(0) != len(block):
            raise BadInput(f"{path}: a damaged header at byte {end}, or more data behind the end of the archive")
        block = stream.read(_BLOCK)
