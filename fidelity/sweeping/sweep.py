"""A whole sweep: list the data, make what is missing, merge. Called again after a kill, it goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.comparison.policy import Policy
from fidelity.devices.discovery import resolve
from fidelity.devices.job import Precision
from fidelity.errors import BadInput
from fidelity.files import file_sha256
from fidelity.gating.single import Reference, check_same_weights, image_input
from fidelity.models.input_contract import input_contract
from fidelity.models.source import Source
from fidelity.models.weights import Weights, build_model, weights_sha256
from fidelity.progress import Reporter
from fidelity.sweeping.chunk_store import ChunkStore
from fidelity.sweeping.cluster import Call, Workers, completed, connected
from fidelity.sweeping.gallery import StoredGallery
from fidelity.sweeping.listing import list_items, root_of
from fidelity.sweeping.merge import merged, reasons_of, summaries
from fidelity.sweeping.order import CHUNK, GALLERY, SweepOrder, chunk_key
from fidelity.sweeping.plan import Plan, write_plan
from fidelity.sweeping.report import SweepReport
from fidelity.sweeping.rows import ChunkResult
from fidelity.sweeping.tasks import ITEMS, chunk_task, gallery_task
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import io_contract, weights_dtype_of

if TYPE_CHECKING:
    from distributed import Client

REPORT = "sweep.json"


@dataclass(frozen=True)
class SweepChoice:
    """How the data set is cut, what is kept of it and what is forgiven."""

    chunk: int = CHUNK
    gallery: int = GALLERY
    worst: int = 10
    allow_unreadable: int = 0


def sweep_order(
    artefact: Path, data: Path, source: str, weights: str, seed: int, devices: tuple[str, ...], precision: Precision
) -> SweepOrder:
    """The order, everything in it looked up here once.

    Raises BadInput for a source, artefact or pair of them that does not fit, EnvironmentMissing without a device.
    """
    if not source.startswith("timm:"):
        raise BadInput(f"reference {source!r}: a sweep needs the model itself, timm:NAME")
    for device in devices:
        resolve(device)
    taken, graph = image_input(artefact), read_graph(artefact)
    outputs = io_contract(graph).outputs
    if len(outputs) != 1:
        raise BadInput(f"{artefact}: has {len(outputs)} outputs; an embedding model has one")
    model = build_model(Source.parse(source), Weights.parse(weights), seed)
    contract, digest = input_contract(model), weights_sha256(model)
    if (taken.dtype, taken.shape) != (contract.dtype, contract.shape):
        raise BadInput(f"{artefact}: takes {taken.dtype} {taken.shape}, {source} {contract.dtype} {contract.shape}")
    check_same_weights(artefact, Reference({}, digest, source))
    return SweepOrder(
        artefact=str(artefact.resolve()),
        artefact_sha256=file_sha256(artefact),
        weights_dtype=weights_dtype_of(graph),
        input=taken.name,
        output=outputs[0].name,
        source=source,
        weights=weights,
        weights_sha256=digest,
        seed=seed,
        contract=contract,
        devices=devices,
        precision=precision,
        root=str(root_of(data)),
    )


def sweep(
    order: SweepOrder,
    data: Path,
    folder: Path,
    policy: Policy,
    workers: Workers,
    choice: SweepChoice,
    reporter: Reporter,
) -> SweepReport:
    """Judge every image of `data` once and store everything in `folder`; chunks that are there already are kept.

    Raises BadInput for data that cannot be listed, that changed meanwhile, or of which nothing can be read;
    EnvironmentMissing without a device, scheduler or disk space. What was done by then is kept.
    """
    store = ChunkStore(folder)
    with store.held():
        (folder / REPORT).unlink(missing_ok=True)
        plan = write_plan(list_items(data), choice.chunk, store.plan)
        work = _Work(order, plan, store, reporter)
        gallery = work.made(workers, choice.gallery)
        found = merged(order, plan, work.stored(gallery), store, policy, choice.worst)
        runs = summaries(order, plan, found, store, policy)
        reasons = reasons_of(found, runs, choice.allow_unreadable)
        report = SweepReport(
            artefact=Path(order.artefact).name,
            artefact_sha256=order.artefact_sha256,
            reference=order.source,
            weights=order.weights,
            weights_sha256=order.weights_sha256,
            seed=order.seed,
            data=data.name,
            policy=policy.name,
            images=found.images,
            distinct=found.images - found.duplicates,
            duplicates=found.duplicates,
            unreadable=found.unreadable,
            unreadable_allowed=choice.allow_unreadable,
            gallery=gallery.numbers,
            chunk_size=choice.chunk,
            runs=runs,
            passed=not reasons,
            reasons=reasons,
        )
        report.write(folder / REPORT)
    return report


@dataclass(frozen=True)
class _Work:
    """The part that workers do, and what is already done of it."""

    order: SweepOrder
    plan: Plan
    store: ChunkStore
    reporter: Reporter

    def made(self, workers: Workers, gallery_size: int) -> StoredGallery:
        """Make the gallery and every chunk that is missing; no worker is started when nothing is."""
        items = self.plan.spread(min(gallery_size, self.plan.images))
        listed = ITEMS.dump_json(items).decode()
        key = chunk_key(self.order.key(), listed, "gallery")
        gallery = self.store.load_gallery(key)
        left = None if gallery is None else self._missing(gallery)
        if gallery is not None and left == 0:
            self.reporter.say(f"all {self.plan.images} images are judged already")
            return gallery
        with connected(workers, self.store.scratch) as client:
            if gallery is None:
                gallery = self._gallery(client, listed, key)
                left = self._missing(gallery)
            self._chunks(client, gallery, left or 0)
        return gallery

    def stored(self, gallery: StoredGallery) -> Iterator[ChunkResult]:
        """Every chunk's result, in order. Raises BadInput for one that is not there."""
        digest = gallery.digest()
        for chunk, planned in self.plan.read():
            result = self.store.load(chunk, chunk_key(self.order.key(), planned, digest))
            if result is None:
                raise BadInput(f"{self.store.file(chunk.number)}: missing or damaged since it was made; run it again")
            yield result

    def _gallery(self, client: Client, listed: str, key: str) -> StoredGallery:
        with self.reporter.stage("gallery", 1) as step:
            step("the images that all others are held against")
            call = (self.order.model_dump_json(), self.order.key(), listed, key)
            (text,) = completed(client, gallery_task, iter([call]))
        state, _, document = text.partition("\n")
        gallery = StoredGallery.model_validate_json(document)
        if state == "whole":
            self.store.store_gallery(gallery)
        return gallery

    def _pending(self, gallery: StoredGallery) -> Iterator[Call]:
        """The arguments of every chunk that is not settled, one at a time."""
        order, key, digest = self.order.model_dump_json(), self.order.key(), gallery.digest()
        document = gallery.model_dump_json()
        for chunk, planned in self.plan.read():
            own = chunk_key(key, planned, digest)
            result = self.store.load(chunk, own)
            if result is None or not result.settled:
                yield order, key, document, chunk.model_dump_json(), own

    def _missing(self, gallery: StoredGallery) -> int:
        return sum(1 for _ in self._pending(gallery))

    def _chunks(self, client: Client, gallery: StoredGallery, missing: int) -> None:
        if missing < self.plan.chunks:
            self.reporter.say(f"{self.plan.chunks - missing} of {self.plan.chunks} chunks are there already")
        started, images = time.monotonic(), 0
        with self.reporter.stage(f"sweep {self.plan.images} images", missing) as step:
            for text in completed(client, chunk_task, self._pending(gallery)):
                images += len(self.store.store(text).rows)
                rate = images / (time.monotonic() - started)
                step(f"{images} images, {rate:.1f} a second")
