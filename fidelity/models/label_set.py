"""A set of label embeddings on disk: a JSON record of where they come from, beside one .npy of float64.

What is read back is untrusted. A label set decides what the device's embedding is called, so a changed byte,
two labels of one embedding or a row that is no direction are errors, never a quieter result.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.models.prompts import FEWEST, PLACE, twice
from fidelity.record import Record

_LARGEST = 2 << 30
_LARGEST_RECORD = 16 << 20


class LabelRecord(Record):
    """What label embeddings are of, and the array that holds them.

    `sha256` is of the whole file `file`, which lies beside the record: `dtype`, `shape` [labels, D]. Row k is
    label k: the mean over the templates of the tower's normalised embeddings, normalised again.
    """

    schema_version: Literal[1] = 1
    model: str
    weights: str
    weights_sha256: str
    seed: int
    context_length: int
    labels: Annotated[tuple[str, ...], Field(min_length=FEWEST)]
    templates: Annotated[tuple[str, ...], Field(min_length=1)]
    versions: dict[str, str]
    file: Annotated[str, Field(pattern=r"^[^/\\]+\.npy$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    dtype: Literal["float64"] = "float64"
    shape: tuple[int, int]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if doubled := twice(self.labels):
            raise ValueError(f"label {doubled!r} is listed twice")
        for template in self.templates:
            if PLACE not in template:
                raise ValueError(f"template {template!r} has no {PLACE}")
        return self


@dataclass(frozen=True)
class LabelSet:
    """A record with its embeddings, float64 [labels, D], rows of norm 1, and the file that it was read from."""

    record: LabelRecord
    embeddings: NDArray[np.float64]
    path: Path

    @property
    def dimension(self) -> int:
        """Components of an embedding."""
        return self.record.shape[1]

    def check_fits(self, embedding: NDArray[np.float64], whose: str) -> None:
        """Raises BadInput when `embedding` has another number of components."""
        if embedding.size != self.dimension:
            raise BadInput(
                f"labels {self.path}: embeddings of {self.dimension} components by {self.record.model}, "
                f"{whose} has {embedding.size}: they are not of one model"
            )


def write_label_set(path: Path, record: LabelRecord, content: bytes) -> None:
    """Store a set at `path`, the array first and whole: a record never names an array that is not there."""
    part = path.parent / f".{record.file}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path.parent / record.file)
    except OSError as error:
        raise EnvironmentMissing(f"{path.parent / record.file}: cannot be written: {error.strerror}") from error
    record.write(path)


def read_label_set(path: Path) -> LabelSet:
    """The set stored at `path`, checked to the last byte. Raises BadInput."""
    if path.is_file() and path.stat().st_size > _LARGEST_RECORD:
        raise BadInput(f"labels {path}: larger than {_LARGEST_RECORD >> 20} MiB")
    record = LabelRecord.read(path)
    array = path.parent / record.file
    try:
        if array.stat().st_size > _LARGEST:
            raise BadInput(f"labels {array}: larger than {_LARGEST >> 30} GiB")
        content = array.read_bytes()
    except OSError as error:
        raise BadInput(f"labels {array}: cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != record.sha256:
        raise BadInput(f"labels {array}: altered: sha256 is {digest[:16]}..., {path.name} says {record.sha256[:16]}...")
    try:
        embeddings = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadInput(f"labels {array}: not a .npy array: {' '.join(str(error).split())[:160]}") from error
    if problem := unsound(record, embeddings):
        raise BadInput(f"labels {array}: {problem}")
    return LabelSet(record, embeddings, path)


def unsound(record: LabelRecord, embeddings: NDArray[np.float64]) -> str | None:
    """Why these are no embeddings of these labels; None when they are."""
    if not isinstance(embeddings, np.ndarray) or embeddings.dtype != np.float64:
        return "not a float64 array"
    if embeddings.shape != record.shape or record.shape[0] != len(record.labels) or record.shape[1] < 1:
        return f"shape {embeddings.shape}, the record says {record.shape} for {len(record.labels)} labels"
    if not np.isfinite(embeddings).all():
        row = int(np.argmin(np.isfinite(embeddings).all(axis=1)))
        return f"the embedding of {record.labels[row]!r} holds NaN or Inf"
    # a row divided by its norm has norm 1 but for the roundings of D squares, a root and a quotient
    off = np.abs(np.linalg.norm(embeddings, axis=1) - 1)
    if off.max() > (record.shape[1] + 4) * np.finfo(np.float64).eps:
        return f"the embedding of {record.labels[int(off.argmax())]!r} is not of norm 1"
    _, first = np.unique(embeddings, axis=0, return_index=True)
    if len(first) < len(embeddings):
        left = min(set(range(len(embeddings))) - set(first.tolist()))
        same = int(np.flatnonzero((embeddings == embeddings[left]).all(axis=1))[0])
        return f"{record.labels[same]!r} and {record.labels[left]!r} have one embedding: no model tells them apart"
    return None
