"""Real adb and adbd for the tests, shut into namespaces of their own: devices without a phone.

adbd listens on every interface without asking who comes, so it must never run bare. A World is a
network, process and mount namespace: its loopback is reached from nowhere else, two of them share
no port, and when its first process ends the kernel ends every other, whatever it was doing. vsock
knows no namespaces: a seccomp filter keeps adbd from it. A Daemon is one device in a World, with a
store of its own under the path that all devices share.

What the product sees is an `adb` on PATH, which enters the namespace, notes its arguments, and
runs what a test put in its way before or after.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from fidelity.devices.install_adb import adbd

_FIRST = """
import fcntl, signal, socket, struct, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the orphans of killed daemons are reaped
print("ready", flush=True)
sys.stdin.read()  # until the tests end, however they do
"""
_WITHOUT_VSOCK = """
import ctypes, os, struct, sys
socket, architecture = {"x86_64": (41, 0xC000003E), "aarch64": (198, 0xC00000B7)}[os.uname().machine]
program = b"".join(struct.pack("HBBI", *line) for line in (
    (0x20, 0, 0, 4), (0x15, 0, 5, architecture),  # the architecture's own calls only
    (0x20, 0, 0, 0), (0x15, 0, 3, socket),
    (0x20, 0, 0, 16), (0x15, 0, 1, 40),  # AF_VSOCK
    (0x06, 0, 0, 0x00050000 | 97),  # EAFNOSUPPORT
    (0x06, 0, 0, 0x7FFF0000),
))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert prctl(22, 2, ctypes.byref(Filter(len(program) // 8, program)), 0, 0) == 0, ctypes.get_errno()
os.execvp(sys.argv[1], sys.argv[1:])
"""
_ADB = """#!/bin/sh
here={here}
printf '%s\\n' "$*" >> "$here/calls"
[ -x "$here/before" ] && "$here/before" "$@"
{enter} env -u XDG_RUNTIME_DIR HOME="$here" ANDROID_ADB_SERVER_PORT=15037 ADB_MDNS=0 ADB_USB=0 \\
  ADB_LOCAL_TRANSPORT_MAX_PORT=5555 {adb} "$@"
code=$?
[ -x "$here/after" ] && "$here/after" "$@"
exit $code
"""
_USER = ["--user", "--map-root-user"] if os.geteuid() else []


def missing() -> str | None:
    """Why there can be no World here; None where there can."""
    there = {name: shutil.which(name) for name in ("adb", "unshare", "nsenter")} | {"adbd": adbd()}
    for name, path in there.items():
        if path is None:
            return f"{name} is not here (python -m fidelity.devices.install_adb)"
    command = ["unshare", *_USER, "-n", "-m", "-p", "--fork", "true"]
    done = subprocess.run(command, capture_output=True, check=False)
    return None if done.returncode == 0 else f"no namespaces here: {done.stderr.decode().strip()}"


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something is true; fails the test when it does not become so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class World:
    """The namespaces, with an adb server of their own; a context manager that leaves nothing behind."""

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="fidelity-adb-"))
        self.folder.chmod(0o755)  # a device of another user enters it
        self.store = self.folder / "store"
        self.store.mkdir()
        command = ["unshare", *_USER, "-n", "-m", "-p", "--fork", "--kill-child", "--mount-proc"]
        self._outer = subprocess.Popen(
            [*command, sys.executable, "-c", _FIRST],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._outer.stdout is not None
        assert self._outer.stdout.readline() == b"ready\n"
        self.first = psutil.Process(self._outer.pid).children()[0].pid
        entered = ["-U", "--preserve-credentials"] if _USER else []
        self.enter = ["nsenter", *entered, "-t", str(self.first), "-n", "-m", "-p", "--"]
        (self.folder / "bin").mkdir()
        adb = self.folder / "bin" / "adb"
        adb.write_text(
            _ADB.format(here=shlex.quote(str(self.folder)), enter=shlex.join(self.enter), adb=shutil.which("adb"))
        )
        adb.chmod(0o755)
        given = adbd()
        assert given is not None
        self.adbd = Path(shutil.copy(given, self.folder / "adbd"))  # where a device of another user may run it
        self.daemons: list[Daemon] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes = self.processes()
        os.kill(self.first, signal.SIGKILL)
        for daemon in self.daemons:  # nsenter stops with what it started, and would not reap it
            daemon.process.send_signal(signal.SIGCONT)
        self._outer.communicate()
        for daemon in self.daemons:
            daemon.process.wait(timeout=10)
        until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
        shutil.rmtree(self.folder)

    @property
    def path(self) -> str:
        """The PATH that has this world's adb."""
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    @property
    def variables(self) -> dict[str, str]:
        """The variables with which the product finds this world's adb and its devices' store."""
        return {"PATH": self.path, "FIDELITY_ANDROID_FOLDER": str(self.store)}

    def connect(self, daemon: Daemon) -> None:
        """Have the adb server know a device, as a user does with one on the network."""
        command = [str(self.folder / "bin" / "adb"), "connect", daemon.serial]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    @property
    def root(self) -> Path:
        """The file system as the world's processes see it."""
        return Path(f"/proc/{self.first}/root")

    def run(self, *command: str) -> str:
        """What a command says that runs inside."""
        return subprocess.run([*self.enter, *command], capture_output=True, text=True, check=True, timeout=20).stdout

    def processes(self) -> list[int]:
        """Every process inside that is not dead, the first one included."""
        mine = Path(f"/proc/{self.first}/ns/pid").readlink()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns/pid").readlink() == mine:
                    found.append(int(process.name))
        return found

    def calls(self, word: str) -> list[str]:
        """The calls of adb so far whose arguments contain a word."""
        calls = self.folder / "calls"
        return [line for line in calls.read_text().splitlines() if word in line.split()] if calls.exists() else []

    def hook(self, when: str, body: str) -> None:
        """Have a shell script run `before` or `after` every call of adb, with its arguments."""
        path = self.folder / when
        beside = path.with_suffix(".new")
        beside.write_text(f"#!/bin/sh\n{body}\n")
        beside.chmod(0o755)
        beside.rename(path)

    def unhook(self) -> None:
        """No script runs before or after adb any more."""
        for when in ("before", "after"):
            (self.folder / when).unlink(missing_ok=True)

    def kill_server(self) -> None:
        """Kill the adb server as it is, with every connection that it has."""
        for process in self.processes():
            with contextlib.suppress(OSError):
                if "fork-server" in command_of(process):
                    os.kill(process, signal.SIGKILL)

    def daemon(
        self,
        port: int,
        *,
        size: str | None = None,
        user: int | None = None,
        programs: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Daemon:
        """Start a device; with a `size`, on a file system of its own, `programs` first on its PATH."""
        home = self.folder / f"device-{port}"
        (home / "store").mkdir(parents=True)
        (home / "bin").mkdir()
        for name, body in (programs or {}).items():
            (home / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
            (home / "bin" / name).chmod(0o755)
        if size is not None:
            self.run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(home / "store"))
        if user is not None:
            self.run("chown", f"{user}:{user}", str(home / "store"))
        daemon = Daemon(self, port, home, user, {**(environment or {})})
        daemon.start()
        self.daemons.append(daemon)
        return daemon


@dataclass
class Daemon:
    """One adbd, at the serial 127.0.0.1:<port>."""

    world: World
    port: int
    home: Path
    user: int | None
    environment: dict[str, str]
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """The device's own store, seen from here."""
        return self.world.root / self.home.relative_to("/") / "store"

    def start(self) -> None:
        """Start it, or start it again after a kill; returns when it listens."""
        become = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if self.user else []
        script = f"mount --bind {shlex.quote(str(self.home / 'store'))} {shlex.quote(str(self.world.store))}"
        script += (
            f" && cd / && exec {shlex.join([sys.executable, '-c', _WITHOUT_VSOCK, *become, str(self.world.adbd)])}"
        )
        variables = {"PATH": f"{self.home / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin", "ADBD_PORT": str(self.port)}
        self.process = subprocess.Popen(
            [*self.world.enter, "unshare", "-m", "sh", "-c", script],
            env={**variables, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.home / "adbd.log").open("ab"),
        )
        until(self._listens)

    def _listens(self) -> bool:
        table = (
            Path(f"/proc/{self.world.first}/net/tcp6").read_text()
            + Path(f"/proc/{self.world.first}/net/tcp").read_text()
        )
        return any(f":{self.port:04X} " in line and " 0A " in line for line in table.splitlines())

    def signal(self, number: signal.Signals) -> None:
        """Send adbd itself a signal: SIGKILL to lose it, SIGSTOP to freeze it, SIGCONT to thaw it."""
        for process in self.world.processes():
            with contextlib.suppress(OSError):
                if command_of(process) == [str(self.world.adbd)] and self._mine(process):
                    os.kill(process, number)
        if number == signal.SIGCONT:
            self.process.send_signal(number)  # nsenter stopped with it
        if number == signal.SIGKILL:
            self.process.wait(timeout=10)
            until(lambda: not self._listens())

    def revive(self) -> None:
        """Whatever a test did to it, have it answer again."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
        else:
            self.start()

    def running(self, program: str = "") -> list[int]:
        """The processes that work in this device's store, connected or not, by the end of a program's path."""
        found = []
        for process in self.world.processes():
            with contextlib.suppress(OSError):
                inside = Path(f"/proc/{process}/cwd").readlink().is_relative_to(self.world.store)
                line = command_of(process)[:5] if program else ["/"]
                if (
                    inside
                    and self._mine(process)
                    and any(part.startswith("/") and part.endswith(program) for part in line)
                ):
                    found.append(process)
        return found

    def _mine(self, process: int) -> bool:
        """True for a process that sees this device's store as the store."""
        theirs, ours = Path(f"/proc/{process}/root/{self.world.store}").stat(), self.store.stat()
        return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def command_of(process: int) -> list[str]:
    """A process's program and arguments."""
    return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
