"""Raw tensors in a job folder: written with their hash, read back as untrusted."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.devices.job import TensorFile
from fidelity.errors import BadInput


def array_sha256(array: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes in C order: what a tensor file of it has."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def write_tensor(folder: Path, file: str, array: NDArray[Any]) -> TensorFile:
    """Write a little-endian C-order tensor to `folder`/`file`, and describe it."""
    content = np.ascontiguousarray(array).tobytes()
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return TensorFile(file=file, dtype=str(array.dtype), shape=array.shape, sha256=digest)


def read_tensor(folder: Path, stored: TensorFile) -> NDArray[Any]:
    """The tensor that `stored` describes. Raises BadInput when path, size, dtype or hash do not fit."""
    path = inside(folder, stored.file)
    what = f"{stored.file}: {stored.dtype} {stored.shape}"
    try:
        dtype = np.dtype(stored.dtype)
        expected = dtype.itemsize
        for size in stored.shape:
            expected *= size
        if dtype.kind not in "biuf" or dtype.str.startswith(">") or any(size < 0 for size in stored.shape):
            raise BadInput(f"{what} expected: not a little-endian array of numbers")
        if path.stat().st_size != expected:
            raise BadInput(f"{what} expected, the file is of another size or type")
        content = path.read_bytes()
    except (OSError, TypeError, ValueError) as error:
        raise BadInput(f"{what}: cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != stored.sha256:
        raise BadInput(f"{what}: its sha256 is not the one recorded")
    return np.frombuffer(content, dtype=dtype).reshape(stored.shape)


def inside(folder: Path, name: str) -> Path:
    """A path that stays in the job folder. Raises BadInput for one that leaves it."""
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError) as error:
        raise BadInput(f"{name!r}: not a path: {error}") from error
    if not path.is_relative_to(folder.resolve()):
        raise BadInput(f"{name!r}: outside the job folder")
    return path


def safe_name(name: str) -> str:
    """A file name for an untrusted name: plain characters kept, anything else told apart by a hash."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in name)[:80]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
