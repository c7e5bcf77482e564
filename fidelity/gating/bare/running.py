"""One entry point on one device, the reference kernels included: a job in the cache, several inputs and outputs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fidelity.cache import Cache
from fidelity.devices.discovery import Device
from fidelity.devices.job import Precision
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.devices.tensor_files import array_sha256
from fidelity.files import file_sha256
from fidelity.gating.execution import MEMORY_LIMIT, Execution, read_execution
from fidelity.progress import Step

Sets = Mapping[str, Mapping[str, NDArray[Any]]]
TIMEOUT_SECONDS = 900.0
REPEATED = 1
"""Sets that run twice, for the determinism check."""


def ran(
    artefact: Path, device: Device, precision: Precision, signature: str | None, sets: Sets, cache: Cache, step: Step
) -> Execution:
    """The finished job, or the same one from the cache. Only one that ended well is kept there."""
    repeat = tuple(sets)[:REPEATED]
    key = {
        "artefact": file_sha256(artefact),
        "signature": signature,
        "inputs": {name: {key: array_sha256(array) for key, array in each.items()} for name, each in sets.items()},
        "device": device.info.model_dump(mode="json", exclude={"facts"}),
        "executor": device.executor,
        "precision": precision,
        "repeat": list(repeat),
    }

    def make(folder: Path) -> None:
        prepare_job(
            folder,
            artefact,
            sets,
            device=device.job_device,
            precision=precision,
            signature=signature,
            repeat=repeat,
            timeout_seconds=TIMEOUT_SECONDS,
            memory_limit_bytes=MEMORY_LIMIT,
        )
        step(f"{device.spec} {precision}")
        run_job(folder, device)

    folder = cache.entry("bare", key, make)
    execution = read_execution(folder)
    if execution.result.status == "ok":
        return execution
    kept = Path(f"{folder}.failed")
    shutil.rmtree(kept, ignore_errors=True)
    folder.rename(kept)
    return read_execution(kept)
