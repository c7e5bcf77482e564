"""The folder of a sweep: one file a chunk, whole or not there, so that a killed sweep goes on where it was."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.record import write_text
from fidelity.sweeping.gallery import StoredGallery
from fidelity.sweeping.items import Chunk
from fidelity.sweeping.rows import ChunkResult


@dataclass(frozen=True)
class ChunkStore:
    """Where everything of one sweep lies."""

    folder: Path

    @property
    def scratch(self) -> Path:
        """What workers leave behind; emptied at the start of every run."""
        return self.folder / "scratch"

    @property
    def plan(self) -> Path:
        """The listed data set."""
        return self.folder / "plan.jsonl"

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder, for this process alone and without remains of a killed run.

        Raises BadInput while another sweep has it, EnvironmentMissing when it cannot be written.
        """
        try:
            (self.folder / "chunks").mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("a")
        except OSError as error:
            raise EnvironmentMissing(f"{self.folder}: cannot be written: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BadInput(f"{self.folder}: another sweep is running in it") from error
            self._clean()
            yield
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _clean(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        for unfinished in (self.folder / "chunks").glob(".*"):
            unfinished.unlink()

    def file(self, number: int) -> Path:
        """A chunk's file."""
        return self.folder / "chunks" / f"{number:06d}.json"

    def store(self, text: str) -> ChunkResult:
        """Write a result that a worker gave, atomically. Raises BadInput when it is no result."""
        result = ChunkResult.model_validate_json(text)
        write_text(self.file(result.number), text)
        return result

    def load(self, chunk: Chunk, key: str) -> ChunkResult | None:
        """The stored result of a chunk; None when there is none, it is of something else, or it is damaged."""
        try:
            result = ChunkResult.read(self.file(chunk.number))
        except BadInput:
            return None
        holds = result.key == key and [row.number for row in result.rows] == [item.number for item in chunk.items]
        return result if holds else None

    def load_gallery(self, key: str) -> StoredGallery | None:
        """The stored gallery, if it is of this key."""
        try:
            stored = StoredGallery.read(self.folder / "gallery.json")
        except BadInput:
            return None
        return stored if stored.key == key else None

    def store_gallery(self, stored: StoredGallery) -> None:
        """Keep the gallery."""
        stored.write(self.folder / "gallery.json")
