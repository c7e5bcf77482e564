"""What is stored of one image, and of one chunk of them."""

from __future__ import annotations

from pydantic import Field

from fidelity.comparison.comparison import Failure
from fidelity.comparison.metrics.outcome import Undefined
from fidelity.comparison.run_facts import RunFacts
from fidelity.record import Figure, Record
from fidelity.sweeping.spread import Spread


class ImageRun(Record):
    """One image on one device: every metric, or its cause for having none, and what makes a comparison unsound.

    `kept` tells whether its nearest neighbour in the gallery is the reference's (None: not known).
    """

    metrics: dict[str, Figure]
    undefined: dict[str, Undefined] = Field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    kept: bool | None = None
    output_sha256: str | None = None


class ImageRow(Record):
    """One image: what it is, and how each device did on it. `unreadable` says why it was not judged at all."""

    number: int
    name: str
    bytes: int
    sha256: str | None = None
    reference_sha256: str | None = None
    unreadable: str | None = None
    runs: dict[str, ImageRun] = Field(default_factory=dict)


class ChunkRun(Record):
    """How a chunk ran on one device, and what its outputs have in common. Without a readable image, neither."""

    facts: RunFacts | None = None
    spread: Spread | None = None


class ChunkResult(Record):
    """A whole chunk: rows in the order of its items. `key` is of all that it depends on."""

    key: str
    number: int
    rows: tuple[ImageRow, ...]
    runs: dict[str, ChunkRun]

    @property
    def settled(self) -> bool:
        """False when a job failed: the chunk is counted as it is, and made again by the next run."""
        return all(run.facts is None or run.facts.status == "ok" for run in self.runs.values())
