"""Whatever a worker does, the harness is left with a result that names it, in time, and nothing running.

The harness's own guard is tested with stand-ins for the worker, small programs that do one bad thing,
and with results that lie; test_worker_faults.py does the same to the real worker.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from fidelity.devices import local
from fidelity.devices.believing import read_result
from fidelity.devices.discovery import resolve
from fidelity.devices.job import Job, JobResult
from fidelity.devices.run import run_job

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_tflite_builder import add_and_scale
from tiny_models import X, Y, add_and_scale_job, job_folder, one_line

CPU = resolve("cpu")
PREAMBLE = "import json, os, pathlib, signal, subprocess, sys, time\nfolder = pathlib.Path(sys.argv[3])\n"


def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Have the harness start a program of this body where it would start the worker."""
    path = tmp_path / "stand-in"
    path.write_text(f"#!{sys.executable}\n{PREAMBLE}{body}\n", "utf-8")
    path.chmod(0o755)
    monkeypatch.setattr(local, "sys", SimpleNamespace(executable=str(path)))


def outcome(folder: Path) -> JobResult:
    """The result of the job, which is also what was stored, with no outputs and no process left."""
    result = run_job(folder, CPU)
    assert JobResult.read(folder / "result.json") == result
    assert result.outputs == ()
    assert not psutil.Process().children(recursive=True)
    return result


DEATHS = [
    ("os.kill(os.getpid(), signal.SIGKILL)", "died of SIGKILL"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
    ("os.abort()", "died of SIGABRT"),
    ("os.kill(os.getpid(), 40)", "died of signal 40"),
    ("sys.exit(7)", "ended with code 7"),
    ("sys.exit(0)", "ended with code 0"),
    ("raise RuntimeError('no')", "ended with code 1"),
    ("(folder / 'result.json').mkdir()", "left no result"),
    ("os.mkfifo(folder / 'result.json')", "left no result"),
    ("(folder / 'result.json').symlink_to('result.json')", "left no result"),
]


@pytest.mark.parametrize(("body", "told"), DEATHS)
def test_a_worker_that_dies_has_crashed(body: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    stand_in(monkeypatch, tmp_path, body)
    result = outcome(folder)
    assert result.status == "crashed"
    assert told in one_line(result)


HANGS = {
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "asleep": "time.sleep(60)",
    "deaf": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
    "parent": "subprocess.run(['sleep', '60'])",
    "chatty": "while True: print('x' * 1000, flush=True); time.sleep(0.01)",
}


@pytest.mark.parametrize("body", HANGS.values(), ids=HANGS)
def test_a_worker_that_hangs_is_ended_in_time(body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path, timeout_seconds=0.5)
    stand_in(monkeypatch, tmp_path, body)
    started = time.monotonic()
    result = outcome(folder)
    assert time.monotonic() - started < 5
    assert result.status == "timeout"
    assert one_line(result) == "the worker passed its limit of 0.5 s and was killed"


def test_the_real_worker_obeys_its_time_limit(tmp_path: Path) -> None:
    assert outcome(add_and_scale_job(tmp_path, timeout_seconds=0.01)).status == "timeout"


def test_a_child_that_outlives_its_worker_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    body = "child = subprocess.Popen(['sleep', '60']); (folder / 'child').write_text(str(child.pid))"
    stand_in(monkeypatch, tmp_path, body)
    assert outcome(folder).status == "crashed"
    child = int((folder / "child").read_text())
    for _ in range(50):  # killed, and then reaped by whoever adopted it
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.02)
    pytest.fail(f"process {child} outlived the job")


@pytest.mark.parametrize(
    "body",
    [
        "x = bytearray(400 << 20); time.sleep(30)",
        "subprocess.run([sys.executable, '-c', 'import time; x = bytearray(400 << 20); time.sleep(30)'])",
    ],
)
def test_memory_past_the_limit_ends_the_job(body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path, memory_limit_bytes=200 << 20, timeout_seconds=20)
    stand_in(monkeypatch, tmp_path, body)
    result = outcome(folder)
    assert result.status == "out_of_memory"
    assert "its limit is 200 MiB" in one_line(result)
    assert (result.peak_memory_bytes or 0) > 200 << 20


def finished(tmp_path: Path) -> tuple[Job, Path, dict[str, Any]]:
    """A job that ended well, and its result as JSON, to be falsified."""
    folder = add_and_scale_job(tmp_path)
    assert run_job(folder, CPU).status == "ok"
    return Job.read(folder / "job.json"), folder, json.loads((folder / "result.json").read_text("utf-8"))


def judged(job: Job, folder: Path, content: bytes | dict[str, Any]) -> JobResult:
    """What the harness makes of a result.json of this content."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "result.json").write_bytes(data)
    return read_result(job, folder, "ended with code 0")


GARBAGE = {
    "empty": b"",
    "text": b"ok\n",
    "bytes": bytes(range(256)) * 10,
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "cut": b'{"status": "ok", "device": "cpu"',
    "nested": b"[" * 1_000_000,
    "number": b"9" * 100_000,
    "surrogate": b'{"status": "\\ud800"}',
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_result_that_is_garbage_is_a_crash(content: bytes, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    result = judged(Job.read(folder / "job.json"), folder, content)
    assert result.status == "crashed"
    assert "result.json is not a result" in one_line(result)


def test_an_honest_result_is_believed(tmp_path: Path) -> None:
    """Else everything below could pass because nothing is ever believed."""
    job, folder, result = finished(tmp_path)
    believed = judged(job, folder, result)
    assert believed.status == "ok"
    assert believed.outputs[0].input == "one"


def test_a_huge_result_is_not_read(tmp_path: Path) -> None:
    job, folder, _ = finished(tmp_path)
    with (folder / "result.json").open("wb") as stream:
        stream.truncate(8 << 30)  # sparse
    result = read_result(job, folder, "ended with code 0")
    assert result.status == "crashed"
    assert "larger than 64 MiB" in one_line(result)


def set_field(result: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The result with the field at a dotted path replaced."""
    copy: Any = json.loads(json.dumps(result))
    place = copy
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        place = place[part]
    place[last] = value
    return copy  # type: ignore[no-any-return]


FILE = "outputs.0.tensors.y"
FALSE = [
    ("model_sha256", "0" * 64, "for another model or device"),
    ("device", "gpu", "for another model or device"),
    ("status", "fine", "field 'status'"),
    ("unknown", 1, "field 'unknown'"),
    ("outputs", None, "field 'outputs'"),
    (f"{FILE}.file", "../given.tflite", "outside the job folder"),
    (f"{FILE}.file", "/etc/passwd", "outside the job folder"),
    (f"{FILE}.file", "outputs/none.raw", "cannot be read"),
    (f"{FILE}.file", "outputs", "another size or type"),
    (f"{FILE}.file", "a\0b", "not a path"),
    (f"{FILE}.sha256", "0" * 64, "sha256 is not the one recorded"),
    (f"{FILE}.shape", [3, 3], "another size or type"),
    (f"{FILE}.shape", [-2, -3], "outputs do not hold"),
    (f"{FILE}.shape", [2**40, 2**40], "another size or type"),
    (f"{FILE}.dtype", "object", "outputs do not hold"),
    (f"{FILE}.dtype", "rubbish", "outputs do not hold"),
]


@pytest.mark.parametrize(("field", "value", "told"), FALSE, ids=[f"{f}={str(v)[:20]!r}" for f, v, _ in FALSE])
def test_a_false_result_is_a_crash(field: str, value: Any, told: str, tmp_path: Path) -> None:
    job, folder, result = finished(tmp_path)
    found = judged(job, folder, set_field(result, field, value))
    assert found.status == "crashed"
    assert told in one_line(found)
    assert found.outputs == ()


def test_an_altered_output_is_a_crash(tmp_path: Path) -> None:
    job, folder, result = finished(tmp_path)
    (stored,) = (folder / "outputs").iterdir()
    stored.write_bytes((Y + 1).astype(np.float32).tobytes())
    found = judged(job, folder, result)
    assert found.status == "crashed"
    assert "sha256 is not the one recorded" in one_line(found)


def test_an_output_linked_to_a_file_outside_is_a_crash(tmp_path: Path) -> None:
    job, folder, result = finished(tmp_path)
    (stored,) = (folder / "outputs").iterdir()
    stored.rename(tmp_path / "outside.raw")
    stored.symlink_to(tmp_path / "outside.raw")
    assert judged(job, folder, result).status == "crashed"


def without_outputs(result: dict[str, Any]) -> None:
    result["outputs"] = []


def twice(result: dict[str, Any]) -> None:
    result["outputs"] *= 2


def of_another_input(result: dict[str, Any]) -> None:
    result["outputs"][0]["input"] = "two"


def without_tensors(result: dict[str, Any]) -> None:
    result["outputs"][0]["tensors"] = {}


@pytest.mark.parametrize("falsify", [without_outputs, twice, of_another_input, without_tensors])
def test_a_result_that_is_ok_answers_every_input_once(falsify: Any, tmp_path: Path) -> None:
    job, folder, result = finished(tmp_path)
    falsify(result)
    assert judged(job, folder, result).status != "ok"


BAD_MODELS = {
    "empty": b"",
    "text": b"these are words\n" * 100,
    "random": hashlib.sha256(b"random").digest() * 100,
    "truncated": add_and_scale()[:-100],
    "half": add_and_scale()[: len(add_and_scale()) // 2],
    "head": add_and_scale()[:8],
    "identifier": b"\x1c\0\0\0TFL3" + b"\0" * 100,
}


@pytest.mark.parametrize("content", BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_file_that_is_no_model_is_a_bad_model(content: bytes, tmp_path: Path) -> None:
    result = outcome(job_folder(tmp_path, content, {"one": {"x": X}}))
    assert result.status == "bad_model"
    one_line(result)


def test_a_broken_job_file_is_told(tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    (folder / "job.json").write_text("{}", "utf-8")
    with pytest.raises(Exception, match=r"job\.json: field 'model'") as caught:
        run_job(folder, CPU)
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]


def test_a_worker_cannot_signal_the_harness(tmp_path: Path) -> None:
    """A session of its own: a signal to the worker's group does not reach the tests."""
    folder = add_and_scale_job(tmp_path)
    groups: list[int] = []

    def look() -> None:
        while not (children := psutil.Process().children()):
            time.sleep(0.01)
        groups.append(os.getpgid(children[0].pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    run_job(folder, CPU)
    watcher.join()
    assert groups[0] != os.getpgid(0)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
