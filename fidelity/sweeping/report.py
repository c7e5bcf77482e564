"""The summary of a sweep, as stored and shown. No time is in it: the same data and artefact give the same bytes."""

from __future__ import annotations

from fidelity.comparison.judgement import Judgement
from fidelity.devices.job import Precision
from fidelity.record import Figure, Record
from fidelity.sweeping.agreement import Agreement


class MetricSummary(Record):
    """One metric over all images. `worst` at image `at` is by the metric's own direction.

    `quantiles` are distances from the ideal figure on the bad side (1 - correlation), by share of images, told as
    upper bounds that are at most 0.4 % too large. `mean` is over images that have a figure; it decides nothing.
    """

    mean: Figure
    worst: Figure
    at: str
    quantiles: dict[str, Figure]
    undefined: int


class WorstImage(Record):
    """One of the worst images: its rank from 1, and its copy under the sweep's folder (None: unreadable)."""

    rank: int
    number: int
    name: str
    sha256: str | None
    relative_l2: Figure
    correlation: Figure
    why: str | None
    file: str | None


class RunSummary(Record):
    """One device over the data set.

    `passed` counts distinct images that keep every limit an image can keep alone, `neighbours` those whose nearest
    neighbour in the gallery is the reference's. `failures` counts images by what made a comparison unsound.
    """

    device: str
    precision: Precision
    judgement: Judgement
    passed: Agreement
    neighbours: Agreement
    failures: dict[str, int]
    metrics: dict[str, MetricSummary]
    worst: tuple[WorstImage, ...]


class SweepReport(Record):
    """All of it. `reasons` says why it did not pass, apart from what the runs' judgements say."""

    artefact: str
    artefact_sha256: str
    reference: str
    weights: str
    weights_sha256: str
    seed: int
    data: str
    policy: str
    images: int
    distinct: int
    duplicates: int
    unreadable: int
    unreadable_allowed: int
    gallery: tuple[int, ...]
    chunk_size: int
    runs: tuple[RunSummary, ...]
    passed: bool
    reasons: tuple[str, ...]
