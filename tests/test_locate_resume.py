"""A search whose device is lost goes on where it was: what was done is kept, used again, and never believed blindly.

The executor here is the emulator, which leaves behind what a real one does.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_locate import MEASURED, X, negated, network
from test_tflite_builder import add_and_scale

from fidelity.arithmetic.profile import load_profile
from fidelity.cache import Cache
from fidelity.comparison.policy import load_policy
from fidelity.devices.believing import JOB
from fidelity.devices.discovery import Device, DeviceInfo
from fidelity.devices.job import Job, JobResult, Residency, RunOutput, Status
from fidelity.devices.tensor_files import read_tensor, write_tensor
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.gating.locating import Asked, answered
from fidelity.localisation import on_device as module
from fidelity.localisation.on_device import on_device
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph

PHONE = Device("gpu", "gpu", {}, DeviceInfo(spec="gpu", name="a phone", driver="1.0"))
SMALL = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
KEPT = "; what it did so far is kept: give the same command again"


class Executor:
    """Runs jobs with the emulator. `lost`: how many more GPU jobs it answers before it has another status."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.left = 10**6
        self.status: Status = "device_lost"
        self.faulty = ""

    def __call__(self, folder: Path, device: Device) -> JobResult:
        job = Job.read(folder / JOB)
        self.jobs.append(job.device)
        told = {"device": job.device, "precision_asked": job.precision, "model_sha256": job.model_sha256}
        told["precision_had"] = "fp16" if job.device == "gpu" else "fp32"
        if job.device == "gpu":
            self.left -= 1
            if self.left < 0:
                return JobResult(status=self.status, error="the cable is out", **told)
        graph = read_graph(folder / job.model)
        inputs = {name: read_tensor(folder, file) for name, file in job.inputs[0].tensors.items()}
        gpu = job.device == "gpu"

        def watch(op):  # type: ignore[no-untyped-def]
            mine = gpu and graph.main.tensors[op.outputs[0]].name == self.faulty
            return lambda part, values: negated(values) if mine and part == "result" else None

        profile = MEASURED if gpu else load_profile("ieee-fp32")
        found = Emulator(graph, profile).run(inputs, watch).outputs
        files = {name: write_tensor(folder, f"outputs/{name}.raw", array) for name, array in found.items()}
        nodes = len(graph.main.operators)
        full = Residency(nodes_on_device=nodes, nodes_total=nodes, partitions=1, source="the test")
        output = RunOutput(input=job.inputs[0].name, tensors=files, seconds=(0.1,))
        result = JobResult(status="ok", residency=full, outputs=(output,), **told)
        result.write(folder / "result.json")
        return result


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Executor:
    found = Executor()
    monkeypatch.setattr(module, "run_job", found)
    return found


def test_the_same_run_again_makes_no_new_job(executor: Executor, tmp_path: Path) -> None:
    run = on_device(PHONE, "default", tmp_path)
    first = run(add_and_scale(), SMALL)
    again = on_device(PHONE, "default", tmp_path)(add_and_scale(), SMALL)
    assert executor.jobs == ["gpu"]
    assert again.result == first.result
    assert (again.resident, again.error) == (True, None)
    assert again.outputs["y"].tobytes() == first.outputs["y"].tobytes()
    np.testing.assert_array_equal(first.outputs["y"][0], [0.5, 1.5, 2.5])


def test_whatever_differs_is_another_job(executor: Executor, tmp_path: Path) -> None:
    """Another model, input, input name's shape, precision or device."""
    other = {"x": SMALL["x"] + np.float32(1)}
    on_device(PHONE, "default", tmp_path)(add_and_scale(), SMALL)
    on_device(PHONE, "default", tmp_path)(add_and_scale(), other)
    on_device(PHONE, "default", tmp_path)(add_and_scale() + b"\0", SMALL)
    on_device(PHONE, "fp32", tmp_path)(add_and_scale(), SMALL)
    on_device(Device("cpu", "cpu", {}, PHONE.info), "default", tmp_path)(add_and_scale(), SMALL)
    assert executor.jobs == ["gpu"] * 4 + ["cpu"]
    assert len(list(tmp_path.iterdir())) == 5


def test_without_a_folder_nothing_is_kept(executor: Executor) -> None:
    run = on_device(PHONE)
    assert run(add_and_scale(), SMALL).outputs["y"].shape == (2, 3)
    run(add_and_scale(), SMALL)
    assert executor.jobs == ["gpu", "gpu"]


def test_what_failed_is_not_kept_and_asked_for_again(executor: Executor, tmp_path: Path) -> None:
    executor.left, executor.status = 0, "run_failed"
    run = on_device(PHONE, "default", tmp_path)
    for _ in range(2):
        ran = run(add_and_scale(), SMALL)
        assert (ran.outputs, ran.resident, ran.error) == ({}, False, "run_failed: the cable is out")
    assert len(executor.jobs) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", ["device_lost", "transfer_failed", "no_device"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_device_that_is_gone_is_no_result(executor: Executor, tmp_path: Path, status: Status, kept: bool) -> None:
    executor.left, executor.status = 1, status
    run = on_device(PHONE, "default", tmp_path if kept else None)
    run(add_and_scale(), SMALL)
    with pytest.raises(EnvironmentMissing) as error:
        run(add_and_scale() + b"\0", SMALL)
    assert str(error.value) == f"a phone: {status}: the cable is out{KEPT if kept else ''}"
    assert len(list(tmp_path.iterdir())) == kept  # the first job, and nothing of the second


def damaged(job: Path, how: str) -> None:
    result = job / "result.json"
    output = next((job / "outputs").iterdir())
    if how == "a bit of an output":
        content = bytearray(output.read_bytes())
        content[0] ^= 1
        output.write_bytes(content)
    elif how == "a cut output":
        output.write_bytes(output.read_bytes()[:-4])
    elif how == "no output":
        output.unlink()
    elif how == "no result":
        result.unlink()
    elif how == "half a result":
        result.write_text(result.read_text()[:200])
    elif how == "an output from elsewhere":
        told = json.loads(result.read_text())
        told["outputs"][0]["tensors"]["y"]["file"] = "../../elsewhere.raw"
        shutil.copy(output, job.parent.parent / "elsewhere.raw")
        result.write_text(json.dumps(told))


def test_a_kept_job_of_another_model_is_not_believed(executor: Executor, tmp_path: Path) -> None:
    """As where folders were exchanged: a result says which model and precision it is of."""
    run = on_device(PHONE, "default", tmp_path)
    right = run(add_and_scale(), SMALL).outputs["y"].copy()
    (mine,) = tmp_path.iterdir()
    run(add_and_scale(), {"x": SMALL["x"] + np.float32(1)})
    (other,) = (each for each in tmp_path.iterdir() if each != mine)
    shutil.rmtree(mine)
    shutil.copytree(other, mine)
    with contextlib.suppress(BadInput):
        np.testing.assert_array_equal(run(add_and_scale(), SMALL).outputs["y"], right)


@pytest.mark.parametrize(
    "how",
    [
        *["a bit of an output", "a cut output", "no output", "no result", "half a result"],
        "an output from elsewhere",
    ],
)
def test_a_kept_job_that_is_damaged_is_never_believed(executor: Executor, tmp_path: Path, how: str) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    run = on_device(PHONE, "default", jobs)
    right = run(add_and_scale(), SMALL).outputs["y"].copy()
    (job,) = jobs.iterdir()
    damaged(job, how)
    with contextlib.suppress(BadInput):
        ran = run(add_and_scale(), SMALL)
        assert len(executor.jobs) == 2
        np.testing.assert_array_equal(ran.outputs["y"], right)


def searched(folder: Path, inputs: dict[str, np.ndarray]) -> object:
    artefact = folder / "network.tflite"
    artefact.write_bytes(network())
    asked = Asked(artefact, PHONE, "default", load_policy("default"), MEASURED)
    with answered(asked, inputs, None, Cache(folder / "cache"), lambda _: None) as answer:
        return answer.located


@pytest.mark.parametrize("done", [1, 2, 4, 6])
def test_a_search_goes_on_where_its_device_was_lost(executor: Executor, tmp_path: Path, done: int) -> None:
    """Two inputs, a fault: whole, whole, traced, alone, and alone in two other precisions; lost before any of them."""
    inputs = {"one": X, "two": X * np.float32(0.5)}
    executor.faulty = "gelu2"
    executor.left = done - 1
    kept = tmp_path / "cache" / "locate"
    with pytest.raises(EnvironmentMissing, match=r"device_lost.*give the same command again"):
        searched(tmp_path, inputs)
    assert len(list(kept.iterdir())) == 1
    assert executor.jobs.count("gpu") == done
    executor.left = 10**6
    found = searched(tmp_path, inputs)
    assert executor.jobs.count("gpu") == 6 + 1  # each once, and the one that was lost again
    assert list(kept.iterdir()) == []
    executor.jobs.clear()
    assert searched(tmp_path, inputs) == found
    assert executor.jobs.count("gpu") == 6  # an answer keeps nothing
    assert found.kind == "kernel"  # type: ignore[attr-defined]
