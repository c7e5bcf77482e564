"""The real runner on a real adbd: results to the bit, nothing pushed twice, devices side by side."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from adb_daemon import Daemon, World
from android_stand_in import FAULTY, StandIn, entered, nothing_left
from runner_program import built
from test_tflite_builder import add_and_scale
from tiny_models import X, Y, add_and_scale_job, job_folder, resident

from fidelity.devices.android.job import run_android_job
from fidelity.devices.discovery import resolve
from fidelity.devices.drivers import driver_environment, drivers
from fidelity.devices.job import Adapter, JobResult
from fidelity.devices.run import run_job
from fidelity.devices.runner_build import host_runner, runtime_folder
from fidelity.devices.tensor_files import read_tensor


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    built()
    with entered() as world:
        yield world


@pytest.fixture(scope="module")
def device(world: World) -> Daemon:
    """A device with this machine's first fp16 driver, where there is one."""
    found = [driver for driver in drivers() if any(each.fp16 for each in driver.devices)]
    return world.daemon(16601, environment=driver_environment(found[0].manifest) if found else {})


@pytest.fixture(scope="module")
def second(world: World) -> Daemon:
    return world.daemon(16602, user=None if os.geteuid() else 2000)


def values(folder: Path, result: JobResult) -> np.ndarray:
    (output,) = result.outputs
    return read_tensor(folder, *output.tensors.values())


def test_the_results_are_right_to_the_bit(tmp_path: Path, device: Daemon) -> None:
    folder = add_and_scale_job(tmp_path, repeats=3, repeat=("one",))
    result = run_android_job(folder, device.serial)
    assert result.status == "ok", result.error
    np.testing.assert_array_equal(values(folder, result), Y)
    assert JobResult.read(folder / "result.json") == result
    assert len(result.outputs[0].seconds) == 3
    assert (folder / "log.txt").exists()
    nothing_left(device)


def test_another_user_of_the_device_may_be_anyone(tmp_path: Path, second: Daemon) -> None:
    folder = add_and_scale_job(tmp_path)
    result = run_android_job(folder, second.serial)
    assert result.status == "ok", result.error
    np.testing.assert_array_equal(values(folder, result), Y)
    nothing_left(second)


def test_the_gpu_over_there_gives_the_bits_of_the_gpu_here(tmp_path: Path, device: Daemon) -> None:
    if not device.environment:
        pytest.skip("no Vulkan driver with fp16 here (make software-gpu)")
    x = np.linspace(-3, 3, 32, dtype=np.float32).reshape(1, 1, 4, 8)
    there = job_folder(tmp_path / "there", resident(), {"one": {"x": x}}, device="gpu")
    here = job_folder(tmp_path / "here", resident(), {"one": {"x": x}}, device="gpu")
    result = run_android_job(there, device.serial)
    local = run_job(here, resolve("gpu"))
    assert (result.status, local.status) == ("ok", "ok"), result.error
    assert result.residency is not None
    assert result.residency.full
    assert result.precision_had == local.precision_had
    assert values(there, result).tobytes() == values(here, local).tobytes()


def test_a_second_run_pushes_nothing_and_costs_little(tmp_path: Path, world: World, device: Daemon) -> None:
    run_android_job(add_and_scale_job(tmp_path / "first"), device.serial)
    pushed = len(world.calls("push"))
    folder = add_and_scale_job(tmp_path / "second")
    command = [str(host_runner()), str(folder), "--runtime", str(runtime_folder())]
    runner = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        runner.append(time.monotonic() - started)
    best = min(_timed(folder, device) for _ in range(3))
    assert len(world.calls("push")) == pushed
    assert best - min(runner) <= 0.5


def _timed(folder: Path, device: Daemon) -> float:
    started = time.monotonic()
    assert run_android_job(folder, device.serial).status == "ok"
    return time.monotonic() - started


def test_many_inputs_fit_in_few_calls(tmp_path: Path, world: World, device: Daemon) -> None:
    inputs = {f"image {number:04} {'x' * 60}": {"x": X + number} for number in range(40)}
    folder = job_folder(tmp_path, add_and_scale(), inputs)
    assert run_android_job(folder, device.serial).status == "ok"
    before = len(world.calls("shell"))
    result = run_android_job(folder, device.serial)
    assert result.status == "ok"
    assert len(world.calls("shell")) - before <= 10
    last = read_tensor(folder, *result.outputs[39].tensors.values())
    np.testing.assert_array_equal(last, (X + 39 + np.float32([1, 2, 3])) * np.float32(0.5))


@pytest.mark.parametrize("many", [800])
def test_a_job_of_thousands_of_files_is_dealt_out_to_calls(
    many: int, tmp_path: Path, world: World, device: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIn(tmp_path, monkeypatch)
    folder = job_folder(tmp_path, add_and_scale(), {f"{number}": {"x": X} for number in range(many)})
    result = run_android_job(folder, device.serial)
    assert result.status == "ok", result.error
    assert len(result.outputs) == many


def test_two_devices_at_once_take_no_longer_than_one(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each runs for a while whatever the other does: what they share would be seen here."""
    StandIn(tmp_path, monkeypatch).does("time.sleep(1.5)\nresult()")
    pair = [world.daemon(port, environment=FAULTY) for port in (16603, 16604)]
    folders = [add_and_scale_job(tmp_path / name) for name in ("a", "b")]
    for folder, each in zip(folders, pair, strict=True):
        alone = _timed(folder, each)
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_timed, folders, pair))
    assert time.monotonic() - started <= 1.2 * alone


def test_a_gpu_that_only_discovery_knows_is_named_when_the_runtime_took_the_model(tmp_path: Path) -> None:
    from fidelity.devices.android.job import _with_adapter  # noqa: PLC0415
    from fidelity.devices.job import Job  # noqa: PLC0415

    folder = job_folder(tmp_path, resident(), {"one": {"x": np.zeros((1, 1, 4, 8), np.float32)}}, device="gpu")
    job = Job.read(folder / "job.json")
    told = JobResult(status="ok", device="gpu", precision_asked="default", model_sha256=job.model_sha256)
    adreno = Adapter(name="Adreno (TM) 740")
    assert _with_adapter(told, job, adreno).status == "no_device"
    taken = told.model_copy(update={"fully_accelerated": True})
    assert _with_adapter(taken, job, adreno).adapter == adreno
