"""Large files: their hash, and a second name instead of a second copy where the file system can."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from fidelity.errors import EnvironmentMissing


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a large file, or a copy where the file system cannot link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise EnvironmentMissing(f"{target}: cannot be written: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """The hash of a file's content, in constant memory. Raises OSError when it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
