"""Goldens: small committed references in float64, and the check that they are still what they were.

A golden is a folder of .npy files with a manifest of hashes, versions and seeds. It is recorded
from the unrewritten model. Verifying it reads the bytes (altered?), builds the model and inputs
again from their seeds (stale?) and computes the values again (another function?).
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fidelity.cache import tool_versions
from fidelity.errors import BadInput
from fidelity.models.subject import Subject, SubjectRecord, build_subject, truth
from fidelity.npy import npy_bytes
from fidelity.record import Figure, Record

MANIFEST = "manifest.json"
AGREEMENT = 1e-12
"""Relative L2 between two float64 runs of one model: rounding.py gives 2.6e-13 for B/16 whole
(6 u sqrt(3072) kappa with kappa 7 measured); another BLAS may sum in another order."""
_NAME = re.compile(r"^[a-z0-9][a-z0-9-]*$")
_LARGEST_FILE = 64 << 20


class GoldenArray(Record):
    """One .npy file of the golden: `name` is "embedding/INPUT" or "MODULE PATH/INPUT"."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


class GoldenManifest(Record):
    """What the golden was recorded from, with what, and the hash of every array."""

    name: str
    subject: SubjectRecord
    traced: bool  # the outputs of every block are recorded too
    versions: dict[str, str]
    arrays: tuple[GoldenArray, ...]


class GoldenCheck(Record):
    """The result of `golden verify`: the worst relative L2 difference of any recorded array."""

    name: str
    arrays: int
    worst: Figure
    allowed: Figure
    where: str


class GoldenChecks(Record):
    """What `golden verify` found, golden by golden."""

    checks: tuple[GoldenCheck, ...]


def record_golden(root: Path, name: str, subject: Subject, *, traced: bool) -> GoldenManifest:
    """Compute and store a golden under `root`/`name`, replacing one of that name when whole."""
    if not _NAME.match(name):
        raise BadInput(f"golden name {name!r}: use small letters, digits and hyphens")
    root.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=root, prefix=".recording-"))
    try:
        arrays = tuple(_store(building, key, array) for key, array in _values(subject, traced=traced).items())
        manifest = GoldenManifest(
            name=name, subject=subject.record, traced=traced, versions=dict(tool_versions()), arrays=arrays
        )
        manifest.write(building / MANIFEST)
        building.chmod(0o755)
        shutil.rmtree(root / name, ignore_errors=True)
        building.rename(root / name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def read_golden(root: Path, name: str) -> tuple[GoldenManifest, dict[str, NDArray[np.float64]]]:
    """The manifest and arrays of a golden, every byte checked against its hash.

    Raises BadInput for an unknown golden and for an altered, missing or unlisted file, naming it
    and both hashes.
    """
    folder = root / name
    if not _NAME.match(name) or not (folder / MANIFEST).is_file():
        known = sorted(p.parent.name for p in root.glob(f"*/{MANIFEST}"))
        raise BadInput(f"golden {name!r}: none of that name under {root} (there are: {', '.join(known) or 'none'})")
    manifest = GoldenManifest.read(folder / MANIFEST)
    listed = {array.file for array in manifest.arrays} | {MANIFEST}
    unlisted = sorted(p.name for p in folder.iterdir() if p.name not in listed)
    if unlisted:
        raise BadInput(f"golden {name}: {unlisted[0]} is not in the manifest")
    return manifest, {array.name: _load(folder, name, array) for array in manifest.arrays}


def embeddings(arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """The embeddings of a golden by input name."""
    prefix = "embedding/"
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def verify_golden(root: Path, name: str, images: Path) -> GoldenCheck:
    """Rebuild what the golden was recorded from, and compare hashes and values.

    Raises BadInput when a stored file is altered, when the model's or an input's hash is another
    one now (stale), or when a value differs by more than float64 rounding explains.
    """
    manifest, stored = read_golden(root, name)
    then = manifest.subject
    now = build_subject(then.source, then.weights, then.seed, images, tuple(i.name for i in then.inputs))
    _same_subject(name, then, now.record)
    again = _values(now, traced=manifest.traced)
    missing = sorted(set(stored) ^ set(again))
    if missing:
        raise BadInput(f"golden {name}: stale: {missing[0]} is in only one of the golden and the model")
    worst, where = 0.0, next(iter(stored))
    for key, array in stored.items():
        gap = float(np.linalg.norm(again[key] - array) / np.linalg.norm(array))
        if not gap <= worst:
            worst, where = gap, key
    if not worst <= AGREEMENT:
        raise BadInput(
            f"golden {name}: {where} differs by {worst:.3g} relative L2 (allowed {AGREEMENT:g}): "
            "the same weights and input give another value, so the model's code has changed"
        )
    return GoldenCheck(name=name, arrays=len(stored), worst=worst, allowed=AGREEMENT, where=where)


def _same_subject(name: str, then: SubjectRecord, now: SubjectRecord) -> None:
    if then.weights_sha256 != now.weights_sha256:
        raise BadInput(
            f"golden {name}: stale: weights_sha256 is {now.weights_sha256[:16]}... now, "
            f"{then.weights_sha256[:16]}... when recorded; record it again if that was meant"
        )
    hashes = {i.name: i.sha256 for i in now.inputs}
    for image in then.inputs:
        if hashes[image.name] != image.sha256:
            raise BadInput(
                f"golden {name}: stale: sha256 of input {image.name} is {hashes[image.name][:16]}... now, "
                f"{image.sha256[:16]}... when recorded"
            )


def _values(subject: Subject, *, traced: bool) -> dict[str, NDArray[np.float64]]:
    values = {f"embedding/{name}": array for name, array in truth(subject).items()}
    if traced:
        from fidelity.models.trace import block_outputs  # noqa: PLC0415 - needs torch

        values.update(block_outputs(subject.model, subject.inputs))
    return values


def _store(folder: Path, name: str, array: NDArray[np.float64]) -> GoldenArray:
    content = npy_bytes(array)
    file = re.sub(r"[^A-Za-z0-9.-]+", "_", name) + ".npy"
    (folder / file).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return GoldenArray(name=name, file=file, dtype=str(array.dtype), shape=array.shape, sha256=digest)


def _load(folder: Path, golden: str, array: GoldenArray) -> NDArray[np.float64]:
    path = folder / Path(array.file).name
    if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
        raise BadInput(f"golden {golden}: {array.file} is missing or larger than {_LARGEST_FILE >> 20} MiB")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != array.sha256:
        raise BadInput(
            f"golden {golden}: altered: sha256 of {array.file} is {digest[:16]}..., "
            f"the manifest says {array.sha256[:16]}..."
        )
    loaded = np.load(io.BytesIO(content), allow_pickle=False)
    if loaded.dtype != np.float64 or loaded.shape != array.shape:
        raise BadInput(f"golden {golden}: {array.file} is {loaded.dtype} {loaded.shape}, not float64 {array.shape}")
    return np.asarray(loaded, dtype=np.float64)
