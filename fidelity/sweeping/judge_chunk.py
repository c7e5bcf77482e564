"""What a worker does: read a chunk's images, run reference and devices, measure every image. Nothing is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.comparison import Outputs, compare
from fidelity.comparison.metrics import OUTPUT_METRICS
from fidelity.comparison.metrics.outcome import Measured, Undefined
from fidelity.devices.tensor_files import array_sha256
from fidelity.errors import BadInput
from fidelity.sweeping.decoding import decode_image
from fidelity.sweeping.device_turn import run_on
from fidelity.sweeping.float_arrays import FloatArray
from fidelity.sweeping.gallery import Gallery, StoredGallery
from fidelity.sweeping.items import Chunk, Item, read_item
from fidelity.sweeping.order import SweepOrder
from fidelity.sweeping.reference_model import reference_model
from fidelity.sweeping.rows import ChunkResult, ChunkRun, ImageRow, ImageRun
from fidelity.sweeping.spread import spread_of


@dataclass(frozen=True)
class Seen:
    """A chunk's images as they were read: each has its row, a readable one its input and reference too, by job name."""

    rows: tuple[ImageRow, ...]
    inputs: dict[str, NDArray[np.float32]]
    references: dict[str, NDArray[np.float64]]


def judge_chunk(order: SweepOrder, chunk: Chunk, gallery: StoredGallery, key: str, scratch: Path) -> ChunkResult:
    """Every image of the chunk, judged or named unreadable.

    Raises BadInput when data, artefact or weights are not those that the sweep began with.
    """
    seen = _see(order, chunk)
    rows = {row.number: row for row in seen.rows}
    runs: dict[str, ChunkRun] = {}
    for device in order.devices:
        if not seen.inputs:
            runs[device] = ChunkRun()
            continue
        facts, outputs = run_on(order, device, seen.inputs, scratch)
        held = Gallery(gallery, device)
        pairs: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for number, row in rows.items():
            name = _name(number)
            if name not in seen.references:
                continue
            actual = outputs.get(name, {})
            run = _measure(order.output, row, actual, seen.references[name], held)
            rows[number] = row.model_copy(update={"runs": {**row.runs, device: run}})
            if not run.failures:
                pairs.append((actual[order.output].ravel(), seen.references[name].ravel()))
        runs[device] = ChunkRun(facts=facts, spread=spread_of(pairs, held.centre) if len(held.centre) else None)
    return ChunkResult(key=key, number=chunk.number, rows=tuple(rows.values()), runs=runs)


def make_gallery(order: SweepOrder, items: tuple[Item, ...], key: str, scratch: Path) -> tuple[StoredGallery, bool]:
    """The gallery of these images, those of them that can be read, and whether every device ran them.

    An image that a device gave nothing for has NaN, and is nobody's neighbour.
    """
    seen = _see(order, Chunk(number=0, items=items))
    numbers = tuple(row.number for row in seen.rows if row.unreadable is None)
    references = [seen.references[_name(number)].ravel() for number in numbers]
    width = len(references[0]) if references else 0
    outputs, whole = {}, True
    for device in order.devices:
        found: dict[str, dict[str, NDArray[Any]]] = {}
        if seen.inputs:
            facts, found = run_on(order, device, seen.inputs, scratch)
            whole = whole and facts.status == "ok"
        rows = [_row_of(found.get(_name(number), {}).get(order.output), width) for number in numbers]
        outputs[device] = FloatArray.of(np.array(rows).reshape(len(rows), width))
    stored = StoredGallery(
        key=key,
        numbers=numbers,
        sha256=tuple(row.sha256 or "" for row in seen.rows if row.unreadable is None),
        references=FloatArray.of(np.array(references).reshape(len(references), width)),
        outputs=outputs,
    )
    return stored, whole


def _row_of(output: NDArray[Any] | None, width: int) -> NDArray[np.float64]:
    if output is None or output.size != width:
        return np.full(width, np.nan)
    return output.ravel().astype(np.float64)


def _see(order: SweepOrder, chunk: Chunk) -> Seen:
    embed = reference_model(order)
    rows, inputs, references = [], {}, {}
    for item in chunk.items:
        content, why = b"", item.refused
        if why is None:
            content = read_item(Path(order.root), item)
            try:
                image = decode_image(content, order.contract)
            except BadInput as error:
                why = str(error)
        row = ImageRow(number=item.number, name=item.name, bytes=item.size, unreadable=why)
        if item.refused is None:
            row = row.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
        if why is None:
            name = _name(item.number)
            inputs[name], references[name] = image, embed(image)
            row = row.model_copy(update={"reference_sha256": array_sha256(references[name])})
        rows.append(row)
    return Seen(tuple(rows), inputs, references)


def _measure(
    output: str, row: ImageRow, actual: dict[str, NDArray[Any]], reference: NDArray[np.float64], gallery: Gallery
) -> ImageRun:
    """Every figure of one image on one device; without its output, the failure alone."""
    given: Outputs = {row.name: actual} if actual else {}
    compared = compare(given, {row.name: {output: reference}}, ())
    metrics: dict[str, float] = {}
    undefined: dict[str, Undefined] = {}
    for record in compared.outputs:
        metrics |= {name: record.metrics[name] for name in OUTPUT_METRICS if name in record.metrics}
        undefined |= record.undefined
    if output not in actual:
        return ImageRun(metrics=metrics, undefined=undefined, failures=compared.failures)
    held = gallery.hold(actual[output], reference, row.sha256 or "")
    metrics |= {name: found.value for name, found in held.outcomes.items() if isinstance(found, Measured)}
    undefined |= {name: found for name, found in held.outcomes.items() if isinstance(found, Undefined)}
    return ImageRun(
        metrics=metrics,
        undefined=undefined,
        failures=compared.failures,
        kept=held.kept,
        output_sha256=array_sha256(actual[output]),
    )


def _name(number: int) -> str:
    """An image's name in a job: nothing of the data set's own names reaches a device."""
    return f"image{number}"
