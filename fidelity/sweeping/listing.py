"""Every image of a folder or of tar shards, in one fixed order, without holding more than a folder's names.

The order is that of names, folder by folder, and inside a tar that of its members: it does not depend on the
file system, so numbers, chunks and results are the same on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fidelity.errors import BadInput
from fidelity.models.inputs import IMAGE_SUFFIXES
from fidelity.report.printable import printable
from fidelity.sweeping.items import LARGEST_IMAGE, Item, Stamp, stamp_of
from fidelity.sweeping.tar_members import tar_members

SHARD = ".tar"
_PACKED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_NAME = 300


def root_of(data: Path) -> Path:
    """The folder that items' files are relative to: the data itself, or the folder of a single tar."""
    return data.resolve() if data.is_dir() else data.resolve().parent


def list_items(data: Path) -> Iterator[Item]:
    """Every image under `data`, numbered from 0. Names that begin with a dot are not looked at.

    Raises BadInput for a path that is neither a folder nor a .tar, for a damaged or packed shard, and for a link
    to a folder.
    """
    root = root_of(data)
    files = _walk(root) if data.is_dir() else iter([_single(data)])
    number = 0
    for path in files:
        for item in _of_file(root, path, number):
            yield item
            number += 1


def _single(data: Path) -> Path:
    if not data.is_file():
        raise BadInput(f"data {data}: no such folder or file; expected a folder of images or of .tar shards, or a .tar")
    if data.suffix != SHARD:
        raise BadInput(f"data {data}: a file that is no .tar; expected a folder of images or of .tar shards, or a .tar")
    return data.resolve()


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as found:
        entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if not entry.is_dir():
            yield Path(entry.path)
        elif entry.is_symlink():
            raise BadInput(f"{printable(entry.path)}: a link to a folder is not followed; give that folder itself")
        else:
            yield from _walk(Path(entry.path))


def _of_file(root: Path, path: Path, number: int) -> Iterator[Item]:
    lower = path.name.lower()
    if lower.endswith(_PACKED):
        raise BadInput(f"{printable(str(path))}: a packed shard cannot be read from the middle; unpack it to a .tar")
    if lower.endswith(SHARD):
        yield from _of_shard(root, path, number)
    elif lower.endswith(IMAGE_SUFFIXES):
        yield _of_image(root, path, number)


def _of_image(root: Path, path: Path, number: int) -> Item:
    relative = path.relative_to(root).as_posix()
    label = printable(relative, _NAME)
    refused = None
    stamp = Stamp(size=0, mtime_ns=0)
    if not path.resolve().is_relative_to(root):
        refused = "a link that leads out of the folder"
    elif not path.is_file():
        refused = "not a regular file"
    elif not _is_text(relative):
        refused = "its name is not UTF-8"
    else:
        stamp = stamp_of(path)
        refused = _size_refused(stamp.size)
    file = relative if _is_text(relative) else ""
    return Item(number=number, name=label, file=file, offset=0, size=stamp.size, stamp=stamp, refused=refused)


def _of_shard(root: Path, path: Path, number: int) -> Iterator[Item]:
    relative = path.relative_to(root).as_posix()
    if not _is_text(relative) or not path.resolve().is_relative_to(root):
        raise BadInput(f"{printable(str(path))}: a shard whose name is not UTF-8, or a link out of the folder")
    stamp = stamp_of(path)
    images = (m for m in tar_members(path) if m.name.lower().endswith(IMAGE_SUFFIXES))
    for count, member in enumerate(images):
        yield Item(
            number=number + count,
            name=f"{relative}/{printable(member.name, _NAME)}",
            file=relative,
            offset=member.offset,
            size=member.size,
            stamp=stamp,
            refused=_size_refused(member.size) if member.regular else "a link, a device or a file with holes",
        )


def _size_refused(size: int) -> str | None:
    if size == 0:
        return "empty"
    return f"larger than {LARGEST_IMAGE >> 20} MiB" if size > LARGEST_IMAGE else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
