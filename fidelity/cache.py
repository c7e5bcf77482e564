"""Results by content: what was computed once from the same inputs is not computed again.

An entry is a folder named by the hash of everything that its content depends on: inputs, options,
tool versions and the source code that made it. It is written beside and renamed when whole, so
that an interrupted run leaves no half entry, and two runs at once do no harm.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache as once
from pathlib import Path
from typing import Any

import platformdirs

from fidelity.errors import EnvironmentMissing
from fidelity.record import canonical_json

_TOOLS = ("ai-edge-litert", "ai-edge-quantizer", "litert-torch", "numpy", "timm", "torch")
_SOURCES = (".py", ".c", ".h")


class Cache:
    """Entries under `root`, by kind and key. The default root is the per-user cache folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(platformdirs.user_cache_dir("fidelity")) / "results"

    def entry(self, kind: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """The folder for this key; `make` fills it first if there is none.

        The key gets the tool versions and the hash of this package's source added, so that
        neither an upgrade nor an edit is answered with what an older one computed.
        """
        everything = {"key": dict(key), "tools": tool_versions(), "code": code_sha256()}
        digest = hashlib.sha256(canonical_json(everything)).hexdigest()
        folder = self.root / kind / digest[:32]
        if folder.is_dir():
            return folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
        except OSError as error:
            raise EnvironmentMissing(f"cache {self.root}: cannot be written: {error.strerror}") from error
        try:
            make(building)
            (building / "key.json").write_bytes(canonical_json(everything))
            building.chmod(0o755)
            _take_its_place(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return folder


def _take_its_place(building: Path, folder: Path) -> None:
    """Rename a whole entry to its name, unless another process was first: then its entry is as good."""
    try:
        building.rename(folder)
    except OSError:  # ENOTEMPTY or EEXIST, as POSIX leaves it to the system
        if not folder.is_dir():
            raise


@once
def tool_versions() -> dict[str, str]:
    """Installed versions of the tools that results depend on; "absent" for a missing extra."""
    versions = {}
    for tool in _TOOLS:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            versions[tool] = "absent"
    return versions


@once
def code_sha256() -> str:
    """One hash over every source file of this package, Python and C."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(each for each in root.rglob("*") if each.suffix in _SOURCES):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
