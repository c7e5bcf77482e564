"""From chunk files to the result: rows in order, duplicates by name, the worst images with their copies, the verdict.

Only the plan's order counts, not the order in which chunks were made: the same chunks give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from fidelity.comparison.judgement import Finding
from fidelity.comparison.policy import Policy
from fidelity.comparison.verdict import judge
from fidelity.devices.discovery import on_cpu
from fidelity.devices.tensor_files import safe_name
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.sweeping.agreement import agreement
from fidelity.sweeping.chunk_store import ChunkStore
from fidelity.sweeping.items import Item, read_item
from fidelity.sweeping.order import SweepOrder
from fidelity.sweeping.plan import Plan
from fidelity.sweeping.report import RunSummary, WorstImage
from fidelity.sweeping.rows import ChunkResult, ImageRow
from fidelity.sweeping.seen import Seen
from fidelity.sweeping.tally import Ranked, Tally

RESULTS, DUPLICATES, WORST = "results.jsonl", "duplicates.jsonl", "worst"
_SHOWN = 3


@dataclass
class Merged:
    """What was counted over all images, and each device's tally."""

    tallies: dict[str, Tally]
    images: int = 0
    duplicates: int = 0
    unreadable: int = 0
    named: tuple[str, ...] = ()
    same_as_cpu: dict[str, int] | None = None

    @property
    def readable(self) -> int:
        """Images that were judged."""
        return self.images - self.unreadable


def merged(
    order: SweepOrder, plan: Plan, chunks: Iterator[ChunkResult], store: ChunkStore, policy: Policy, keep: int
) -> Merged:
    """Take every row in once, writing results.jsonl and duplicates.jsonl on the way.

    Raises BadInput when rows are not the plan's, each once and in order, or none could be read.
    """
    found = Merged({device: Tally(device, order.output, policy, keep) for device in order.devices})
    found.same_as_cpu = dict.fromkeys((d for d in order.devices if not on_cpu(d)), 0)
    try:
        with ExitStack() as open_files:
            seen = open_files.enter_context(Seen(store.scratch / "seen.sqlite"))
            rows = open_files.enter_context((store.folder / RESULTS).open("w", encoding="utf-8"))
            copies = open_files.enter_context((store.folder / DUPLICATES).open("w", encoding="utf-8"))
            for chunk in chunks:
                for device, run in chunk.runs.items():
                    found.tallies[device].take_chunk(run)
                for row in chunk.rows:
                    rows.write(row.model_dump_json() + "\n")
                    _take(found, row, seen, copies)
    except OSError as error:
        raise EnvironmentMissing(f"{store.folder}: cannot be written: {error.strerror}") from error
    if found.images != plan.images:
        raise BadInput(f"{store.folder}: {found.images} rows for {plan.images} images; run it again")
    if found.readable == 0:
        raise BadInput(f"none of {found.images} images could be read; the first: {', '.join(found.named)}")
    return found


def _take(found: Merged, row: ImageRow, seen: Seen, copies: TextIO) -> None:
    if row.number != found.images:
        raise BadInput(f"row {row.number} where {found.images} was expected: the folder's chunks do not fit together")
    found.images += 1
    before = None if row.sha256 is None else seen.first(row.sha256, row.name)
    if before is not None:
        found.duplicates += 1
        copies.write(json.dumps({"number": row.number, "name": row.name, "of": before}) + "\n")
    if row.unreadable is not None:
        found.unreadable += 1
        if len(found.named) < _SHOWN:
            found.named = (*found.named, f"{row.name} ({row.unreadable})")
        return
    on_cpus = {run.output_sha256 for device, run in row.runs.items() if on_cpu(device)} - {None}
    for device, run in row.runs.items():
        output, repeats = run.output_sha256, 0
        if output is not None and row.reference_sha256 is not None:
            repeats = seen.repeats(device, output, row.reference_sha256)
        found.tallies[device].take(row, before is None, repeats)
        if found.same_as_cpu is not None and device in found.same_as_cpu:
            found.same_as_cpu[device] += output in on_cpus


def summaries(
    order: SweepOrder, plan: Plan, found: Merged, store: ChunkStore, policy: Policy
) -> tuple[RunSummary, ...]:
    """Each device's summary and verdict; its worst images are copied into the folder."""
    shutil.rmtree(store.folder / WORST, ignore_errors=True)
    wanted = {ranked.row.number for tally in found.tallies.values() for ranked in tally.worst()}
    items = {item.number: item for chunk, _ in plan.read() for item in chunk.items if item.number in wanted}
    return tuple(_summary(order, tally, found, items, store, policy) for tally in found.tallies.values())


def _summary(
    order: SweepOrder, tally: Tally, found: Merged, items: dict[int, Item], store: ChunkStore, policy: Policy
) -> RunSummary:
    comparison, facts = tally.comparison(), tally.facts
    if facts is None:
        raise BadInput(f"{tally.device}: nothing was run")
    also = _identical(tally, (found.same_as_cpu or {}).get(tally.device, 0), facts.kind.precision == "fp16")
    return RunSummary(
        device=tally.device,
        precision=order.precision,
        judgement=judge(comparison, facts.model_copy(update={"asked": comparison.asked}), policy, also),
        passed=agreement(tally.passed, tally.distinct),
        neighbours=agreement(tally.kept, tally.kept_of),
        failures=tally.failures,
        metrics=tally.metrics(),
        worst=tuple(_copied(order, tally, rank, each, items, store) for rank, each in enumerate(tally.worst(), 1)),
    )


def _identical(tally: Tally, same: int, fp16: bool) -> tuple[Finding, ...]:
    """As `identical_to_cpu` of a comparison, from the hashes of outputs."""
    if not same:
        return ()
    message = f"{same} of {tally.seen} images gave the same bits on CPU and {tally.device}: it probably fell back"
    return (Finding(code="identical_to_cpu", severity="fail" if fp16 else "suspicious", message=message),)


def _copied(
    order: SweepOrder, tally: Tally, rank: int, ranked: Ranked, items: dict[int, Item], store: ChunkStore
) -> WorstImage:
    """A worst image, its encoded bytes beside the result under a name of our own making."""
    row = ranked.row
    run = row.runs[tally.device]
    path = PurePosixPath(row.name)
    name = f"{rank:02d}-{safe_name(path.stem)}{path.suffix.lower()}"
    file = f"{WORST}/{safe_name(tally.device)}/{name}"
    content = read_item(Path(order.root), items[row.number])
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise BadInput(f"{row.name}: changed since it was judged; run the sweep again")
    target = store.folder / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return WorstImage(
        rank=rank,
        number=row.number,
        name=row.name,
        sha256=row.sha256,
        relative_l2=run.metrics.get("relative_l2", math.nan),
        correlation=run.metrics.get("correlation", math.nan),
        why=run.failures[0].message if run.failures else None,
        file=file,
    )


def reasons_of(found: Merged, runs: Sequence[RunSummary], allowed: int) -> tuple[str, ...]:
    """Why the sweep does not pass, beside what the judgements say; empty when it does."""
    reasons = []
    if found.unreadable > allowed:
        more = f" and {found.unreadable - _SHOWN} more" if found.unreadable > _SHOWN else ""
        reasons.append(
            f"{found.unreadable} images cannot be read, {allowed} allowed: {', '.join(found.named)}{more}; "
            "mend them, or say --allow-unreadable N"
        )
    for device, tally in found.tallies.items():
        if tally.differing is not None:
            reasons.append(f"{device}: chunks did not run alike: {tally.differing}")
    reasons += [f"{run.device}: the verdict on its run is FAIL" for run in runs if not run.judgement.passed]
    return tuple(reasons)
