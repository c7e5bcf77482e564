"""The results of a job, from a device that may send anything: known names, known sizes, plain files.

First the names and sizes of what is there, then the bytes of all of it one after another. Only names
that a job writes are taken, links over there are not followed, and nothing is written here that was
not announced and is not within its limit. Whether it is true is for believing.py to say.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import IO

from fidelity.devices.android.adb import DeviceLost
from fidelity.devices.android.phone import END, CallFailed
from fidelity.devices.android.store import Store, batches
from fidelity.devices.believing import LOG, RESULT
from fidelity.errors import EnvironmentMissing

OUTPUTS = "outputs"
_LARGEST = 4 << 30
_LARGEST_LIST = 4 << 20
_LARGEST_LOG = 8 << 20  # what is read of a log at most
_SLOWEST = 1 << 20  # bytes a second
_NAME = rf"{OUTPUTS}/[A-Za-z0-9_-][A-Za-z0-9._-]{{0,199}}|{re.escape(RESULT)}|{re.escape(LOG)}"
_LISTED = re.compile(rf"(?P<size>[0-9]{{1,12}}) (?P<name>{_NAME})")

_LIST = r"""
cd "$1/jobs/$2" || exit 1
find result.json log.txt outputs -maxdepth 1 -type f -exec stat -c '%s %n' {} + 2>/dev/null
echo fidelity-end
"""

_SEND = r"""
cd "$1/jobs/$2" || exit 1
log="$3"
shift 3
[ $# -eq 0 ] || cat "$@" || exit 1
[ "$log" = 0 ] || head -c "$log" log.txt || exit 1
echo fidelity-end
"""


def pull(store: Store, folder: Path) -> None:
    """Bring result.json, log.txt and outputs/ of the store's job into `folder`, in place of what is there.

    Raises DeviceLost when they were cut, CallFailed for what no job leaves.
    """
    for name in (RESULT, LOG, OUTPUTS):
        remove(folder / name)
    sizes = _listed(store.phone.script(_LIST, store.root, store.job, largest=_LARGEST_LIST), store.phone.serial)
    log = min(sizes.pop(LOG, 0), _LARGEST_LOG)
    (folder / OUTPUTS).mkdir()
    *several, last = [*batches(sizes)] or [[]]
    for some in several:
        _receive(store, folder, ["0", *some], {name: sizes[name] for name in some})
    _receive(store, folder, [str(log), *last], {**{name: sizes[name] for name in last}, LOG: log})


def remove(path: Path) -> None:
    """Remove whatever is there under the name of a result."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _listed(text: str, serial: str) -> dict[str, int]:
    """Size by name. Raises CallFailed for a name that no job gives and for more than may be pulled."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        match = _LISTED.fullmatch(line)
        if match is None or match["name"] in sizes:
            raise CallFailed(f"{serial}: it lists a file that no job writes: {line[:80]!r}")
        sizes[match["name"]] = int(match["size"])
    if sum(size for name, size in sizes.items() if name != LOG) > _LARGEST:
        raise CallFailed(f"{serial}: the job's results are larger than {_LARGEST >> 30} GiB")
    return sizes


def _receive(store: Store, folder: Path, arguments: list[str], sizes: dict[str, int]) -> None:
    """One call for the bytes of some files, which are then told apart by their sizes."""
    whole = sum(sizes.values())
    end = f"{END}\n".encode()
    seconds = store.phone.limits.answer + whole / _SLOWEST
    pulled = folder / ".pulled"
    try:
        store.phone.script(
            _SEND, store.root, store.job, *arguments, seconds=seconds, into=pulled, largest=whole + len(end)
        )
        with pulled.open("rb") as stream:
            stream.seek(whole)
            if stream.read() != end:
                raise DeviceLost(f"{store.phone.serial}: the results were cut; the connection or its adbd was lost")
            stream.seek(0)
            for name, size in sizes.items():
                _copy(stream, folder / name, size)
    except OSError as error:
        raise EnvironmentMissing(f"{folder}: the results cannot be written: {error.strerror}") from error
    finally:
        pulled.unlink(missing_ok=True)


def _copy(stream: IO[bytes], target: Path, size: int) -> None:
    with target.open("xb") as file:
        while size > 0:
            chunk = stream.read(min(size, 1 << 20))
            file.write(chunk)
            size -= len(chunk)
