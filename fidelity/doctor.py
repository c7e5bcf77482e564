"""What is installed, which devices there are, and what to do about what is missing.

Every check has a state. `ok`; `note`, something that only some uses need; `fail`, something without
which this machine cannot do what it is for; each of the last two with what mends it.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import platformdirs
import psutil
from packaging.requirements import InvalidRequirement, Requirement

from fidelity.devices.discovery import DeviceInfo, discover
from fidelity.errors import EnvironmentMissing
from fidelity.record import Record

MEASURED_RUNTIME = "2.3.0"
"""The ai-edge-litert whose delegate the shipped profile and the C runner's declarations were measured with."""

OF_CONVERSION = ("torch", "torchvision", "timm", "litert-torch", "ai-edge-quantizer", "safetensors")
_GIB = 1 << 30
_DISK, _MEMORY = 3 * _GIB, 6 * _GIB  # a gate of B/16: artefacts, jobs and cache 2.2 GiB; 5.05 GiB resident

State = Literal["ok", "note", "fail"]


class Check(Record):
    """One thing looked at: what it is, what was found, and what mends it where that is not `ok`."""

    what: str
    state: State
    found: str
    mend: str | None = None


class Diagnosis(Record):
    """Everything that was looked at, and every device."""

    checks: tuple[Check, ...]
    devices: tuple[DeviceInfo, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing fails and every device that is attached can be used."""
        return all(c.state != "fail" for c in self.checks) and all(d.unusable is None for d in self.devices)


def diagnose() -> Diagnosis:
    """Look at everything. Never raises for what is missing: that is what it tells."""
    checks = [
        *package_checks(),
        runtime_check(),
        runner_check(),
        adb_check(),
        disk_check(Path(platformdirs.user_cache_dir("fidelity")), "cache"),
        disk_check(Path.cwd(), "working folder"),
        memory_check(),
    ]
    return Diagnosis(checks=tuple(checks), devices=discover())


def package_checks() -> Iterator[Check]:
    """Versions, and whether each package's own demands on the others are met by what is installed."""
    installed = _version("fidelity")
    yield Check(what="fidelity", state="ok", found=installed or "from source")
    missing = [name for name in OF_CONVERSION if _version(name) is None]
    if missing:
        found = f"not installed: {', '.join(missing)}: no prove, convert or gate here; run, compare and bench work"
        yield Check(what="conversion", state="note", found=found, mend="pip install 'fidelity[convert]'")
    else:
        yield Check(what="conversion", state="ok", found=", ".join(f"{n} {_version(n)}" for n in OF_CONVERSION))
    conflicts = [line for name in ("fidelity", *OF_CONVERSION) for line in conflicts_of(name)]
    state: State = "fail" if conflicts else "ok"
    mend = "pip install -c constraints.txt -e '.[convert]'" if conflicts else None
    yield Check(what="versions", state=state, found="; ".join(conflicts) or "they fit each other", mend=mend)


def conflicts_of(name: str, version_of: Callable[[str], str | None] | None = None) -> list[str]:
    """Demands of one installed package that another installed one does not meet, one line each."""
    look = version_of or _version
    try:
        demands = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for text in demands:
        try:
            demand = Requirement(text)
        except InvalidRequirement:
            continue
        if demand.marker is not None and not demand.marker.evaluate({"extra": ""}):
            continue
        had = look(demand.name)
        if had is not None and not demand.specifier.contains(had, prereleases=True):
            found.append(f"{name} {look(name)} wants {demand.name} {demand.specifier}, {had} is installed")
    return found


def runtime_check() -> Check:
    """LiteRT, its accelerators, and whether it is the one that things were measured with."""
    version = _version("ai-edge-litert")
    if version is None:
        mend = f"pip install ai-edge-litert=={MEASURED_RUNTIME}"
        return Check(what="LiteRT", state="fail", found="ai-edge-litert is not installed", mend=mend)
    from fidelity.devices.litert import runtime_versions  # noqa: PLC0415 - needs the runtime

    found = f"ai-edge-litert {version}, accelerators: {runtime_versions()['accelerator']}"
    if version == MEASURED_RUNTIME:
        return Check(what="LiteRT", state="ok", found=found)
    mend = f"pip install ai-edge-litert=={MEASURED_RUNTIME}, or measure this one: fidelity reveal --device gpu -o FILE"
    return Check(what="LiteRT", state="note", found=f"{found}; not {MEASURED_RUNTIME}, which was measured", mend=mend)


def runner_check() -> Check:
    """The C runner of this machine, without which some precisions and devices over adb are out of reach."""
    from fidelity.devices.runner_build import host_runner  # noqa: PLC0415 - only looked for here

    try:
        return Check(what="C runner", state="ok", found=f"built: {host_runner().name}")
    except EnvironmentMissing as error:
        return Check(
            what="C runner",
            state="note",
            found=str(error),
            mend="install a C compiler, then: pip install --force-reinstall --no-deps -e .",
        )


def adb_check() -> Check:
    """The adb client, which only phones need; what phones there are is told with the devices."""
    from fidelity.devices.android.adb import client  # noqa: PLC0415 - only phones need it

    try:
        found = client()
    except EnvironmentMissing as error:
        what, _, mend = str(error).partition("; ")
        return Check(what="adb", state="note", found=f"{what}: no phones here", mend=mend)
    return Check(what="adb", state="ok", found=found)


def disk_check(folder: Path, name: str) -> Check:
    """Free space where `folder` is, or would be."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return Check(
            what=name, state="fail", found=f"{there} cannot be written", mend="make it writable, or work elsewhere"
        )
    if free >= _DISK:
        return Check(what=name, state="ok", found=f"{free / _GIB:.1f} GiB free")
    found = f"{free / _GIB:.1f} GiB free; a gate of PE-Core B/16 takes {_DISK / _GIB:.0f}"
    return Check(what=name, state="fail", found=found, mend=f"make room at {there}")


def memory_check() -> Check:
    """Memory that a conversion of PE-Core B/16 needs."""
    free = psutil.virtual_memory().available
    if free >= _MEMORY:
        return Check(what="memory", state="ok", found=f"{free / _GIB:.1f} GiB available")
    found = f"{free / _GIB:.1f} GiB available; a gate of PE-Core B/16 takes {_MEMORY / _GIB:.0f}"
    return Check(what="memory", state="note", found=found, mend="end what else runs, or convert on another machine")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
