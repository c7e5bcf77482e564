"""Which contents and which outputs came before, for any number of images: a table on disk, not in memory."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Self

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE content (sha256 TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID;
CREATE TABLE output (device TEXT, sha256 TEXT, count INTEGER, PRIMARY KEY (device, sha256)) WITHOUT ROWID;
CREATE TABLE pair (device TEXT, sha256 TEXT, reference TEXT, count INTEGER,
  PRIMARY KEY (device, sha256, reference)) WITHOUT ROWID;
"""


class Seen:
    """Made anew for each merge in an empty file, which goes with it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.unlink(missing_ok=True)
        self._base = sqlite3.connect(file, isolation_level=None)
        self._base.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        self._file.unlink(missing_ok=True)

    def first(self, sha256: str, name: str) -> str | None:
        """The name of the first image with this content; None for the first itself, which is remembered."""
        found = self._base.execute("SELECT name FROM content WHERE sha256 = ?", (sha256,)).fetchone()
        if found is None:
            self._base.execute("INSERT INTO content VALUES (?, ?)", (sha256, name))
            return None
        return str(found[0])

    def repeats(self, device: str, output: str, reference: str) -> int:
        """How many images before had this output on this device and another reference."""
        same = self._count("SELECT count FROM output WHERE device = ? AND sha256 = ?", device, output)
        right = self._count(
            "SELECT count FROM pair WHERE device = ? AND sha256 = ? AND reference = ?", device, output, reference
        )
        self._base.execute("INSERT OR REPLACE INTO output VALUES (?, ?, ?)", (device, output, same + 1))
        self._base.execute("INSERT OR REPLACE INTO pair VALUES (?, ?, ?, ?)", (device, output, reference, right + 1))
        return same - right

    def _count(self, query: str, *values: str) -> int:
        found = self._base.execute(query, values).fetchone()
        return 0 if found is None else int(found[0])
