"""What a run folder holds besides the report: the truth that outputs are compared with, and its hash.

Stored raw, so that a run can be judged again under another policy without the model or a device.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fidelity.errors import BadInput
from fidelity.npy import npy_bytes
from fidelity.record import Record

TRUTH = "truth.json"
_ARRAY = "truth.npy"

Embeddings = dict[str, NDArray[np.float64]]


class TruthRecord(Record):
    """Float64 embeddings of the unrewritten model: rows of truth.npy in this order."""

    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    sha256: str


def store_truth(folder: Path, truth: Mapping[str, NDArray[np.float64]]) -> None:
    """Write the embeddings, [1, D] each, into a run folder."""
    stacked = np.concatenate(list(truth.values()))
    content = npy_bytes(stacked)
    (folder / _ARRAY).write_bytes(content)
    record = TruthRecord(inputs=tuple(truth), shape=stacked.shape, sha256=hashlib.sha256(content).hexdigest())
    record.write(folder / TRUTH)


def load_truth(folder: Path) -> Embeddings:
    """The embeddings of a run folder by input name. Raises BadInput when they are not as stored."""
    record = TruthRecord.read(folder / TRUTH)
    path = folder / _ARRAY
    content = path.read_bytes() if path.is_file() else b""
    digest = hashlib.sha256(content).hexdigest()
    if digest != record.sha256:
        raise BadInput(f"{path}: altered: sha256 is {digest[:16]}..., {TRUTH} says {record.sha256[:16]}...")
    stacked = np.load(io.BytesIO(content), allow_pickle=False)
    if stacked.dtype != np.float64 or stacked.shape != record.shape or len(stacked) != len(record.inputs):
        raise BadInput(f"{path}: {stacked.dtype} {stacked.shape}, not float64 {record.shape}")
    return {name: stacked[row : row + 1] for row, name in enumerate(record.inputs)}
