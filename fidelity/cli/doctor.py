"""`fidelity doctor`: what is here, which devices there are, what to do about what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fidelity.cli import options as o
from fidelity.errors import EXIT_ENVIRONMENT, EXIT_PASS

if TYPE_CHECKING:
    from fidelity.devices.discovery import DeviceInfo
    from fidelity.doctor import Check


def doctor(output: o.Output = None, json: o.Json = False, verbose: o.Verbose = False) -> int:
    """What is installed, which devices there are, and what to do about what is missing."""
    from fidelity.doctor import diagnose  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    found = diagnose()
    lines = [*map(check_line, found.checks), *map(device_line, found.devices)]
    session.show(found, [line for each in lines for line in each])
    return EXIT_PASS if found.healthy else EXIT_ENVIRONMENT


def check_line(check: Check) -> list[str]:
    """One line, and a second with the mend where there is one."""
    mark = {"ok": "ok", "note": "note", "fail": "FAIL"}[check.state]
    return [f"{mark:4} {check.what:14} {check.found}", *([f"     mend: {check.mend}"] if check.mend else [])]


def device_line(device: DeviceInfo) -> list[str]:
    """How the command line names it, what it is, what runs on it stand for; or why it cannot be used."""
    if device.unusable:
        reason, _, mend = device.unusable.partition("; ")
        return [f"FAIL {device.spec}: {device.name}: {reason}", *([f"     mend: {mend}"] if mend else [])]
    fp16 = "" if device.fp16 is None else f", fp16 {'yes' if device.fp16 else 'no'}"
    driver = f"; {device.driver}" if device.driver else ""
    details = "".join(f"\n     {fact}" for fact in device.facts)
    return [f"ok   {device.spec}: {device.name}{fp16}{driver}{details}", f"     a run on it proves {device.stands_for}"]
