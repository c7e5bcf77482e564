"""The harness's side of a local job: guard the process that runs it, believe nothing it says.

Whatever that does (ends, crashes, hangs, eats memory, writes nonsense) becomes a JobResult. It is the
Python worker, or the C runner where that is asked for, or where only the runner can ask the runtime
for the job's precision.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from fidelity.devices.believing import JOB, LOG, RESULT, no_result, read_result
from fidelity.devices.discovery import Device
from fidelity.devices.job import HOST, Adapter, Job, JobResult

_POLL_SECONDS = 0.05
_RUNNERS_OWN = ("fp16", "fp16-accumulate-fp32")


def run_local_job(folder: Path, device: Device) -> JobResult:
    """Run a prepared job on `device` in a process of its own and return its checked result.

    The result is also what result.json holds afterwards, whoever wrote it. A runtime that chose
    another adapter than the one asked for has not run on the device. Raises EnvironmentMissing
    when the C runner is needed and was not built.
    """
    job = Job.read(folder / JOB)
    _clear(folder / RESULT)
    code, killed, peak = _guarded(job, folder, _command(job, folder, device), device.environment)
    result = _on_device(killed or read_result(job, folder, _ending(code)), job, device)
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
        if job.device in HOST or result.status != "ok":
            return result
        return no_result(job, "no_device", "the runtime names no adapter, so nothing says that the GPU was used")
    if result.adapter.name != device.info.name:
        error = f"asked for {device.info.name!r}, the runtime chose {result.adapter.name!r}"
        return no_result(job, "no_device", error)
    known = Adapter(
        name=device.info.name, driver=device.info.driver, software=device.info.software, fp16=device.info.fp16
    )
    return result.model_copy(update={"adapter": known})


def _command(job: Job, folder: Path, device: Device) -> list[str]:
    """The worker, or the runner with the wheel's own libraries."""
    if device.executor == "worker" and (job.device in HOST or job.precision not in _RUNNERS_OWN):
        return [sys.executable, "-m", "fidelity.devices.worker", str(folder)]
    from fidelity.devices.runner_build import host_runner, runtime_folder  # noqa: PLC0415 - seldom needed

    return [str(host_runner()), str(folder), "--runtime", str(runtime_folder())]


def _guarded(
    job: Job, folder: Path, command: list[str], environment: Mapping[str, str]
) -> tuple[int, JobResult | None, int]:
    """Exit code, a result if the worker had to be killed, and its peak memory in bytes."""
    deadline = time.monotonic() + job.timeout_seconds
    peak = 0
    with (folder / LOG).open("ab") as log:
        worker = subprocess.Popen(
            command,
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
                return -1, no_result(job, "out_of_memory", f"the worker used {limit}"), peak
            if time.monotonic() > deadline:
                error = f"the worker passed its limit of {job.timeout_seconds:g} s and was killed"
                return -1, no_result(job, "timeout", error), peak
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


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"
