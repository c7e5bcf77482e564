"""A row made in a process of its own, within limits of time and memory; whatever it does, there is a row."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import psutil

from fidelity.errors import BadInput
from fidelity.survey.make_row import Asked, stopped_row
from fidelity.survey.row import Row, Stage
from fidelity.survey.row_worker import ASKED, ROW, STAGE

_POLL_SECONDS = 0.25
_WORKER = (sys.executable, "-P", "-m", "fidelity.survey.row_worker")
Told = Callable[[Stage], None]


def isolated_row(asked: Asked, told: Told = lambda _: None, worker: Sequence[str] = _WORKER) -> Row:
    """The row that `worker` makes; a row that names the stage when it crashes, or passes a limit of the entry.

    The worker's own workers (a converter, a device's executor) count for its memory and end with it.
    """
    with tempfile.TemporaryDirectory(prefix="fidelity-row-") as name:
        folder = Path(name)
        asked.write(folder / ASKED)
        log = folder / "log.txt"
        started = time.monotonic()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*worker, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
            passed = _guarded(process, asked, folder, told)
        if passed is None and process.returncode == 0 and (folder / ROW).is_file():
            return Row.read(folder / ROW)
        # a limit is the machine's as much as the model's: such a row is made again the next time
        message = passed or f"its process {_ending(process.returncode, log)}"
        row = stopped_row(asked.entry, _stage(folder), message, {}, passing=True)
        return row.model_copy(update={"seconds": round(time.monotonic() - started, 1)})


def _guarded(process: subprocess.Popen[bytes], asked: Asked, folder: Path, told: Told) -> str | None:
    """Waits for the worker; what limit it passed, in words, when it had to be ended."""
    deadline = time.monotonic() + asked.entry.seconds
    most = asked.entry.gigabytes * 1e9
    last = None
    try:
        while process.poll() is None:
            stage = _stage(folder)
            if stage != last:
                last = stage
                told(stage)
            used = sum(map(_memory, _tree(process.pid)))
            if used > most:
                return f"stopped at {used / 1e9:.1f} GB of memory; its limit is {asked.entry.gigabytes:g} GB"
            if time.monotonic() > deadline:
                return f"stopped at its limit of {asked.entry.seconds:g} seconds"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the worker and all that it started, in whatever session they are."""
    if process.poll() is None:
        for each in reversed(_tree(process.pid)):
            with contextlib.suppress(psutil.Error):
                each.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tree(pid: int) -> list[psutil.Process]:
    """The process and all below it; empty once it is gone."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _memory(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _stage(folder: Path) -> Stage:
    """The stage that has begun last; the first, before any is told."""
    text = (folder / STAGE).read_text("utf-8") if (folder / STAGE).is_file() else "build"
    for stage in get_args(Stage):
        if stage == text:
            return stage  # type: ignore[no-any-return]
    raise BadInput(f"{folder / STAGE}: {text[:40]!r} is no stage")


def _ending(code: int, log: Path) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"died of {signal.Signals(-code).name}"
        return f"died of signal {-code}"
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return f"ended with code {code}: {lines[-1][:240] if lines else 'it wrote nothing'}"
