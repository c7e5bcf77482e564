"""The adb client as a subprocess, and the proof that the tests' adbd can be reached from nowhere else."""

from __future__ import annotations

import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from adb_daemon import World, command_of, until
from android_stand_in import QUICK, entered

from fidelity.devices.android import adb
from fidelity.devices.android.adb import Limits, Listed, parse_listed
from fidelity.devices.android.phone import CallFailed, Phone, check_serial, is_network
from fidelity.devices.android.properties import mend
from fidelity.errors import BadInput, EnvironmentMissing

# What adb 34 prints, with a phone in every state.
LISTING = """* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
28181FDH2000AB         device usb:1-4 product:husky model:Pixel_8_Pro device:husky transport_id:1
192.168.1.7:5555       offline transport_id:2
R58M12ABCDE            unauthorized usb:3-1.2 transport_id:3
0123456789ABCDEF       recovery usb:1-2 product:x model:y device:z transport_id:4
adb-R3CR-a1b2._adb-tls-connect._tcp device product:a51 model:SM_A515F device:a51 transport_id:6
????????????           no permissions (user in plugdev group; are your udev rules wrong?); \
see [http://developer.android.com/tools/device.html] usb:1-3 transport_id:5

"""


def test_every_state_is_read() -> None:
    found = parse_listed(LISTING)
    assert [(each.serial, each.state.split(" (")[0]) for each in found] == [
        ("28181FDH2000AB", "device"),
        ("192.168.1.7:5555", "offline"),
        ("R58M12ABCDE", "unauthorized"),
        ("0123456789ABCDEF", "recovery"),
        ("adb-R3CR-a1b2._adb-tls-connect._tcp", "device"),
        ("????????????", "no permissions"),
    ]
    mends = [mend(each.state) for each in found]
    assert [why is None for why in mends] == [True, False, False, False, True, False]
    assert "allow USB debugging" in str(mends[2])
    assert "udev" in str(mends[5])


@pytest.mark.parametrize(
    "text", ["", "List of devices attached\n\n", "adb server version (40) doesn't match", "\0" * 99]
)
def test_no_devices_are_no_devices(text: str) -> None:
    assert parse_listed(text) == ()


def test_a_listing_is_read_in_linear_time() -> None:
    hostile = "List of devices attached\n" + "s no permissions" + " a:b" * 20000 + "!\n" + "s d" + " 1" * 50000 + "x\n"
    started = time.monotonic()
    parse_listed(hostile)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("serial", ["", "-s", "a b", "a;b", "$(x)", "a\n", "é", "x" * 129, "'", "../x", "a/b"])
def test_what_is_no_serial_never_reaches_adb(serial: str) -> None:
    with pytest.raises(BadInput, match="not a device's serial"):
        check_serial(serial)
    with pytest.raises(BadInput):
        Phone(serial)


def test_network_serials_are_told() -> None:
    assert is_network("127.0.0.1:5555")
    assert is_network("[fe80::1%eth0]:5555")
    assert not is_network("28181FDH2000AB")
    assert not is_network("adb-R3CR-a1b2._adb-tls-connect._tcp")


def scripted(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """An `adb` on PATH that is a few lines of Python."""
    program = folder / "adb"
    program.write_text(f"#!{sys.executable}\nimport os, subprocess, sys, time\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_call_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(tmp_path, monkeypatch, "subprocess.run(['sleep', '60'])")
    before = set(psutil.Process().children(recursive=True))  # of other tests of this session: an adbd that goes on
    started = time.monotonic()
    assert adb.call(["devices"], 0.4).code is None
    assert time.monotonic() - started < 3
    assert not set(psutil.Process().children(recursive=True)) - before


def test_a_call_that_says_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(tmp_path, monkeypatch, "while True: os.write(1, bytes(1 << 16))")
    answer = adb.call(["devices"], 20, largest=1 << 20)
    assert answer.cut
    assert answer.code is None
    assert len(answer.out) <= 1 << 20
    scripted(tmp_path, monkeypatch, "while True: os.write(2, bytes(1 << 16))")
    assert len(adb.call(["devices"], 0.5).error) <= 1 << 16


def test_an_answer_without_its_end_is_a_lost_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(tmp_path, monkeypatch, "print('half an ans')")  # what a dying adbd leaves: code 0, output cut
    with pytest.raises(adb.DeviceLost, match="was cut"):
        Phone("x", QUICK).script("echo")


def test_a_listing_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(tmp_path, monkeypatch, "print('* daemon', file=sys.stderr); sys.exit('cannot connect to daemon')")
    started = time.monotonic()
    with pytest.raises(adb.DeviceLost, match="code 1: cannot connect to daemon"):
        adb.listed(Limits(answer=2))
    assert time.monotonic() - started > 0.3  # it was asked again, in vain


def test_without_adb_the_mend_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    monkeypatch.delenv("ANDROID_SDK_ROOT", raising=False)
    with pytest.raises(EnvironmentMissing, match="install_adb"):
        adb.client()
    (tmp_path / "platform-tools").mkdir()
    scripted(tmp_path / "platform-tools", monkeypatch, "")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert adb.client() == str(tmp_path / "platform-tools" / "adb")


def test_arguments_arrive_as_they_are() -> None:
    hostile = ["$(touch /canary)", "`x`", "a b", "'", '"', "\\", "", "\n", "*", "~", "-n", "é\U0001f600"]
    with entered() as world:
        phone = Phone(world.daemon(16601).serial, QUICK)
        assert phone.reconnect()
        said = phone.script('for each; do printf "%s|" "$each"; done; echo fidelity-end', *hostile)
        assert said.split("|") == [*hostile, ""]
        with pytest.raises(CallFailed, match="code 7: no such thing"):
            phone.script("echo no such thing >&2; exit 7")


def test_a_server_that_several_start_at_once_serves_them_all() -> None:
    with entered(), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: adb.call(["devices"], 10), range(4)))
    assert [answer.code for answer in answers] == [0] * 4


def _listeners(world: World) -> str:
    return world.run("cat", "/proc/net/tcp", "/proc/net/tcp6")


def test_the_daemon_is_reached_from_nowhere_else() -> None:
    """It listens in a network namespace that has a loopback and nothing else, and not on vsock."""
    with entered() as world:
        daemon = world.daemon(16601)
        assert f":{16601:04X} " in _listeners(world)
        interfaces = world.run("cat", "/proc/net/dev").splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        here = Path("/proc/self/net/tcp").read_text() + Path("/proc/self/net/tcp6").read_text()
        assert f":{16601:04X} " not in here
        assert f":{15037:04X} " not in here
        with socket.socket() as attempt, pytest.raises(OSError, match="refused"):
            attempt.connect(("127.0.0.1", 16601))
        if hasattr(socket, "AF_VSOCK"):
            try:
                with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as free:
                    free.bind((socket.VMADDR_CID_ANY, 16601))  # it would be in use
            except OSError as error:
                assert "not supported" in str(error)  # noqa: PT017 - a kernel without vsock
        assert (daemon.home / "adbd.log").exists()


def test_the_world_ends_with_all_that_is_in_it() -> None:
    with entered() as world:
        world.daemon(16601)
        world.run("sh", "-c", "sleep 77 > /dev/null 2>&1 &")
        Phone("127.0.0.1:16601", QUICK).reconnect()
        inside = world.processes()
        assert {command_of(each)[0] for each in inside} >= {str(world.adbd), "adb", "sleep"}
    until(lambda: not any(Path(f"/proc/{each}").exists() for each in inside))
    assert not world.folder.exists()


def test_a_state_is_adbs_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(tmp_path, monkeypatch, f"print({LISTING!r})")
    assert Phone("R58M12ABCDE", QUICK).state() == "unauthorized"
    assert Phone("nothing", QUICK).state() == "absent"
    assert adb.listed(QUICK)[0] == Listed("28181FDH2000AB", "device")
