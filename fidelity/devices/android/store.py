"""Files on an Android device, kept by their content: what is there already is not pushed again.

    blobs/<sha256>          every file that a job ever needed: runner, libraries, models, inputs, job.json
    runtimes/<id>/          links to a runner and its libraries under their own names
    jobs/<random id>/       one running job: links under the names that job.json gives, and its results

A file is pushed beside its place, its sha256 computed there, and only then renamed: a cut transfer
or a flipped bit never gets a blob's name. A file with that name and the right size is trusted, since
hashing 187 MB again costs every job half a second on a phone; when a job fails, what it read is
hashed again, and what does not hold is removed. Blobs that no job used for 30 days are removed, and
so is all that a harness that died left behind a day ago.

The scripts are fixed texts; hashes and names reach them as arguments only. sh, timeout, stat, find
and sha256sum are what Android's toybox and coreutils have in common.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fidelity.devices.android.phone import CallFailed, Phone
from fidelity.errors import BadInput
from fidelity.files import file_sha256

FOLDER_VARIABLE = "FIDELITY_ANDROID_FOLDER"
_DEFAULT = "/data/local/tmp/fidelity"
_ARGUMENTS = 60_000  # bytes of arguments a call; one argument of sh may have 128 KiB in all
_SLOWEST_HASH = 50 << 20  # bytes a second

_OPEN = r"""
mkdir -p "$1/blobs" "$1/runtimes" "$1/jobs" && cd "$1" || exit 1
find jobs -mindepth 1 -maxdepth 1 -mtime +0 -exec rm -rf {} +
find blobs -name '*.part' -mtime +0 -exec rm -f {} +
find blobs -type f -mtime +29 -exec rm -f {} +
echo "machine $(uname -sm)"
echo "abi $(getprop ro.product.cpu.abi 2>/dev/null)"
echo "free $(stat -f -c '%a %S' .)"
cd blobs || exit 1
find . -type f -exec stat -c 'blob %s %n' {} +
echo fidelity-end
"""

_KEEP = r"""
cd "$1/blobs" || exit 1
job="$2"
shift 2
for name; do
  found=$(sha256sum < "$name.$job.part") || exit 1
  if [ "${found%% *}" = "$name" ]; then
    chmod 555 "$name.$job.part" && mv -f "$name.$job.part" "$name" || exit 1
  else
    rm -f "$name.$job.part"
    echo "$name ${found%% *}"
  fi
done
echo fidelity-end
"""

_LINK = r"""
cd "$1" || exit 1
root="$1" job="$2" runtime="$3" last=
shift 3
while [ $# -gt 1 ]; do
  folder="${2%/*}"
  [ "$folder" = "$last" ] || mkdir -p "./$folder" || exit 1
  last="$folder"
  [ -L "./$2" ] || ln -s "$root/blobs/$1" "./$2" || exit 1
  shift 2
done
find "$job" "$runtime" -type l -exec touch -c {} +
echo fidelity-end
"""

_RECHECK = r"""
cd "$1/blobs" || exit 1
shift
for name; do
  found=$(sha256sum < "$name") || found=missing
  if [ "${found%% *}" != "$name" ]; then
    rm -f "$name"
    echo "$name"
  fi
done
echo fidelity-end
"""

# A process is the job's when it works in the job's folder: a runner that lost its adbd lives on.
_CLEAR = r"""
job="$1/jobs/$2"
for process in /proc/[0-9]*; do
  [ "$process/cwd" -ef "$job" ] && kill -9 "${process#/proc/}"
done
rm -rf "$job"
rm -f "$1"/blobs/*."$2".part
echo fidelity-end
"""

_hashes: dict[tuple[int, int, int, int], str] = {}


@dataclass(frozen=True)
class Opened:
    """The store as it was found: the device's platform, its free bytes and the sizes of its blobs."""

    platform: str
    free: int | None
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Store:
    """The store of one device, as one job sees it. Every method raises DeviceLost and CallFailed."""

    phone: Phone
    root: str
    job: str = field(default_factory=lambda: secrets.token_hex(16))

    def open(self) -> Opened:
        """Make the folders, remove what is stale, and look what is there."""
        return _opened(self.phone.script(_OPEN, self.root, largest=16 << 20))

    def fill(self, files: Mapping[str, Path], opened: Opened) -> int:
        """Push the files (by their hashes) that are not there; how many were pushed."""
        missing = {key: path for key, path in files.items() if opened.sizes.get(key) != path.stat().st_size}
        size = sum(path.stat().st_size for path in missing.values())
        if opened.free is not None and size > opened.free:
            needed = f"{size / 2**20:.0f} MiB are needed and {opened.free / 2**20:.0f} MiB are free"
            raise CallFailed(f"{self.phone.serial}: {needed} at {self.root}")
        for digest, path in missing.items():
            self.phone.push(path, f"{self.root}/blobs/{digest}.{self.job}.part")
        for some in batches(missing):
            seconds = self.phone.limits.answer + size / _SLOWEST_HASH
            wrong = self.phone.script(_KEEP, self.root, self.job, *some, seconds=seconds)
            if wrong:
                digest, _, found = wrong.splitlines()[0].partition(" ")
                name = missing[digest].name if digest in missing else digest[:64]
                raise CallFailed(f"{self.phone.serial}: {name!r} arrived with another sha256, {found[:16]!r}...")
        return len(missing)

    def link(self, files: Mapping[str, str], runtime: Mapping[str, str]) -> str:
        """Links to the job's files and its runtime's, from their names to blobs by hash; the runtime's id."""
        name_of_runtime = runtime_id(runtime)
        job, libraries = f"jobs/{self.job}", f"runtimes/{name_of_runtime}"
        links = {f"{libraries}/{name}": digest for name, digest in runtime.items()}
        links |= {f"{job}/{name}": digest for name, digest in files.items()}
        for some in batches(links):
            pairs = [part for name in some for part in (links[name], name)]
            self.phone.script(_LINK, self.root, job, libraries, *pairs)
        return name_of_runtime

    def damaged(self, files: Mapping[str, int]) -> set[str]:
        """Which of these blobs (sizes by hash) do not hold what their names say; they are removed."""
        found: set[str] = set()
        for some in batches(files):
            seconds = self.phone.limits.answer + sum(files[digest] for digest in some) / _SLOWEST_HASH
            found |= set(self.phone.script(_RECHECK, self.root, *some, seconds=seconds).split())
        return found & set(files)

    def clear(self) -> None:
        """End whatever of this job still runs there, and remove its folder and unfinished pushes."""
        self.phone.script(_CLEAR, self.root, self.job)


def root() -> str:
    """The store's folder there, which the user may have set. Raises BadInput for one that is not absolute."""
    given = os.environ.get(FOLDER_VARIABLE) or _DEFAULT
    path = PurePosixPath(given)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise BadInput(f"{FOLDER_VARIABLE}={given!r}: expected an absolute folder of its own on the device")
    return str(path)


def digest_of(path: Path) -> str:
    """A local file's sha256; a file of the same identity, size and time is not read twice."""
    status = path.stat()
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = file_sha256(path)
    return _hashes[key]


def runtime_id(names: Mapping[str, str]) -> str:
    """The folder name of a runtime: a digest over the names and hashes of its files."""
    text = "".join(f"{digest} {name}\n" for name, digest in sorted(names.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _opened(text: str) -> Opened:
    def one(pattern: str) -> re.Match[str] | None:
        return re.search(pattern, text, flags=re.MULTILINE)

    machine = one(r"^machine (\w{1,20}) (\w{1,20})$")
    abi = one(r"^abi ([\w.-]{1,40})$")
    free = one(r"^free ([0-9]{1,18}) ([0-9]{1,9})$")
    platform = f"{machine[1].lower()}-{machine[2]}" if machine else "unknown"
    return Opened(
        platform=f"android-{abi[1]}" if abi else platform,
        free=int(free[1]) * int(free[2]) if free else None,
        sizes={
            match[2]: int(match[1])
            for match in re.finditer(r"^blob ([0-9]{1,18}) \./([0-9a-f]{64})$", text, flags=re.MULTILINE)
        },
    )


def batches(names: Iterable[str]) -> Iterable[list[str]]:
    """The names in lists that fit one call each, a hash beside every name counted in."""
    some: list[str] = []
    size = 0
    for name in names:
        size += 5 * len(name.encode()) + 70  # quoted, the worst name is five times as long
        if some and size > _ARGUMENTS:
            yield some
            some, size = [], 5 * len(name.encode()) + 70
        some.append(name)
    if some:
        yield some
