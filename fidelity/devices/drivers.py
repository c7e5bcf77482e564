"""The Vulkan drivers of this machine, each with its devices: the system's, and the per-user cache's.

A driver is a manifest (an ICD JSON file). Each is asked alone, so that one that crashes hides no
other, and so that `gpu:<adapter>` can be given to a worker by naming one manifest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from pydantic import TypeAdapter, ValidationError

from fidelity.record import Record

CACHE = Path(platformdirs.user_cache_dir("fidelity")) / "software-gpu"
_MANIFEST_FOLDERS = (
    Path("/usr/share/vulkan/icd.d"),
    Path("/usr/local/share/vulkan/icd.d"),
    Path("/etc/vulkan/icd.d"),
)
_SECONDS = 20


class VulkanDevice(Record):
    """One physical device as its driver describes it; `fp16` is arithmetic and 16-bit storage."""

    name: str
    type: str
    driver: str
    info: str
    fp16: bool

    @property
    def software(self) -> bool:
        """True for a device that computes on the CPU."""
        return self.type == "cpu"


@dataclass(frozen=True)
class Driver:
    """A driver manifest that offers at least one device."""

    manifest: Path
    devices: tuple[VulkanDevice, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that give a process this driver and no other."""
        return driver_environment(self.manifest)


def driver_environment(manifest: Path) -> dict[str, str]:
    """VK_DRIVER_FILES, an existing XDG_RUNTIME_DIR, and the cache's libraries for a cached driver."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or platformdirs.user_cache_dir("fidelity")) / "run"
    if "XDG_RUNTIME_DIR" in os.environ and Path(os.environ["XDG_RUNTIME_DIR"]).is_dir():
        runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    else:
        runtime.mkdir(parents=True, exist_ok=True, mode=0o700)
    variables = {"VK_DRIVER_FILES": str(manifest), "XDG_RUNTIME_DIR": str(runtime)}
    if manifest.is_relative_to(CACHE):
        folders = sorted({str(path.parent) for path in CACHE.rglob("*.so*")})
        given = os.environ.get("LD_LIBRARY_PATH")
        variables["LD_LIBRARY_PATH"] = os.pathsep.join([*folders, *([given] if given else [])])
    return variables


def drivers() -> tuple[Driver, ...]:
    """Every driver that offers a device; hardware before software, fp16 before none."""
    found = [driver for manifest in _manifests() if (driver := probe(manifest)).devices]
    return tuple(sorted(found, key=lambda d: (all(x.software for x in d.devices), not any(x.fp16 for x in d.devices))))


def probe(manifest: Path) -> Driver:
    """The devices of one driver, asked in a process of its own with a time limit."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fidelity.devices.vulkan"],
            env={**os.environ, **driver_environment(manifest)},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        devices = TypeAdapter(tuple[VulkanDevice, ...]).validate_json(done.stdout)
    except (subprocess.TimeoutExpired, ValidationError, OSError):
        devices = ()
    return Driver(manifest, devices)


def _manifests() -> list[Path]:
    given = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES")
    if given:
        return [Path(part) for part in given.split(os.pathsep) if part]
    found = [path for folder in (*_MANIFEST_FOLDERS, CACHE) for path in sorted(folder.rglob("*.json"))]
    return [path for path in found if _is_manifest(path)]


def _is_manifest(path: Path) -> bool:
    try:
        parsed = json.loads(path.read_text("utf-8"))
        return isinstance(parsed, dict) and "ICD" in parsed
    except (OSError, ValueError, RecursionError):
        return False
