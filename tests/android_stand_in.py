"""A runner that is a few lines of Python, honest or not, and what every test of an Android job shares.

The stand-in gives each input back as the output of its name, so an honest result can be checked to
the last bit. It is honest on every device but the one whose adbd was started with DEVICE=faulty,
where it does what the test says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from adb_daemon import Daemon, World, missing
from tiny_models import X, add_and_scale_job

from fidelity.devices.android import job as android_job
from fidelity.devices.android.adb import Limits
from fidelity.devices.android.job import run_android_job
from fidelity.devices.job import JobResult
from fidelity.devices.tensor_files import read_tensor

QUICK = Limits(answer=3, connect=1.5, grace=1)
FAULTY = {"DEVICE": "faulty"}

_PROGRAM = """
import hashlib, json, os, pathlib, shutil, signal, subprocess, sys, time

def result(**changes):
    job = json.loads(pathlib.Path("job.json").read_text())
    pathlib.Path("outputs").mkdir()
    outputs = []
    for item in job["inputs"]:
        tensors = {}
        for name, tensor in item["tensors"].items():
            file = f"outputs/{hashlib.sha256((item['name'] + name).encode()).hexdigest()}.raw"
            shutil.copyfile(tensor["file"], file)
            tensors[name] = {**tensor, "file": file}
        outputs.append({"input": item["name"], "tensors": tensors, "seconds": [0.001]})
    told = {"status": "ok", "device": job["device"], "precision_asked": job["precision"]}
    told |= {"outputs": outputs, "model_sha256": job["model_sha256"], **changes}
    pathlib.Path("log.txt").write_text("stand-in\\n")
    pathlib.Path("result.json").write_text(json.dumps(told))

"""


class StandIn:
    """Puts programs where a device's runner would be."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch
        self.does("result()")

    def does(self, body: str) -> None:
        """On the faulty device, run this body instead of giving an honest result."""
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        path = self._folder / "fidelity-runner"
        path.unlink(missing_ok=True)
        choice = f"if os.environ.get('DEVICE') == 'faulty':\n{lines}\nelse:\n    time.sleep(0.15)\n    result()\n"
        path.write_text(f"#!{sys.executable} -IS\n{_PROGRAM}{choice}")
        files: Mapping[str, Path] = {"fidelity-runner": path}
        self._monkeypatch.setattr(android_job, "runtime_files", lambda _: files)


@contextmanager
def entered() -> Iterator[World]:
    """A World whose adb the product finds, with its store; skips the test where there can be none."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with World() as world, pytest.MonkeyPatch.context() as patch:
        for name, value in world.variables.items():
            patch.setenv(name, value)
        yield world


def job(folder: Path, **options: object) -> Path:
    """A job of the smallest model; the stand-in does not look into it."""
    return add_and_scale_job(folder, **options)


def run(folder: Path, device: Daemon, limits: Limits = QUICK) -> JobResult:
    """The job's result on the device; an ok one must be whole, and nothing of it is left there."""
    result = run_android_job(folder, device.serial, limits=limits)
    assert JobResult.read(folder / "result.json") == result
    if result.status == "ok":
        whole(folder, result)
    else:
        assert result.outputs == ()
        assert result.error
        assert "\n" not in result.error
    return result


def whole(folder: Path, result: JobResult) -> None:
    """The stand-in's honest result: every input's bytes came back."""
    (output,) = result.outputs
    np.testing.assert_array_equal(read_tensor(folder, output.tensors["x"]), X)
    assert (folder / "log.txt").read_text() == "stand-in\n"


def nothing_left(device: Daemon) -> None:
    """No folder of a job, no unfinished push and no process of a job is on the device."""
    assert list((device.store / "jobs").iterdir()) == []
    assert list((device.store / "blobs").glob("*.part")) == []
    assert device.running("") == []


def beside(folder: Path, other: Daemon, act: Callable[[], JobResult]) -> JobResult:
    """What a job on one device gives, while another device's jobs run: all of those must be whole."""
    with ThreadPoolExecutor(1) as pool:
        bystander = pool.submit(run, job(folder / "other"), other)
        result = act()
        assert bystander.result().status == "ok"
    return result
