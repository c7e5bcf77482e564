"""Doctor: every check in each of its states, with what mends it, on machines that lack one thing."""

from __future__ import annotations

import collections
import importlib.metadata
import re
import shutil
from pathlib import Path

import psutil
import pytest

from fidelity import doctor
from fidelity.cli.doctor import check_line, device_line
from fidelity.devices import runner_build
from fidelity.devices.discovery import DeviceInfo
from fidelity.doctor import Check, Diagnosis, conflicts_of

CPU = DeviceInfo(spec="cpu", name="host CPU (XNNPACK)", fp16=False)


def versions(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> None:
    """Other versions than those installed; None: not installed."""
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: changed[name] if name in changed else real(name))


def states(checks: object) -> dict[str, Check]:
    return {check.what: check for check in checks}  # type: ignore[attr-defined]


def test_this_machine_can_do_what_it_is_for() -> None:
    checks = states(doctor.package_checks()) | {"LiteRT": doctor.runtime_check()}
    assert {name: check.state for name, check in checks.items()} == {
        "fidelity": "ok",
        "conversion": "ok",
        "versions": "ok",
        "LiteRT": "ok",
    }
    assert all(check.mend is None for check in checks.values())


def test_a_package_that_another_cannot_bear_is_a_conflict_with_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, torch="2.13.0")
    check = states(doctor.package_checks())["versions"]
    assert check.state == "fail"
    assert re.search(r"torchvision \S+ wants torch \S+, 2\.13\.0 is installed", check.found)
    assert check.mend is not None


def test_demands_of_extras_and_of_what_is_absent_are_no_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    demands = ["a>=2", "b<1; extra == 'more'", "absent==9", "c!=1", "not a requirement at all ==="]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: demands)
    had = {"x": "1", "a": "1.9", "b": "5", "c": "1"}
    assert conflicts_of("x", had.get) == ["x 1 wants a >=2, 1.9 is installed", "x 1 wants c !=1, 1 is installed"]
    assert conflicts_of("x", {**had, "a": "2.0rc1", "c": "2"}.get) == ["x 1 wants a >=2, 2.0rc1 is installed"]


def test_without_the_extra_the_rest_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, torch=None, timm=None)
    check = states(doctor.package_checks())["conversion"]
    assert (check.state, check.mend) == ("note", "pip install 'fidelity[convert]'")
    assert "not installed: torch, timm" in check.found


def test_a_runtime_that_was_not_measured_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        versions(patch, **{"ai-edge-litert": "9.9"})
        other = doctor.runtime_check()
    versions(monkeypatch, **{"ai-edge-litert": None})
    none = doctor.runtime_check()
    assert (other.state, none.state) == ("note", "fail")
    assert "not 2.3.0, which was measured" in other.found
    assert none.mend == "pip install ai-edge-litert==2.3.0"


def test_a_runner_that_was_not_built_and_adb_that_is_not_there_are_notes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner_build, "FOLDER", tmp_path)
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for check in (doctor.runner_check(), doctor.adb_check()):
        assert check.state == "note"
        assert check.mend


def test_a_full_disk_a_folder_that_is_not_ours_and_little_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Usage = collections.namedtuple("Usage", "total used free")
    assert doctor.disk_check(tmp_path / "not" / "yet", "cache").state == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9 << 30, 8 << 30, 1 << 30))
    full = doctor.disk_check(tmp_path, "cache")
    assert (full.state, full.mend) == ("fail", f"make room at {tmp_path}")
    assert "1.0 GiB free" in full.found
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "cannot be written" in doctor.disk_check(tmp_path, "cache").found
    Memory = collections.namedtuple("Memory", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(2 << 30))
    assert doctor.memory_check().state == "note"


def test_healthy_means_no_failure_and_every_attached_device_usable() -> None:
    ok, note, fail = (Check(what="x", state=state, found="y") for state in ("ok", "note", "fail"))  # type: ignore[arg-type]
    phone = DeviceInfo(spec="android:1", name="1", unusable="it is offline: unplug it and plug it in again")
    assert Diagnosis(checks=(ok, note), devices=(CPU,)).healthy
    assert not Diagnosis(checks=(ok, fail), devices=(CPU,)).healthy
    assert not Diagnosis(checks=(ok,), devices=(CPU, phone)).healthy


def test_lines_for_a_person() -> None:
    assert check_line(Check(what="adb", state="note", found="not there", mend="get it")) == [
        "note adb            not there",
        "     mend: get it",
    ]
    phone = DeviceInfo(spec="android:1", name="Pixel 8a", unusable="offline; unplug it")
    assert device_line(phone) == ["FAIL android:1: Pixel 8a: offline", "     mend: unplug it"]
    usable = device_line(DeviceInfo(spec="android:1", name="Pixel 8a", facts=("Android 16", "battery 90 %")))
    assert usable[0].splitlines() == ["ok   android:1: Pixel 8a", "     Android 16", "     battery 90 %"]
    assert "this adapter with this driver" in usable[1]
