"""What a sweep is asked to do, and the key of everything that a chunk's figures depend on.

The policy is not in it: a chunk holds figures, and limits are applied when chunks are merged, so that a stored
sweep is judged again under another policy without a device.
"""

from __future__ import annotations

import hashlib

from pydantic import Field

from fidelity.cache import code_sha256, tool_versions
from fidelity.devices.job import Precision
from fidelity.models.input_contract import InputContract
from fidelity.record import Record, canonical_json
from fidelity.tflite.manifest import WeightsDtype

CHUNK = 64
"""Images of one unit of work. A kill loses at most one in flight a worker: on two cores a minute of PE-Core B/16;
a job's start (half a second) is spread over as many."""

GALLERY = 32
"""Images that every other one is held against: their mean and its nearest neighbours among them."""


class SweepOrder(Record):
    """One artefact, its reference and the devices. Paths are the same on every host: a shared folder.

    `weights_identity` is the weights' choice with a file's hash in it; `weights_sha256` those that the model has.
    """

    artefact: str
    artefact_sha256: str
    weights_dtype: WeightsDtype
    input: str
    output: str
    source: str
    weights: str
    weights_sha256: str
    seed: int
    contract: InputContract
    devices: tuple[str, ...] = Field(min_length=1)
    precision: Precision = "default"
    root: str
    timeout_seconds: float = 900.0

    def key(self) -> str:
        """The hash of what figures depend on, with the versions and source code that make them; not where files lie."""
        fields = self.model_dump(mode="json", exclude={"artefact", "root", "weights", "timeout_seconds"})
        everything = {"order": fields, "tools": tool_versions(), "code": code_sha256()}
        return hashlib.sha256(canonical_json(everything)).hexdigest()


def chunk_key(order: str, chunk: str, gallery: str) -> str:
    """The key of a chunk's result: of the order, of the chunk as it stands in the plan, of the gallery."""
    return hashlib.sha256(canonical_json([order, chunk, gallery])).hexdigest()
