"""A GPU that computes for longer than LiteRT waits: both executors wait on, until the job's own limit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from runner_program import built, compiler, run
from tiny_models import add_and_scale_job, one_line

from fidelity.devices import litert
from fidelity.devices.job import JobResult
from fidelity.devices.runner_build import runtime_folder

LATE = "TensorBufferWrapper error: code=7, message=ERROR: [x.cc:1133] Failed to lock custom tensor buffer."
LOST = "TensorBufferWrapper error: code=3, message=ERROR: [x.cc:1133] Failed to lock custom tensor buffer."

SLOW_RUNTIME = r"""
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static int lost;

static int from_the_runner(void *address) /* the wheel's library locks buffers, too: those calls are not meant */
{
    Dl_info caller = {0};
    return dladdr(address, &caller) && strstr(caller.dli_fname, "fidelity-runner");
}

int LiteRtLockTensorBuffer(void *buffer, void **memory, int how)
{
    static int late = -1;
    if (late < 0)
        late = atoi(getenv("LATE"));
    if (how == 0 && from_the_runner(__builtin_return_address(0))) { /* a read */
        if (lost)
            return 3;
        if (late-- > 0) {
            lost = 1;
            return atoi(getenv("STATUS"));
        }
        late = 0;
    }
    int (*real)(void *, void **, int) = (int (*)(void *, void **, int))dlsym(RTLD_NEXT, "LiteRtLockTensorBuffer");
    return real(buffer, memory, how);
}

int LiteRtUnlockTensorBuffer(void *buffer)
{
    if (lost && from_the_runner(__builtin_return_address(0))) {
        lost = 0;
        return 3;
    }
    int (*real)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "LiteRtUnlockTensorBuffer");
    return real(buffer);
}
"""
"""The wheel's library, with which this is linked, but that the runner's first LATE reads end with STATUS, and that a
buffer so lost gives status 3 until it is unlocked, as of 2.3.0 with a GPU."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runtime folder with that library."""
    folder = tmp_path_factory.mktemp("slow")
    source, library = folder / "slow.c", folder / "libLiteRt.so"
    source.write_text(SLOW_RUNTIME, "utf-8")
    whole = runtime_folder() / "libLiteRt.so"
    flags = ("-D_GNU_SOURCE", "-shared", "-fPIC", "-Wl,--no-as-needed", f"-Wl,-rpath,{whole.parent}")
    command = [compiler(), *flags, str(source), str(whole), "-ldl", "-o", str(library)]
    subprocess.run(command, check=True, timeout=60)
    return folder


def test_the_runner_waits_for_a_slow_device(slow: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    ended = run(built(), folder, runtime=slow, environment={"LATE": "2", "STATUS": "7"})
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (0, "ok")
    assert result.outputs[0].seconds[0] > 1, "the wait belongs to the run"


def test_past_the_jobs_limit_the_runner_says_so(slow: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path, timeout_seconds=1.5)
    ended = run(built(), folder, runtime=slow, environment={"LATE": "9", "STATUS": "7"})
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (7, "timeout")
    assert "y: the device had not finished when the job passed its limit" in one_line(result)


def test_another_status_ends_the_runners_job_at_once(slow: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    ended = run(built(), folder, runtime=slow, environment={"LATE": "1", "STATUS": "3"})
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (7, "run_failed")
    assert "reading of y: status 3" in one_line(result)


class Buffer:
    """The wheel's buffer of a device that is busy for so many reads: one whose read ran out of time stays lost."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.lost = False
        self.written = False

    def write(self, _: NDArray[Any]) -> None:
        pass

    def read(self, count: int, dtype: Any) -> NDArray[Any]:
        if self.lost or self.model.error != LATE:
            raise RuntimeError(self.model.error if not self.lost else LOST)
        if self.model.busy:
            self.model.busy -= 1
            self.lost = True
            raise RuntimeError(LATE)
        return np.full(count, 7 if self.written else 0, dtype)


@dataclass
class Model:
    """A compiled model of one input and one output of two elements; every run keeps its device busy again."""

    dtype: str
    busy_reads: int
    error: str = LATE
    busy: int = 0
    runs: int = 0

    def get_input_tensor_details(self, _: str) -> dict[str, Any]:
        return {"x": {"shape": (2,), "dtype": self.dtype}}

    get_output_tensor_details = get_input_tensor_details

    def create_input_buffer_by_name(self, _: str, __: str) -> Buffer:
        return Buffer(self)

    create_output_buffer_by_name = create_input_buffer_by_name

    def run_by_name(self, _: str, __: dict[str, Buffer], outputs: dict[str, Buffer]) -> None:
        self.runs += 1
        self.busy = self.busy_reads
        for buffer in outputs.values():
            buffer.written = True


def runner(model: Model) -> litert.Runner:
    return litert.Runner(litert.Compiled(model, "serving_default", True, 0.0))  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "read"), [("float32", 7), ("int64", 0x0707070707070707)])
@pytest.mark.parametrize(("busy", "runs"), [(0, 1), (1, 2), (5, 2)])
def test_the_worker_waits_for_a_slow_device(
    busy: int, runs: int, dtype: str, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer whose read was late is lost to Python, which cannot unlock it: the run is made again with others."""
    monkeypatch.setattr("fidelity.devices.litert.time.sleep", lambda _: None)
    model = Model(dtype, busy)
    got = runner(model).run({"x": np.zeros(2, dtype)})
    assert got.outputs["x"].tolist() == [read, read], "what the run has written"
    assert model.runs == runs


def test_the_workers_later_runs_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is known to be slow by then."""
    monkeypatch.setattr("fidelity.devices.litert.time.sleep", lambda _: None)
    model = Model("float32", 1)
    slow = runner(model)
    got = [slow.run({"x": np.zeros(2, np.float32)}).outputs["x"].tolist() for _ in range(3)]
    assert got == [[7, 7]] * 3
    assert model.runs == 4


def test_another_status_ends_the_workers_job_at_once() -> None:
    model = Model("float32", 0, error=LOST)
    with pytest.raises(RuntimeError, match="code=3"):
        runner(model).run({"x": np.zeros(2, np.float32)})
    assert model.runs == 1
