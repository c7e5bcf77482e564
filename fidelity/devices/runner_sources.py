"""The on-device runner's sources and how they are compiled: for setup.py, a device build and tests alike.

Standard library only: setup.py runs this file by its path, in a build environment that has nothing else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "runner"
NAME = "fidelity-runner"
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra")
LIBRARIES = ("dl",)


def sources(folder: Path = FOLDER) -> list[Path]:
    """The C files, in order."""
    return sorted(folder.glob("*.c"))


def version(folder: Path = FOLDER) -> str:
    """What `fidelity-runner --version` says: a hash of every source, so that a result tells what made it."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.c"), *folder.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"sources-{digest.hexdigest()[:16]}"


def definition(folder: Path = FOLDER) -> tuple[str, str]:
    """The macro that gives a build its version."""
    return "RUNNER_VERSION", f'"{version(folder)}"'
