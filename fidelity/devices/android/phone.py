"""One device by its serial: scripts, pushes and reconnection, each ending in an answer or a named loss.

Arguments reach the far shell as one quoted string, since adb joins them as they are. A script ends
by printing a line of its own, and an answer without that line is a lost device, whatever its code.
Every call has a limit here and, by `timeout`, over there, where a process outlives its connection.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from fidelity.devices.android.adb import LIMITS, Answer, DeviceLost, Limits, call, listed, reason
from fidelity.errors import BadInput

END = "fidelity-end"
_SERIAL = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:%\[\]-]{0,127}")
_NETWORK = re.compile(r"[A-Za-z0-9._%\[\]:-]+:[0-9]{1,5}")


class CallFailed(Exception):
    """The device answered, and what was asked of it failed; str() is its own reason, in one line."""


def check_serial(serial: str) -> str:
    """The serial, if it is one. Raises BadInput: nothing else becomes an argument of adb."""
    if _SERIAL.fullmatch(serial) is None:
        raise BadInput(f"android:{serial[:80]!r}: not a device's serial; `adb devices` lists them")
    return serial


def is_network(serial: str) -> bool:
    """True for host:port, which is gone after the server or daemon restarted, until connected again."""
    return _NETWORK.fullmatch(serial) is not None


@dataclass(frozen=True)
class Phone:
    """One device by its serial. Nothing is shared between two of them: a thread each is safe."""

    serial: str
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        check_serial(self.serial)

    def script(
        self, text: str, *arguments: str, seconds: float | None = None, into: Path | None = None, largest: int = 1 << 20
    ) -> str:
        """What a fixed shell script prints there; values reach it as $1, $2 ..., never as its text.

        It must end by printing END on a line of its own. Raises DeviceLost when it does not get that
        far, CallFailed when it ends with another code than 0. With `into`, the output is in that
        file instead, END included.
        """
        limit = seconds or self.limits.answer
        far = ["timeout", "-s", "KILL", f"{limit:.3f}", "sh", "-c", text, "fidelity", *arguments]
        answer = self.shell(far, limit + self.limits.grace, into=into, largest=largest)
        if answer.code is None and not answer.cut:
            raise DeviceLost(f"{self.serial}: {reason(answer, limit + self.limits.grace)}")
        if answer.code != 0:
            kind = CallFailed if answer.cut or self.answers() else DeviceLost
            raise kind(f"{self.serial}: {reason(answer, limit)}")
        if into is not None:
            return ""
        said, end, _ = answer.out.decode("utf-8", errors="replace").rpartition(f"{END}\n")
        if not end:
            raise DeviceLost(f"{self.serial}: the answer was cut; the connection or the device's adbd was lost")
        return said

    def shell(self, far: list[str], seconds: float, *, into: Path | None = None, largest: int = 1 << 20) -> Answer:
        """Run one command there, its arguments quoted for the far shell, which adb does not do."""
        return call(["-s", self.serial, "shell", "-T", "-n", shlex.join(far)], seconds, into=into, largest=largest)

    def push(self, source: Path, target: str) -> None:
        """Copy a file there. Raises CallFailed or DeviceLost; what arrived is not checked here."""
        seconds = self.limits.answer + source.stat().st_size / self.limits.slowest
        answer = call(["-s", self.serial, "push", "-Z", "--", str(source.resolve()), target], seconds)
        if answer.code != 0:
            kind = CallFailed if answer.code is not None and self.answers() else DeviceLost
            raise kind(f"{self.serial}: {reason(answer, seconds)}")

    def answers(self) -> bool:
        """True when a command can be run there now; what `adb get-state` says tells nothing."""
        answer = self.shell(["echo", END], self.limits.answer)
        return answer.code == 0 and answer.out.decode("utf-8", errors="replace").strip() == END

    def state(self) -> str:
        """adb's word for it, or `absent`. Raises BadInput when two devices have this serial."""
        states = [device.state for device in listed(self.limits) if device.serial == self.serial]
        if len(states) > 1:
            raise BadInput(f"android:{self.serial}: {len(states)} devices have this serial; unplug all but one")
        return states[0] if states else "absent"

    def reconnect(self) -> bool:
        """Try once to have it back; True when it answers. A serial of host:port has to be asked for again."""
        deadline = time.monotonic() + self.limits.connect
        while True:
            if is_network(self.serial):  # a connection that died unnoticed is "already connected"
                call(["disconnect", self.serial], self.limits.answer)
                call(["connect", self.serial], max(deadline - time.monotonic(), 0.1))  # 0 when it failed, too
            with contextlib.suppress(DeviceLost):
                if self.state() == "device" and self.answers():
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
