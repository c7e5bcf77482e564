"""The harness's side of a local job: prepare the folder, guard the worker, believe nothing it says.

Whatever the worker does (ends, crashes, hangs, eats memory, writes nonsense) becomes a JobResult.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import ValidationError

from fidelity.devices.discovery import Device
from fidelity.devices.job import Adapter, Job, JobInput, JobResult, Precision, Status
from fidelity.devices.tensor_files import read_tensor, safe_name, write_tensor
from fidelity.errors import BadInput
from fidelity.files import link_or_copy
from fidelity.record import describe

Tensors = Mapping[str, NDArray[Any]]
JOB, RESULT, LOG = "job.json", "result.json", "log.txt"
_LARGEST_RESULT = 64 << 20
_POLL_SECONDS = 0.05


def prepare_job(
    folder: Path,
    model: Path,
    inputs: Mapping[str, Tensors],
    *,
    device: str,
    precision: Precision = "default",
    signature: str | None = None,
    repeat: tuple[str, ...] = (),
    threads: int = 2,
    timeout_seconds: float = 600.0,
    memory_limit_bytes: int | None = None,
) -> Job:
    """Fill an empty `folder` with job.json, the model (a second name for it, or a copy) and raw inputs.

    `repeat` names the inputs that run twice. `device` is the job's own word: cpu or gpu.
    """
    link_or_copy(model, folder / "model.tflite")
    with model.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    stored = [
        JobInput(
            name=name,
            tensors={
                key: write_tensor(folder, f"inputs/{safe_name(f'{name}/{key}')}.raw", np.asarray(array))
                for key, array in tensors.items()
            },
        )
        for name, tensors in inputs.items()
    ]
    job = Job(
        model="model.tflite",
        model_sha256=digest,
        device=device,
        precision=precision,
        signature=signature,
        inputs=tuple(stored),
        repeats=2 if repeat else 1,
        repeat_only=repeat or None,
        threads=threads,
        timeout_seconds=timeout_seconds,
        memory_limit_bytes=memory_limit_bytes,
    )
    job.write(folder / JOB)
    return job


def run_job(folder: Path, device: Device) -> JobResult:
    """Run a prepared job on `device` in a worker process and return its checked result.

    The result is also what result.json holds afterwards, whoever wrote it. A runtime that chose
    another adapter than the one asked for has not run on the device.
    """
    job = Job.read(folder / JOB)
    _clear(folder / RESULT)
    code, killed, peak = _guarded(job, folder, device.environment)
    result = _on_device(killed or _read_result(job, folder, code), job, device)
    if peak > (result.peak_memory_bytes or 0):
        result = result.model_copy(update={"peak_memory_bytes": peak})
    _clear(folder / RESULT)
    result.write(folder / RESULT)
    return result


def _clear(path: Path) -> None:
    """Remove whatever is there under a result's name: a worker may have made a folder of it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _on_device(result: JobResult, job: Job, device: Device) -> JobResult:
    """The result with what discovery knows of the adapter, or `no_device` if it is another one."""
    if result.adapter is None:
        if job.device == "cpu" or result.status != "ok":
            return result
        return _no_result(job, "no_device", "the runtime names no adapter, so nothing says that the GPU was used")
    if result.adapter.name != device.info.name:
        error = f"asked for {device.info.name!r}, the runtime chose {result.adapter.name!r}"
        return _no_result(job, "no_device", error)
    known = Adapter(
        name=device.info.name, driver=device.info.driver, software=device.info.software, fp16=device.info.fp16
    )
    return result.model_copy(update={"adapter": known})


def _guarded(job: Job, folder: Path, environment: Mapping[str, str]) -> tuple[int, JobResult | None, int]:
    """Exit code, a result if the worker had to be killed, and its peak memory in bytes."""
    deadline = time.monotonic() + job.timeout_seconds
    peak = 0
    with (folder / LOG).open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "fidelity.devices.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        while worker.poll() is None:
            peak = max(peak, _memory(worker.pid))
            if job.memory_limit_bytes is not None and peak > job.memory_limit_bytes:
                limit = f"{peak / 2**20:.0f} MiB, its limit is {job.memory_limit_bytes / 2**20:.0f} MiB"
                return -1, _no_result(job, "out_of_memory", f"the worker used {limit}"), peak
            if time.monotonic() > deadline:
                error = f"the worker passed its limit of {job.timeout_seconds:g} s and was killed"
                return -1, _no_result(job, "timeout", error), peak
            time.sleep(_POLL_SECONDS)
        return worker.returncode, None, peak
    finally:
        _kill(worker)


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """End the worker and all that it started, stopped or not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def _memory(pid: int) -> int:
    """Resident bytes of the worker and its children."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total


def _read_result(job: Job, folder: Path, code: int) -> JobResult:
    """The worker's own result if it holds, else what its end means."""
    path = folder / RESULT
    if not path.is_file():
        return _no_result(job, "crashed", f"the worker {_ending(code)} and left no result; see {LOG}")
    if path.stat().st_size > _LARGEST_RESULT:
        return _no_result(job, "crashed", f"the worker's result.json is larger than {_LARGEST_RESULT >> 20} MiB")
    try:
        result = JobResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        return _no_result(job, "crashed", f"the worker's result.json is not a result: {describe(error)}")
    if wrong := _contradiction(job, result):
        return _no_result(job, "crashed", f"the worker's result {wrong}")
    try:
        load_outputs(folder, result)
    except BadInput as error:
        return _no_result(job, "crashed", f"the worker's outputs do not hold: {error}")
    return result


def _contradiction(job: Job, result: JobResult) -> str | None:
    """Why a result is not of this job, or says ok without answering every input once, in order."""
    if (result.model_sha256, result.device) != (job.model_sha256, job.device):
        return "is for another model or device"
    if result.status != "ok":
        return None
    asked, answered = [item.name for item in job.inputs], [output.input for output in result.outputs]
    if asked != answered:
        return f"says ok and answers {answered[:4]}, not the inputs {asked[:4]}"
    empty = [output.input for output in result.outputs if not output.tensors]
    return f"says ok and has no output for {empty[0]!r}" if empty else None


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def _no_result(job: Job, status: Status, error: str) -> JobResult:
    return JobResult(
        status=status,
        error=error,
        device=job.device,
        precision_asked=job.precision,
        model_sha256=job.model_sha256,
    )


def load_outputs(folder: Path, result: JobResult) -> dict[str, dict[str, NDArray[Any]]]:
    """Outputs by input name, then by output name. Raises BadInput for a file that does not hold."""
    return {
        output.input: {name: read_tensor(folder, file) for name, file in output.tensors.items()}
        for output in result.outputs
    }
