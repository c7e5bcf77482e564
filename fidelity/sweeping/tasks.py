"""The functions that Dask runs on a worker: text in, text out."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter

from fidelity.errors import BadInput
from fidelity.sweeping.gallery import StoredGallery
from fidelity.sweeping.items import Chunk, Item
from fidelity.sweeping.judge_chunk import judge_chunk, make_gallery
from fidelity.sweeping.order import SweepOrder

ITEMS = TypeAdapter(tuple[Item, ...])


def chunk_task(order: str, order_key: str, gallery: str, chunk: str, key: str) -> str:
    """A ChunkResult as JSON."""
    result = judge_chunk(_order(order, order_key), Chunk.model_validate_json(chunk), _gallery(gallery), key, _scratch())
    return result.model_dump_json()


def gallery_task(order: str, order_key: str, items: str, key: str) -> str:
    """The gallery as JSON, and whether every device ran it, as a line before it."""
    stored, whole = make_gallery(_order(order, order_key), ITEMS.validate_json(items), key, _scratch())
    return f"{'whole' if whole else 'partial'}\n{stored.model_dump_json()}"


@lru_cache(maxsize=1)
def _order(order: str, order_key: str) -> SweepOrder:
    """The order, once this worker is known to compute what the client's own versions would."""
    parsed = SweepOrder.model_validate_json(order)
    if parsed.key() != order_key:
        raise BadInput("a worker has another version of fidelity or of its tools than the client: install the same")
    return parsed


@lru_cache(maxsize=1)
def _gallery(gallery: str) -> StoredGallery:
    return StoredGallery.model_validate_json(gallery)


def _scratch() -> Path:
    """A folder of this worker, on this host, that Dask removes."""
    from distributed import get_worker  # noqa: PLC0415 - an extra

    folder = Path(get_worker().local_directory)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
