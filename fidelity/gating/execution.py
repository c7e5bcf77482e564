"""Run one artefact on one device over the inputs: one job, cached by everything that it depends on.

The key is the artefact's hash, the inputs' hashes, the device's own name and driver, and the
options: the same run is not made twice, whichever gate, ablation or verb asks for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.cache import Cache
from fidelity.devices.believing import JOB, load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.job import Job, JobResult
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.devices.tensor_files import array_sha256
from fidelity.gating.config import RunPlan
from fidelity.tflite.manifest import read_manifest

GIB = 1 << 30
MEMORY_LIMIT = 5 * GIB


@dataclass(frozen=True)
class Execution:
    """One finished job: its folder, what was asked, what happened, and the outputs that hold."""

    folder: Path
    job: Job
    result: JobResult
    outputs: dict[str, dict[str, NDArray[Any]]]


def execute(
    artefact: Path,
    device: Device,
    plan: RunPlan,
    inputs: Mapping[str, NDArray[np.float32]],
    cache: Cache,
    before: Callable[[str], None],
) -> Execution:
    """Run `artefact` on `device` over `inputs`, or take the same run from the cache.

    Only a run with status ok is worth keeping: any other is made again the next time. The input
    tensor is the artefact's only one.
    """
    manifest = read_manifest(artefact)
    name = manifest.contract.inputs[0].name
    repeat = tuple(inputs)[: plan.repeat]
    key = {
        "artefact": manifest.sha256,
        "inputs": {each: array_sha256(array) for each, array in inputs.items()},
        "device": device.info.model_dump(mode="json", exclude={"facts"}),  # a phone's battery is another each time
        "executor": device.executor,
        "precision": plan.precision,
        "repeat": list(repeat),
    }

    def make(folder: Path) -> None:
        prepare_job(
            folder,
            artefact,
            {each: {name: array} for each, array in inputs.items()},
            device=device.job_device,
            precision=plan.precision,
            repeat=repeat,
            timeout_seconds=plan.timeout_seconds,
            memory_limit_bytes=MEMORY_LIMIT,
        )
        before(plan.label)
        run_job(folder, device)

    folder = cache.entry("job", key, make)
    execution = read_execution(folder)
    if execution.result.status != "ok":
        kept = Path(str(folder) + ".failed")
        shutil.rmtree(kept, ignore_errors=True)
        folder.rename(kept)
        return read_execution(kept)
    return execution


def read_execution(folder: Path) -> Execution:
    """A finished job folder, its outputs checked. Raises BadInput when they do not hold."""
    result = JobResult.read(folder / "result.json")
    return Execution(folder, Job.read(folder / JOB), result, load_outputs(folder, result))


def keep(execution: Execution, folder: Path) -> None:
    """Copy a job into a run folder, without the model: that lies in the run's artefacts."""
    shutil.copytree(
        execution.folder,
        folder,
        ignore=shutil.ignore_patterns("model.tflite", "inputs", "key.json"),
        dirs_exist_ok=True,
    )
