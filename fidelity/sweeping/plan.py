"""The plan: every chunk of the data set, written to disk once, then read one at a time.

Listing a data set is cheap beside judging it, and it gives what a stream cannot: the number of images, and a
gallery spread evenly over all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.sweeping.items import Chunk, Item


@dataclass(frozen=True)
class Plan:
    """Where the plan lies, and how many images and chunks it has."""

    file: Path
    images: int
    chunks: int
    chunk_size: int

    def read(self) -> Iterator[tuple[Chunk, str]]:
        """Every chunk in order, with the hash of what the plan says of it."""
        with self.file.open(encoding="utf-8") as lines:
            for line in lines:
                yield Chunk.model_validate_json(line), hashlib.sha256(line.encode()).hexdigest()

    def spread(self, count: int) -> tuple[Item, ...]:
        """At most `count` images, evenly over the whole: number i * images / count."""
        wanted = {index * self.images // count for index in range(count)}
        return tuple(item for chunk, _ in self.read() for item in chunk.items if item.number in wanted)


def write_plan(items: Iterable[Item], chunk_size: int, file: Path) -> Plan:
    """Write the plan of a data set. Raises BadInput for an empty one, EnvironmentMissing for a full disk."""
    source = iter(items)
    images = chunks = 0
    beside = file.with_name(f".{file.name}")
    try:
        with beside.open("w", encoding="utf-8") as stream:
            while batch := tuple(islice(source, chunk_size)):
                stream.write(Chunk(number=chunks, items=batch).model_dump_json() + "\n")
                images, chunks = images + len(batch), chunks + 1
        beside.replace(file)
    except OSError as error:
        raise EnvironmentMissing(f"{file}: cannot be written: {error.strerror}") from error
    if not images:
        raise BadInput("no image in the data set: a verdict on nothing is worth nothing")
    return Plan(file, images, chunks, chunk_size)
