"""adb, the client itself, as a subprocess: no shell on this side, a limit on every call on both.

Why not a library that speaks to the adb server: what fails with phones is a socket that stays open
and says nothing (a frozen daemon, an unplugged cable), and a process can be killed whatever it
waits for. The client gives exact exit codes (shell v2), starts a killed server by itself, and is
there wherever a phone is used; a library would be one more dependency beside it. A call costs about
5 ms of process start.

What adb says is not believed: `shell` ends with code 0 and its output cut when the daemon dies,
`connect` returns 0 when it failed, and `devices` calls a frozen device `device`: phone.py
deals with that.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fidelity.errors import EnvironmentMissing

MEND = "install Android's platform-tools, or run: python -m fidelity.devices.install_adb"
_LISTED = re.compile(
    r"(?P<serial>\S+)\s+(?P<state>no permissions\b.*?|\S+)(?P<more>(?:\s+[a-z_]+:\S*|\s+[0-9.-]+)*)\s*"
)
_CHUNK = 1 << 16
_NO_SERVER = "cannot connect to daemon"
_PAUSE = 0.2


@dataclass(frozen=True)
class Limits:
    """Seconds. `answer` is for one short call; a push may take that and a second per `slowest` bytes."""

    answer: float = 20.0
    connect: float = 12.0
    grace: float = 10.0
    slowest: int = 1 << 20


LIMITS = Limits()


class DeviceLost(Exception):
    """The device is gone or does not answer; str() says what was noticed, in one line."""


@dataclass(frozen=True)
class Listed:
    """One line of `adb devices -l`: `state` is adb's word, as `device` or `unauthorized`."""

    serial: str
    state: str


@dataclass(frozen=True)
class Answer:
    """What a call gave. `code` is None when it was killed at its time limit; `cut`, at its size limit."""

    code: int | None
    out: bytes
    error: str
    cut: bool = False


def client() -> str:
    """The adb on PATH or in the Android SDK. Raises EnvironmentMissing."""
    found = shutil.which("adb")
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        if found is None and os.environ.get(name):
            found = shutil.which("adb", path=str(Path(os.environ[name]) / "platform-tools"))
    if found is None:
        raise EnvironmentMissing(f"adb is not there; {MEND}")
    return found


def listed(limits: Limits = LIMITS) -> tuple[Listed, ...]:
    """Every device that the adb server knows, in its order. Raises DeviceLost when the server does not answer."""
    answer = call(["devices", "-l"], limits.answer)
    if answer.code != 0:
        raise DeviceLost(f"adb devices: {reason(answer, limits.answer)}")
    return parse_listed(answer.out.decode("utf-8", errors="replace"))


def parse_listed(text: str) -> tuple[Listed, ...]:
    """The devices that the text of `adb devices -l` names."""
    _, _, lines = text.rpartition("List of devices attached")
    matches = (_LISTED.fullmatch(line.strip()) for line in lines.splitlines()[:1000])
    return tuple(Listed(match["serial"][:128], match["state"][:200]) for match in matches if match)


def call(arguments: list[str], seconds: float, *, into: Path | None = None, largest: int = 1 << 20) -> Answer:
    """Run adb, at most `seconds` long, for at most `largest` bytes of output, kept or written to `into`.

    Of two clients that start the server at once, one fails before it asked anything: it asks again. What it said of
    that is the answer where there is no time left for another.
    """
    deadline = time.monotonic() + seconds
    answer = None
    while True:
        again = _call(arguments, deadline, into, largest)
        if answer is not None and again.code is None:
            return answer
        answer = again
        if answer.code != 1 or _NO_SERVER not in answer.error or time.monotonic() + _PAUSE > deadline:
            return answer
        time.sleep(_PAUSE)


def _call(arguments: list[str], deadline: float, into: Path | None, largest: int) -> Answer:
    process = subprocess.Popen(
        [client(), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - what PIPE means
    assert process.stderr is not None  # noqa: S101
    with contextlib.ExitStack() as stack:
        stack.callback(_end, process)
        target = stack.enter_context(into.open("wb")) if into else None
        out, error, ended = _read(process.stdout, process.stderr, deadline, largest, target)
        if ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        code = process.poll() if ended else None
        return Answer(code, bytes(out), error.decode("utf-8", errors="replace"), cut=ended is None)


def _read(
    out: IO[bytes], error: IO[bytes], deadline: float, largest: int, target: IO[bytes] | None
) -> tuple[bytearray, bytearray, bool | None]:
    """Both streams until they end: True; until the deadline: False; until too much came: None."""
    kept = {out: bytearray(), error: bytearray()}
    size = 0
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return kept[out], kept[error], False
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is error:
                    kept[error] = (kept[error] + chunk)[:_CHUNK]
                else:
                    size += len(chunk)
                    if size > largest:
                        return kept[out], kept[error], None
                    if target is None:
                        kept[out] += chunk
                    else:
                        target.write(chunk)
    return kept[out], kept[error], True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the client and what it started; a server that it started has a session of its own."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def reason(answer: Answer, seconds: float) -> str:
    """Why a call failed, in one line: adb's own last words, the code, or that there was no answer."""
    if answer.code is None and not answer.cut:
        return f"no answer in {seconds:g} s"
    if answer.cut:
        return "it answered with more than it may"
    lines = [line for line in answer.error.splitlines() if line.strip() and not line.startswith("* daemon")]
    told = answer.out[-_CHUNK:].decode("utf-8", errors="replace").splitlines()
    lines = lines or [line for line in told if line.startswith("adb: error:")]  # push tells its errors on stdout
    last = re.sub(r"failed to copy '.*' to '.*': ", "", lines[-1][:2000]) if lines else ""  # paths longer than a line
    said = "".join(char if char.isprintable() else " " for char in last)[:300]
    return f"code {answer.code}{': ' if said else ''}{said}"
