"""Names that a shell would run, and devices that adb lists but will not let in: scripted where adbd cannot do it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from adb_daemon import Daemon, World
from android_stand_in import QUICK, StandIn, entered, job, nothing_left
from test_tflite_builder import add_and_scale
from tiny_models import X, job_folder

from fidelity.devices.android.job import run_android_job
from fidelity.devices.android.properties import android_devices
from fidelity.devices.android.store import root
from fidelity.devices.job import Job
from fidelity.devices.tensor_files import read_tensor
from fidelity.errors import BadInput

METACHARACTERS = ["$(touch canary)", "`touch canary`", "; touch canary;", "' && touch canary '", '"|touch canary|"']
METACHARACTERS += ["\ntouch canary\n", "-rf", "--help", "*", "~", "é\u202e", "a b\tc", "\\", "$HOME", "&", ">canary"]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with entered() as world:
        yield world


@pytest.fixture(scope="module")
def device(world: World) -> Daemon:
    return world.daemon(16601)


def canaries(*folders: Path) -> list[Path]:
    """The files that a name would have made, had a shell run it; in the root too, where far shells start."""
    return [path for folder in folders for path in folder.rglob("canary*")] + list(Path("/").glob("canary*"))


def test_hostile_names_reach_no_shell(
    tmp_path: Path, world: World, device: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As input and tensor names, and as file names that a job made by hand may have."""
    StandIn(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    inputs = {name: {f"x{name}": X + number} for number, name in enumerate(METACHARACTERS)}
    folder = job_folder(tmp_path, add_and_scale(), inputs)
    given = Job.read(folder / "job.json")
    renamed = []
    for item, name in zip(given.inputs, METACHARACTERS, strict=True):
        (tensor,) = item.tensors.values()
        file = f"in {name}/{name}"
        (folder / file).parent.mkdir()
        (folder / tensor.file).rename(folder / file)
        renamed.append(item.model_copy(update={"tensors": {f"x{name}": tensor.model_copy(update={"file": file})}}))
    model = "$(touch canary) 'm' ; touch canary #.tflite"
    (folder / "model.tflite").rename(folder / model)
    given.model_copy(update={"model": model, "inputs": tuple(renamed)}).write(folder / "job.json")
    result = run_android_job(folder, device.serial, limits=QUICK)
    assert result.status == "ok", result.error
    for number, output in enumerate(result.outputs):
        np.testing.assert_array_equal(read_tensor(folder, *output.tensors.values()), X + number)
    assert canaries(tmp_path, device.home) == []
    nothing_left(device)


@pytest.mark.parametrize(
    "file", ["../other/x", "/etc/passwd", "inputs/../../x", "result.json", "outputs/x", "log.txt", "", ".", "x\0y"]
)
def test_a_file_that_leaves_its_job_is_refused(
    file: str, tmp_path: Path, device: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIn(tmp_path, monkeypatch)
    folder = job(tmp_path)
    given = Job.read(folder / "job.json")
    (item,) = given.inputs
    (tensor,) = item.tensors.values()
    changed = item.model_copy(update={"tensors": {"x": tensor.model_copy(update={"file": file})}})
    given.model_copy(update={"inputs": (changed,)}).write(folder / "job.json")
    result = run_android_job(folder, device.serial, limits=QUICK)
    assert result.status == "bad_input"


@pytest.mark.parametrize("serial", METACHARACTERS)
def test_a_hostile_serial_never_becomes_an_argument(serial: str, tmp_path: Path, world: World) -> None:
    before = world.calls("devices")
    with pytest.raises(BadInput, match="not a device's serial"):
        run_android_job(job(tmp_path), serial, limits=QUICK)
    assert world.calls("devices") == before


@pytest.mark.parametrize("folder", ["relative", "/", "/data/../etc", "~/x"])
def test_a_store_must_be_an_absolute_folder_of_its_own(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIDELITY_ANDROID_FOLDER", folder)
    with pytest.raises(BadInput, match="expected an absolute folder"):
        root()


def test_a_hostile_store_folder_reaches_no_shell(
    tmp_path: Path, world: World, device: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIn(tmp_path, monkeypatch)
    monkeypatch.setenv("FIDELITY_ANDROID_FOLDER", f"{world.store}/it's $(touch canary); a store")
    assert run_android_job(job(tmp_path), device.serial, limits=QUICK).status == "ok"
    assert canaries(device.home) == [] or [path.name for path in canaries(device.home)] == [
        "it's $(touch canary); a store"
    ]


LISTED = {
    "unauthorized": ("unauthorized usb:1-1 transport_id:1", "allow USB debugging"),
    "authorizing": ("authorizing usb:1-1 transport_id:1", "allow USB debugging"),
    "recovery": ("recovery usb:1-1 product:p model:m device:d transport_id:1", "restart it into Android"),
    "offline": ("offline usb:1-1 transport_id:1", "unplug it"),
    "no permissions": ("no permissions (missing udev rules?); see [http://x] usb:1-1 transport_id:1", "udev rule"),
    "twice": ("device usb:1-1 transport_id:1\nR58M12ABCDE device usb:1-2 transport_id:2", "2 devices have this serial"),
}


@pytest.mark.parametrize(("line", "told"), LISTED.values(), ids=LISTED)
def test_a_device_that_cannot_be_used_is_told_with_its_mend(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These cannot be had from adbd here: an adb that prints what the real one prints stands in."""
    program = tmp_path / "adb"
    text = f"List of devices attached\nR58M12ABCDE            {line}\n\n"
    program.write_text(f'#!/bin/sh\n[ "$1" = devices ] && cat <<\'end\'\n{text}end\n[ "$1" = devices ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    folder = job(tmp_path)
    result = run_android_job(folder, "R58M12ABCDE", limits=QUICK)
    assert result.status == "no_device"
    assert told in (result.error or "")
    assert all(told in str(info.unusable) for info in android_devices(QUICK))
