"""A worker that dies, hangs, eats memory or lies: each becomes a result with a name."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from fidelity.devices.discovery import resolve
from fidelity.devices.job import JobResult
from fidelity.devices.precision_probe import INPUT, probe_model
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job

CPU = resolve("cpu")


def prepared(folder: Path, **limits: float) -> Path:
    model = folder / "probe.tflite"
    model.write_bytes(probe_model())
    job = folder / "job"
    job.mkdir()
    prepare_job(job, model, {"probe": {"x": INPUT}}, device="cpu", **limits)  # type: ignore[arg-type]
    return job


def signalled(job: Path, number: signal.Signals) -> JobResult:
    """Run the job, and send its worker a signal as soon as it is seen."""

    def send() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for child in psutil.Process().children():
                if str(job) in " ".join(child.cmdline()):
                    os.kill(child.pid, number)
                    return
            time.sleep(0.01)

    sender = threading.Thread(target=send)
    sender.start()
    result = run_job(job, CPU)
    sender.join()
    return result


def test_an_honest_worker_is_ok(tmp_path: Path) -> None:
    assert run_job(prepared(tmp_path), CPU).status == "ok"


def test_a_killed_worker_has_crashed(tmp_path: Path) -> None:
    result = signalled(prepared(tmp_path), signal.SIGKILL)
    assert result.status == "crashed"
    assert "SIGKILL" in (result.error or "")


def test_a_hanging_worker_is_ended_at_its_limit(tmp_path: Path) -> None:
    result = signalled(prepared(tmp_path, timeout_seconds=3.0), signal.SIGSTOP)
    assert result.status == "timeout"
    assert "3 s" in (result.error or "")
    assert not [p for p in psutil.Process().children(recursive=True) if str(tmp_path) in " ".join(p.cmdline())]


def test_a_worker_past_its_memory_is_ended(tmp_path: Path) -> None:
    result = run_job(prepared(tmp_path, memory_limit_bytes=1 << 20), CPU)
    assert result.status == "out_of_memory"
    assert "limit is 1 MiB" in (result.error or "")


@pytest.mark.parametrize("name", ["model.tflite", "inputs"])
def test_a_job_whose_files_changed_is_refused(tmp_path: Path, name: str) -> None:
    job = prepared(tmp_path)
    victim = job / name if name == "model.tflite" else next((job / name).iterdir())
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.unlink()
    victim.write_bytes(content)
    assert run_job(job, CPU).status in ("bad_model", "bad_input")
