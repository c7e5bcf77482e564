"""What happens between here and a device, done for real to a real adbd: each becomes a result with a name.

adbd is killed and frozen, the adb server killed, the device's disk filled, bits flipped on the way and
in the store. Another device's job runs beside each and must stay whole, and afterwards the same job
must succeed on the same device.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from adb_daemon import Daemon, World, until
from android_stand_in import FAULTY, QUICK, StandIn, beside, entered, job, nothing_left, run
from test_tflite_builder import add_and_scale
from tiny_models import X, job_folder, sha256

from fidelity.devices.android.phone import Phone
from fidelity.devices.job import JobResult

SLOW = "time.sleep(1)\nresult()"


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with entered() as world:
        yield world


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    yield shared
    shared.unhook()


@pytest.fixture(scope="module")
def first(shared: World) -> Daemon:
    return shared.daemon(16601, environment=FAULTY)


@pytest.fixture
def faulty(first: Daemon) -> Iterator[Daemon]:
    yield first
    first.revive()


@pytest.fixture(scope="module")
def other(shared: World) -> Daemon:
    return shared.daemon(16602)


@pytest.fixture(scope="module")
def small(shared: World) -> Daemon:
    return shared.daemon(16603, size="24m", environment=FAULTY)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch)


def large_job(folder: Path, megabytes: int) -> Path:
    """A job whose model has a tail of random bytes, so that its push takes a while and is never in the store."""
    tail = bytearray(threading.get_native_id().to_bytes(8, "little") + time.monotonic_ns().to_bytes(8, "little"))
    return job_folder(folder, add_and_scale() + bytes(tail) + bytes(megabytes << 20), {"one": {"x": X}})


def meanwhile(when: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as something else is seen."""

    def watch() -> None:
        until(when, 20)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def pushing(device: Daemon) -> Callable[[], object]:
    """True while a large file is on its way there."""

    def large() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return any(path.stat().st_size > 1 << 20 for path in (device.store / "blobs").glob("*.part"))
        return False

    return large


def again(tmp_path: Path, device: Daemon, stand_in: StandIn) -> None:
    """The same device gives a whole result for the same job afterwards, and is clean.

    What a lost job left there stays for a day, since its harness may live, and is then removed.
    """
    stand_in.does("result()")
    long_ago = time.time() - 200_000
    for stale in (*(device.store / "jobs").iterdir(), *(device.store / "blobs").glob("*.part")):
        os.utime(stale, (long_ago, long_ago))
    assert run(job(tmp_path / "again"), device).status == "ok"
    nothing_left(device)


def test_adbd_killed_while_a_file_is_pushed(tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn) -> None:
    folder = large_job(tmp_path, 100)

    def act() -> JobResult:
        killer = meanwhile(pushing(faulty), lambda: faulty.signal(signal.SIGKILL))
        result = run(folder, faulty)
        killer.join()
        return result

    result = beside(tmp_path, other, act)
    assert result.status == "device_lost"
    assert "did not come back" in (result.error or "")
    faulty.start()
    again(tmp_path, faulty, stand_in)
    assert run(folder, faulty).status == "ok"  # the cut push was not taken for the model


def test_adbd_killed_while_the_runner_runs(tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn) -> None:
    stand_in.does("time.sleep(30)")

    def act() -> JobResult:
        killer = meanwhile(lambda: faulty.running("/fidelity-runner"), lambda: faulty.signal(signal.SIGKILL))
        result = run(job(tmp_path), faulty)
        killer.join()
        return result

    result = beside(tmp_path, other, act)
    assert result.status == "device_lost"
    assert faulty.running("/fidelity-runner")  # it lives on, and its folder with it, until a harness comes back
    for process in faulty.running("/fidelity-runner"):
        os.kill(process, signal.SIGKILL)
    faulty.start()
    again(tmp_path, faulty, stand_in)


def test_adbd_that_comes_back_gets_the_whole_job_again(
    tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    stand_in.does(SLOW)

    def restart() -> None:
        faulty.signal(signal.SIGKILL)
        faulty.start()

    def act() -> JobResult:
        killer = meanwhile(lambda: faulty.running("/fidelity-runner"), restart)
        result = run(job(tmp_path), faulty)
        killer.join()
        return result

    assert beside(tmp_path, other, act).status == "ok"
    nothing_left(faulty)  # neither the first attempt's runner nor its folder


def test_adbd_killed_while_results_are_pulled(tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn) -> None:
    stand_in.does("result()\nos.truncate(os.open('outputs/large.raw', os.O_CREAT | os.O_WRONLY), 1 << 30)")
    folder = job(tmp_path)
    killed = meanwhile((folder / ".pulled").exists, lambda: faulty.signal(signal.SIGKILL))
    result = beside(tmp_path, other, lambda: run(folder, faulty))
    killed.join()
    assert result.status == "device_lost"
    faulty.start()
    again(tmp_path, faulty, stand_in)


def test_adb_server_killed_while_the_runner_runs(
    tmp_path: Path, world: World, faulty: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    stand_in.does(SLOW)
    killer = meanwhile(lambda: faulty.running("/fidelity-runner"), world.kill_server)
    result = beside(tmp_path, other, lambda: run(job(tmp_path), faulty))
    killer.join()
    assert result.status == "ok"
    again(tmp_path, faulty, stand_in)
    nothing_left(other)


def test_adb_server_killed_before_a_job(tmp_path: Path, world: World, faulty: Daemon, stand_in: StandIn) -> None:
    Phone(faulty.serial, QUICK).reconnect()
    world.kill_server()
    again(tmp_path, faulty, stand_in)


def test_a_frozen_device_is_lost_in_time(tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn) -> None:
    stand_in.does("result()")
    Phone(faulty.serial, QUICK).reconnect()
    faulty.signal(signal.SIGSTOP)
    started = time.monotonic()
    result = beside(tmp_path, other, lambda: run(job(tmp_path), faulty))
    assert time.monotonic() - started < 20
    assert result.status == "device_lost"
    assert "no answer" in (result.error or "")
    faulty.signal(signal.SIGCONT)
    again(tmp_path, faulty, stand_in)


def test_a_device_that_freezes_while_the_runner_runs(
    tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    stand_in.does("time.sleep(30)")
    freezer = meanwhile(lambda: faulty.running("/fidelity-runner"), lambda: faulty.signal(signal.SIGSTOP))
    result = beside(tmp_path, other, lambda: run(job(tmp_path, timeout_seconds=1.5), faulty))
    freezer.join()
    assert result.status == "device_lost"
    assert not faulty.running("/fidelity-runner")  # the limit over there needs no adbd
    faulty.signal(signal.SIGCONT)
    again(tmp_path, faulty, stand_in)


def test_a_disk_that_is_too_small_is_told_before_anything_is_pushed(
    tmp_path: Path, world: World, small: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    before = len(world.calls("push"))
    result = run(large_job(tmp_path, 30), small)
    assert result.status == "transfer_failed"
    assert "30 MiB are needed" in (result.error or "")
    assert len(world.calls("push")) == before
    again(tmp_path, small, stand_in)


def test_a_disk_that_fills_while_a_file_is_pushed(
    tmp_path: Path, world: World, small: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    filler = small.store / "filler"
    world.hook("before", f'[ "$3" = push ] && [ "$2" = {small.serial} ] && head -c 20000000 /dev/zero > {filler}')
    result = beside(tmp_path, other, lambda: run(large_job(tmp_path, 15), small))
    assert result.status == "transfer_failed"
    assert "No space left on device" in (result.error or "")
    nothing_left(small)
    world.unhook()
    filler.unlink()
    again(tmp_path, small, stand_in)


def test_a_disk_that_is_full_of_outputs(tmp_path: Path, small: Daemon, other: Daemon, stand_in: StandIn) -> None:
    stand_in.does(
        "os.mkdir('outputs')\n"
        "try:\n    open('outputs/x.raw', 'wb').write(bytes(30 << 20))\n"
        "except OSError:\n    os._exit(8)"
    )
    result = beside(tmp_path, other, lambda: run(job(tmp_path), small))
    assert result.status == "transfer_failed"
    assert "ended with code 8" in (result.error or "")
    again(tmp_path, small, stand_in)


def test_a_bit_that_flips_on_the_way(
    tmp_path: Path, world: World, faulty: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    blobs = faulty.store / "blobs"
    world.hook(
        "after",
        f'[ "$3" = push ] && [ "$2" = {faulty.serial} ] && for part in {blobs}/*.part; do '
        f"printf X | dd of=$part bs=1 seek=100 conv=notrunc status=none; done",
    )
    folder = large_job(tmp_path, 2)
    result = beside(tmp_path, other, lambda: run(folder, faulty))
    assert result.status == "transfer_failed"
    assert "arrived with another sha256" in (result.error or "")
    nothing_left(faulty)
    world.unhook()
    assert run(folder, faulty).status == "ok"


def test_a_stored_file_that_rots_is_found_when_a_job_fails(
    tmp_path: Path, world: World, faulty: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    folder = large_job(tmp_path, 2)
    assert run(folder, faulty).status == "ok"
    blob = faulty.store / "blobs" / sha256(folder / "model.tflite")
    blob.chmod(0o755)
    with blob.open("r+b") as stream:
        stream.seek(100)
        stream.write(b"X")
    stand_in.does("sys.exit(4)")
    result = beside(tmp_path, other, lambda: run(folder, faulty))
    assert result.status == "transfer_failed"
    assert "model.tflite there was damaged" in (result.error or "")
    assert not blob.exists()
    stand_in.does("result()")
    assert run(folder, faulty).status == "ok"


def test_a_stored_file_of_another_size_is_pushed_again(tmp_path: Path, faulty: Daemon, stand_in: StandIn) -> None:
    folder = large_job(tmp_path, 2)
    assert run(folder, faulty).status == "ok"
    blob = faulty.store / "blobs" / sha256(folder / "model.tflite")
    blob.unlink()
    blob.write_bytes(b"short")
    assert run(folder, faulty).status == "ok"
    assert blob.stat().st_size > 2 << 20


def test_a_device_that_is_not_there(tmp_path: Path, world: World, other: Daemon, stand_in: StandIn) -> None:
    nowhere = SimpleNamespace(serial="127.0.0.1:16999")
    result = run(job(tmp_path), nowhere)  # type: ignore[arg-type]
    assert result.status == "no_device"
    assert "not connected" in (result.error or "")


@pytest.mark.parametrize("victim", ["model.tflite", "inputs"])
def test_a_job_whose_files_changed_is_refused_though_the_store_has_them(
    victim: str, tmp_path: Path, faulty: Daemon, stand_in: StandIn
) -> None:
    assert run(job(tmp_path / "first"), faulty).status == "ok"
    folder = job(tmp_path)
    path = folder / victim if victim == "model.tflite" else next((folder / victim).iterdir())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    assert run(folder, faulty).status == ("bad_model" if victim == "model.tflite" else "bad_input")
