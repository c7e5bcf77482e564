"""Running one model on one set of inputs: all that locating knows of a device."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.devices.believing import JOB, RESULT, load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.job import Job, JobResult, Precision
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.devices.tensor_files import array_sha256
from fidelity.errors import BadInput, EnvironmentMissing

Array = NDArray[Any]
Arrays = dict[str, Array]
_INPUT = "traced"
_LOST = ("device_lost", "transfer_failed", "no_device")


@dataclass(frozen=True)
class Ran:
    """One run of a model: outputs by the signature's names, or why there are none."""

    outputs: Arrays
    resident: bool
    error: str | None = None
    result: JobResult | None = None


RunModel = Callable[[bytes, Arrays], Ran]
"""Runs a .tflite on one set of inputs."""


def on_device(
    device: Device, precision: Precision = "default", jobs: Path | None = None, timeout_seconds: float = 600.0
) -> RunModel:
    """Runs on a real device, each model in a job of its own.

    Jobs that ended well are kept in `jobs`, so that a search whose device was lost goes on where it was; without
    it, nowhere. The run raises EnvironmentMissing where the device is not there any more.
    """

    def run(model: bytes, inputs: Arrays) -> Ran:
        name = f"{device.job_device.replace(':', '-')}-{precision}-{_digest(model, inputs)}"
        if jobs is not None and (kept := _kept(jobs / name, model, inputs, precision)) is not None:
            return kept
        with tempfile.TemporaryDirectory(prefix=".locate-", dir=jobs) as scratch:
            path, job = Path(scratch) / "model.tflite", Path(scratch) / "job"
            path.write_bytes(model)
            prepare_job(
                job,
                path,
                {_INPUT: inputs},
                device=device.job_device,
                precision=precision,
                timeout_seconds=timeout_seconds,
            )
            result = run_job(job, device)
            if result.status in _LOST:
                kept_text = "" if jobs is None else "; what it did so far is kept: give the same command again"
                raise EnvironmentMissing(f"{device.info.name}: {result.status}: {result.error}{kept_text}")
            if result.status == "ok" and jobs is not None:
                shutil.move(job, jobs / name)
                return _ran(jobs / name, result)
            return _ran(job, result)

    return run


def _kept(folder: Path, model: bytes, inputs: Arrays, precision: Precision) -> Ran | None:
    """What a job of this model, input and precision gave before; one that does not hold is removed."""
    if not folder.is_dir():
        return None
    try:
        job, result = Job.read(folder / JOB), JobResult.read(folder / RESULT)
        (stored,) = job.inputs
        given = {name: array_sha256(array) for name, array in inputs.items()}
        held = {name: tensor.sha256 for name, tensor in stored.tensors.items()}
        models = {job.model_sha256, result.model_sha256, hashlib.sha256(model).hexdigest()}
        if result.status == "ok" and held == given and len(models) == 1 and job.precision == precision:
            return _ran(folder, result)
    except (BadInput, ValueError, KeyError):
        pass  # half a job, or one that something has changed
    shutil.rmtree(folder)
    return None


def _ran(job: Path, result: JobResult) -> Ran:
    if result.status != "ok":
        return Ran({}, False, f"{result.status}: {result.error}", result)
    resident = result.device == "cpu" or (result.residency is not None and result.residency.full)
    return Ran(load_outputs(job, result)[_INPUT], resident, None, result)


def _digest(model: bytes, inputs: Arrays) -> str:
    digest = hashlib.sha256(model)
    for name, array in sorted(inputs.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
