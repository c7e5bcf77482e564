"""Bounded reading of an untrusted flatbuffer through the runtime's generated accessors.

The accessors check nothing: a length may be any 32-bit number and an offset may point anywhere,
also back to what was read before. Python's own bounds checks turn a wrong offset into an exception;
what remains is work without end, which the budgets here limit.
"""

from __future__ import annotations

import mmap
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fidelity.errors import BadInput

IDENTIFIER = b"TFL3"
SMALLEST_FILE = 8  # root offset and identifier
MALFORMED = (struct.error, ValueError, TypeError, IndexError, OverflowError)
"""What reading through a wrong offset raises, in struct, NumPy and the flatbuffers package."""

ENTRIES_LIMIT = 500_000
"""Vector entries read from one file: B/16, of 12 blocks, has 10,000; the largest PE-Core has 50 blocks."""

TEXT_LIMIT = 64 * 1024 * 1024
"""Bytes of names read from one file: B/16 has 0.2 MB."""


class Budget:
    """Counts what is read from one file and refuses to go on past the limits."""

    def __init__(self) -> None:
        self.entries = ENTRIES_LIMIT
        self.text_bytes = TEXT_LIMIT

    def spend(self, entries: int) -> int:
        """Account for so many vector entries, and give the number back. Raises ValueError past the limit."""
        self.entries -= entries
        if self.entries < 0:
            raise ValueError(f"a vector of {entries} entries passes the limit of {ENTRIES_LIMIT} in one file")
        return entries

    def tables(self, length: int, entry: Callable[[int], Any]) -> Iterator[Any]:
        """The entries of a vector of tables: `length` as stored, `entry(j)` the accessor."""
        return (entry(j) for j in range(self.spend(length)))

    def numbers(self, values: Any) -> tuple[int, ...]:
        """A vector of numbers as its `...AsNumpy` accessor gives it (0 when the field is absent)."""
        if not isinstance(values, np.ndarray):
            return ()
        self.spend(len(values))
        return tuple(values.tolist())

    def text(self, raw: bytes | None) -> str:
        """A name on one line: characters that a terminal would act on are written as escapes."""
        if not raw:
            return ""
        self.text_bytes -= len(raw)
        if self.text_bytes < 0:
            raise ValueError(f"names pass the limit of {TEXT_LIMIT} bytes in one file")
        decoded = raw.decode("utf-8", errors="backslashreplace")
        return decoded if decoded.isprintable() else decoded.encode("unicode_escape").decode("ascii")


def map_file(path: Path) -> memoryview:
    """The bytes of a .tflite file, mapped and read-only. Raises BadInput for anything else."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block, a folder cannot be mapped
            raise BadInput(f"{path}: not a regular file")
        with path.open("rb") as stream:
            size = path.stat().st_size
            if size < SMALLEST_FILE:
                raise BadInput(f"{path}: {size} bytes is too short for a .tflite file")
            data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    if bytes(data[4:8]) != IDENTIFIER:
        raise BadInput(f"{path}: not a .tflite file: bytes 4 to 8 are {bytes(data[4:8])!r}, expected {IDENTIFIER!r}")
    return data
