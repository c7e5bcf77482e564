"""A runner on a device that dies, hangs or lies, over a real adbd: each becomes a result with a name.

Beside each of them another device's job runs, and must stay whole; afterwards nothing is left there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from adb_daemon import Daemon, World
from android_stand_in import FAULTY, StandIn, beside, entered, job, nothing_left, run

from fidelity.devices.job import JobResult


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with entered() as world:
        yield world


@pytest.fixture(scope="module")
def faulty(world: World) -> Daemon:
    return world.daemon(16601, environment=FAULTY)


@pytest.fixture(scope="module")
def other(world: World) -> Daemon:
    return world.daemon(16602)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch)


def outcome(tmp_path: Path, faulty: Daemon, other: Daemon, **options: object) -> JobResult:
    """The faulty device's result beside another's honest one; the device is left clean."""
    result = beside(tmp_path, other, lambda: run(job(tmp_path, **options), faulty))
    nothing_left(faulty)
    nothing_left(other)
    return result


def test_an_honest_runner_is_ok(tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn) -> None:
    assert outcome(tmp_path, faulty, other).status == "ok"


ENDINGS = [
    ("os.kill(os.getpid(), signal.SIGKILL)", "crashed", "died of SIGKILL"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "died of SIGSEGV"),
    ("os.abort()", "crashed", "died of SIGABRT"),
    ("sys.exit(0)", "crashed", "ended with code 0"),
    ("sys.exit('no such thing')", "crashed", "ended with code 1 (no such thing)"),
    ("sys.exit(2)", "bad_input", "ended with code 2"),
    ("sys.exit(3)", "no_device", "ended with code 3"),
    ("sys.exit(8)", "transfer_failed", "ended with code 8"),
    ("os.mkdir('result.json')", "crashed", "left no result"),
    ("os.mkfifo('result.json')", "crashed", "left no result"),
    ("os.symlink('job.json', 'result.json')", "crashed", "left no result"),
    ("result(); os.truncate('result.json', 100)", "crashed", "result.json is not a result"),
    ("open('result.json', 'w').write('{}')", "crashed", "result.json is not a result"),
    ("open('result.json', 'wb').write(os.urandom(10000))", "crashed", "result.json is not a result"),
    ("result(model_sha256='0' * 64)", "crashed", "another model"),
    ("result(outputs=[])", "crashed", "answers []"),
    ("result(peak_memory_bytes=3 << 30)", "out_of_memory", "3072 MiB, its limit is 1024 MiB"),
    ("result(); file, = os.listdir('outputs'); os.truncate(f'outputs/{file}', 23)", "crashed", "of another size"),
    ("result(); file, = os.listdir('outputs'); os.truncate(f'outputs/{file}', 5 << 30)", "transfer_failed", "4 GiB"),
    ("result(); file, = os.listdir('outputs'); open(f'outputs/{file}', 'wb').write(bytes(24))", "crashed", "sha256"),
    ("result(); file, = os.listdir('outputs'); os.remove(f'outputs/{file}')", "crashed", "cannot be read"),
    ("result(); os.rename('outputs', 'x'); os.symlink('x', 'outputs')", "crashed", "cannot be read"),
    ("result(); open('outputs/a\\nb $(touch canary)', 'w')", "transfer_failed", "no job writes"),
]


@pytest.mark.parametrize(("body", "status", "told"), ENDINGS, ids=[body[:40] for body, _, _ in ENDINGS])
def test_a_runner_that_does_not_do_its_job_is_named(
    body: str, status: str, told: str, tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    stand_in.does(body)
    result = outcome(tmp_path, faulty, other, memory_limit_bytes=1 << 30)
    assert result.status == status
    assert told in (result.error or "")


HANGS = {
    "asleep": "time.sleep(60)",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "deaf": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
    "parent": "subprocess.run(['sleep', '60'])",
    "chatty": "while True: print('x' * 10000, file=sys.stderr)",
    "too late": "result(); time.sleep(60)",
}


@pytest.mark.parametrize("body", HANGS.values(), ids=HANGS)
def test_a_runner_that_hangs_is_ended_there(
    body: str, tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    stand_in.does(body)
    result = outcome(tmp_path, faulty, other, timeout_seconds=0.5)
    assert result.status == "timeout"
    assert result.error == "the runner passed its limit of 0.5 s and was killed"


def test_a_child_that_outlives_the_runner_is_ended(
    tmp_path: Path, faulty: Daemon, other: Daemon, stand_in: StandIn
) -> None:
    stand_in.does("subprocess.Popen(['sleep', '60'], start_new_session=True, stderr=subprocess.DEVNULL); result()")
    assert outcome(tmp_path, faulty, other).status == "ok"


def test_a_long_log_is_cut_and_the_result_kept(tmp_path: Path, faulty: Daemon, stand_in: StandIn) -> None:
    stand_in.does("result(); open('log.txt', 'w').write('stand-in\\n' * (1 << 20))")
    folder = job(tmp_path)
    from fidelity.devices.android.job import run_android_job  # noqa: PLC0415 - run() looks for the honest log

    assert run_android_job(folder, faulty.serial).status == "ok"
    assert (folder / "log.txt").stat().st_size == 8 << 20
