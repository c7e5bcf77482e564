"""The folder of one run under reports/: new for each run, `latest` only when whole."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fidelity.errors import BadInput, EnvironmentMissing

LATEST = "latest"


@contextmanager
def new_run(reports: Path, title: str) -> Iterator[Path]:
    """A new folder reports/.partial-<date>-<title>, renamed to reports/<date>-<title> at the end.

    Two runs of one second get different names.

    When the block raises, the partial folder stays for inspection and `latest` does not move.
    """
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", title)[:60].strip("-").lower()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for attempt in itertools.count():
        name = f"{stamp}-{slug}" + (f"-{attempt + 1}" if attempt else "")
        partial = reports / f".partial-{name}"
        if (reports / name).exists():
            continue
        try:
            partial.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise EnvironmentMissing(f"{reports}: cannot be written: {error.strerror}") from error
    yield partial
    whole = reports / name
    partial.rename(whole)
    point_latest(reports, whole)


def point_latest(reports: Path, whole: Path) -> None:
    """Make `reports/latest` a link to the run, in one step."""
    link = reports / f".latest-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(whole.name, target_is_directory=True)
    link.replace(reports / LATEST)


def stored_run(path: Path) -> Path:
    """The folder of a stored run. Raises BadInput when it is not one."""
    if not (path / "report.json").is_file():
        raise BadInput(f"{path}: not a stored run: it holds no report.json")
    return path.resolve()
