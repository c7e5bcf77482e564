"""Run one of this package's modules in a process of its own, within limits of time and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from fidelity.errors import EnvironmentMissing

_POLL_SECONDS = 0.05
_NO_SPACE = "No space left on device"


@dataclass(frozen=True)
class Limits:
    """What a worker may use: seconds of wall time, and bytes of memory (None: as much as there is)."""

    seconds: float = 900.0
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Usage:
    """What a worker that ended well has used; the memory is the greatest of samples 50 ms apart."""

    seconds: float
    peak_memory_bytes: int

    def __add__(self, other: Usage) -> Usage:
        """What two workers, one after the other, have used."""
        peak = max(self.peak_memory_bytes, other.peak_memory_bytes)
        return Usage(self.seconds + other.seconds, peak)


def run_worker(module: str, arguments: Sequence[str], log: Path, limits: Limits, doing: str) -> Usage:
    """Run `python -m module arguments`, both its streams appended to `log`.

    PYTHONHASHSEED is fixed, so that nothing that is made can follow the order of a hash; the
    current folder is kept off the module path (-P). Raises EnvironmentMissing, one line that
    begins with `doing`, when the worker fails, passes a limit or finds the disk full.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    environment = os.environ | {"PYTHONHASHSEED": "0", "LITERT_TORCH_SHOW_PROGRESS": "n"}
    started, peak = time.monotonic(), 0
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=environment,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                peak = max(peak, _memory(process.pid))
                _check_limits(limits, time.monotonic() - started, peak, doing)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode != 0:
        raise EnvironmentMissing(f"{doing}: {_reason(process.returncode, log)}")
    return Usage(time.monotonic() - started, peak)


def _check_limits(limits: Limits, seconds: float, memory: int, doing: str) -> None:
    if seconds > limits.seconds:
        raise EnvironmentMissing(f"{doing}: stopped at its limit of {limits.seconds:g} seconds")
    if limits.memory_bytes is not None and memory > limits.memory_bytes:
        raise EnvironmentMissing(
            f"{doing}: stopped at {memory >> 20} MiB of memory; its limit is {limits.memory_bytes >> 20} MiB"
        )


def _memory(pid: int) -> int:
    """Resident bytes of a process; 0 once it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _reason(code: int, log: Path) -> str:
    """Why a worker ended: a full disk, a signal, or the last line that it wrote."""
    tail = log.read_bytes()[-65536:].decode("utf-8", errors="replace")
    if _NO_SPACE in tail:
        return f"{_NO_SPACE.lower()}; free some, or choose another folder"
    if code < 0:
        return f"the converter was killed by {signal.Signals(-code).name}"
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    last = lines[-1] if lines else "it wrote nothing"
    return f"the converter ended with code {code}: {last[:240]}"
