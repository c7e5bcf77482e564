"""What a device says of itself: untrusted text, of which plain words are kept."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from adb_daemon import World
from android_stand_in import QUICK, entered

from fidelity.devices.android.phone import Phone
from fidelity.devices.android.properties import android_devices, parse_properties

PIXEL = """machine: Linux aarch64
[ro.build.version.release]: [15]
[ro.build.version.sdk]: [35]
[ro.hardware.egl]: [mali]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8 Pro]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor G3]
[persist.multi]: [one
two]
  level: 87
  scale: 100
  temperature: 284
Thermal Status: 2
GLES: ARM, Mali-G715, OpenGL ES 3.2 v1.r44p1-01eac0.c6a6b5bd6ee4bd5d
free: 12345678 4096
"""
GALAXY = PIXEL.replace("Google", "samsung").replace("Pixel 8 Pro", "SM-S918B").replace("Tensor G3", "SM8550")


def test_a_phone_is_described() -> None:
    info = parse_properties("serial", PIXEL)
    assert (info.name, info.soc, info.platform) == ("Google Pixel 8 Pro", "Google Tensor G3", "android-arm64-v8a")
    assert (info.gpu, info.gpu_driver) == ("Mali-G715", "OpenGL ES 3.2 v1.r44p1-01eac0.c6a6b5bd6ee4bd5d")
    assert (info.android, info.battery_percent, info.battery_celsius) == ("15 (API 35)", 87, 28.4)
    assert (info.thermal_status, info.free_bytes) == ("moderate", 12345678 * 4096)
    assert info.spec == "android:serial"
    assert parse_properties("s", GALAXY).name == "samsung SM-S918B"


@pytest.mark.parametrize("text", ["", "\0", "machine: \nfree: \n", "[ro.product.cpu.abi]: [", "free: 9 x\nGLES: \n"])
def test_what_is_not_told_is_none(text: str) -> None:
    info = parse_properties("serial", text)
    assert (info.platform, info.model, info.gpu, info.free_bytes, info.battery_celsius) == (None,) * 5


def test_hostile_text_stays_plain_and_is_read_fast() -> None:
    hostile = PIXEL.replace("Pixel 8 Pro", "\x1b[31m<script>\u202e" + "x" * 150).replace("ARM, ", "ARM, \x07" * 30)
    info = parse_properties("serial", hostile)
    for text in (info.model, info.gpu, info.gpu_driver):
        assert text is None or (text.isprintable() and len(text) <= 200)
    started = time.monotonic()
    parse_properties("serial", "[" * 500_000 + "GLES: " * 50_000 + "\n[a]: [" * 50_000)
    assert time.monotonic() - started < 2


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with entered() as world:
        yield world


def test_devices_are_asked_for_themselves(world: World) -> None:
    linux = world.daemon(16601)
    properties = "\n".join(line for line in PIXEL.splitlines() if line.startswith("["))
    phone = world.daemon(
        16602,
        user=None if os.geteuid() else 2000,
        programs={
            "getprop": f"cat <<'end'\n{properties}\nend",
            "dumpsys": 'case "$1" in battery) echo "  level: 50";; '
            'SurfaceFlinger) echo "GLES: Qualcomm, Adreno (TM) 740, V@1";; *) exit 1;; esac',
        },
    )
    old = world.daemon(16603, programs={"getprop": "echo '[ro.product.cpu.abi]: [mips]'"})
    for device in (linux, phone, old):
        assert Phone(device.serial, QUICK).reconnect()
    by_serial = {info.serial: info for info in android_devices(QUICK)}
    here = os.uname()
    assert by_serial[linux.serial].platform == f"linux-{here.machine}"
    assert by_serial[linux.serial].name == f"Linux over adb ({here.machine})"
    assert by_serial[linux.serial].unusable is None
    info = by_serial[phone.serial]
    assert (info.name, info.gpu, info.gpu_driver) == ("Google Pixel 8 Pro", "Adreno (TM) 740", "V@1")
    assert (info.battery_percent, info.thermal_status, info.unusable) == (50, None, None)
    assert (info.free_bytes or 0) > 0
    assert "no runner for android-mips" in str(by_serial[old.serial].unusable)
