"""Large files: a second name instead of a second copy, where the file system can."""

from __future__ import annotations

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
