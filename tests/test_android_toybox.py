"""The scripts that run on a device, under Android's own shell and tools: mksh and toybox."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from adb_daemon import Daemon, World
from android_stand_in import FAULTY, QUICK, StandIn, entered, job, nothing_left, run
from test_tflite_builder import add_and_scale
from tiny_models import X, job_folder, sha256

from fidelity.devices.android.adb import Limits
from fidelity.devices.android.job import run_android_job
from fidelity.devices.android.phone import Phone
from fidelity.devices.android.properties import android_devices

TOOLS = ["cat", "chmod", "find", "grep", "head", "ln", "mkdir", "mv", "rm", "sha256sum", "stat", "timeout", "touch"]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    for name in ("mksh", "toybox"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not here (python -m fidelity.devices.install_adb)")
    with entered() as world:
        yield world


@pytest.fixture(scope="module")
def device(world: World) -> Daemon:
    programs = {name: f'exec {shutil.which("toybox")} {name} "$@"' for name in TOOLS}
    shell = {"sh": f'exec {shutil.which("mksh")} "$@"'}
    return world.daemon(16601, environment=FAULTY, programs={**programs, **shell})


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch)


def test_it_is_androids_shell_and_tools(device: Daemon) -> None:
    phone = Phone(device.serial, QUICK)
    assert phone.reconnect()
    said = phone.script('echo "$KSH_VERSION"; timeout --help; echo fidelity-end')
    assert "MIRBSD KSH" in said
    assert "Toybox" in said


def test_it_is_described(device: Daemon) -> None:
    Phone(device.serial, QUICK).reconnect()
    (info,) = android_devices(QUICK)
    assert info.platform == f"linux-{os.uname().machine}"
    assert (info.free_bytes or 0) > 0


def test_a_second_run_pushes_nothing(tmp_path: Path, world: World, device: Daemon, stand_in: StandIn) -> None:
    folder = job(tmp_path)
    assert run(folder, device).status == "ok"
    before = len(world.calls("push"))
    assert run(folder, device).status == "ok"
    assert len(world.calls("push")) == before
    nothing_left(device)


ENDINGS = {
    "os.kill(os.getpid(), signal.SIGSEGV)": ("crashed", "died of SIGSEGV"),
    "os.kill(os.getpid(), signal.SIGKILL)": ("crashed", "died of SIGKILL"),
    "sys.exit(7)": ("crashed", "ended with code 7"),
    "time.sleep(60)": ("timeout", "limit of 1 s"),
    "os.kill(os.getpid(), signal.SIGSTOP)": ("timeout", "limit of 1 s"),
    "subprocess.run(['sleep', '60'])": ("timeout", "limit of 1 s"),
}


@pytest.mark.parametrize(("body", "told"), ENDINGS.items(), ids=ENDINGS)
def test_endings_are_told_as_by_coreutils(
    body: str, told: tuple[str, str], tmp_path: Path, device: Daemon, stand_in: StandIn
) -> None:
    stand_in.does(body)
    result = run(job(tmp_path, timeout_seconds=1.0), device, Limits(grace=1))  # a late answer is another ending
    assert result.status == told[0]
    assert told[1] in (result.error or "")
    nothing_left(device)


def test_a_child_that_outlives_the_runner_is_ended(tmp_path: Path, device: Daemon, stand_in: StandIn) -> None:
    stand_in.does("subprocess.Popen(['sleep', '60'], start_new_session=True, stderr=subprocess.DEVNULL); result()")
    assert run(job(tmp_path), device).status == "ok"
    nothing_left(device)


def test_damage_is_found_and_what_is_stale_removed(tmp_path: Path, device: Daemon, stand_in: StandIn) -> None:
    folder = job_folder(tmp_path, add_and_scale() + bytes(4), {"one": {"x": X}})
    assert run(folder, device, Limits()).status == "ok"
    blob = device.store / "blobs" / sha256(folder / "model.tflite")
    blob.chmod(0o755)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    stand_in.does("sys.exit(4)")
    found = run(
        folder, device, Limits()
    )  # not QUICK: on a busy machine an answer that is late is a failed transfer too
    assert (found.status, "was damaged" in str(found.error)) == ("transfer_failed", True), found.error
    assert not blob.exists()
    for stale in (device.store / "jobs" / "old", device.store / "blobs" / "old.part"):
        stale.mkdir() if stale.parent.name == "jobs" else stale.touch()
        os.utime(stale, (1e9, 1e9))
    stand_in.does("result()")
    assert run_android_job(folder, device.serial, limits=Limits()).status == "ok"
    nothing_left(device)
