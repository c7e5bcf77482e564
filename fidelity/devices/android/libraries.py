"""LiteRT's own Android libraries, fetched once into the per-user cache, checked whenever they are used.

LiteRT publishes prebuilt libraries by version and platform, without checksums of their own. So a file
is compared with the checksum that fidelity ships (checksums.json) where there is one; else the
checksum of the first fetch is recorded, and every later use and fetch is held to it. Whatever does not
arrive whole, or is no arm64 library, never gets the name of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.metadata
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import platformdirs

from fidelity.devices.runner_build import android_runner
from fidelity.devices.runner_sources import NAME
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.files import file_sha256
from fidelity.record import Record

BASE = "https://storage.googleapis.com/litert/binaries"
"""Where LiteRT's documentation ("Use LiteRT in C++") points for prebuilt libraries: VERSION/PLATFORM/FILE below it."""

PLATFORM = "android_arm64"
LIBRARIES = ("libLiteRt.so", "libLiteRtClGlAccelerator.so")
OLDEST = (2, 1, 6)
"""The C runner's declarations hold from here on: an older runtime takes other arguments under the same names."""

SHIPPED = Path(__file__).with_name("checksums.json")
RECORDED, CHOSEN = "checksums.json", "chosen.json"
_CHUNK = 1 << 20
_LARGEST = 256 << 20
_SECONDS = 60
_ELF, _AARCH64 = b"\x7fELF\x02\x01", b"\xb7\x00"

Step = Callable[[str], None]


class Checksums(Record):
    """SHA-256 by file name, as the first fetch gave them, and where from."""

    version: str
    base: str
    sha256: dict[str, str]


class Chosen(Record):
    """The version that --version named: phones get it, not the one installed here."""

    version: str


class Library(Record):
    """One file in the cache. `trusted` says what its checksum was compared with."""

    name: str
    path: str
    bytes: int
    sha256: str
    trusted: Literal["shipped", "recorded earlier", "recorded now"]
    fetched: bool


class Libraries(Record):
    """The libraries of one version of LiteRT."""

    version: str
    base: str
    libraries: tuple[Library, ...]


def runtime_version() -> str:
    """The LiteRT in use here, whose Android libraries a phone should have."""
    try:
        return importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError as error:
        raise EnvironmentMissing("ai-edge-litert is not installed: pip install ai-edge-litert") from error


def cache_folder(version: str) -> Path:
    """Where the libraries of one version are kept."""
    return _root() / version


def phone_version() -> str:
    """The LiteRT that phones get: the last one that was set up by name, else the one in use here."""
    chosen = _root() / CHOSEN
    return Chosen.read(chosen).version if chosen.exists() else runtime_version()


def android_runtime() -> Mapping[str, Path]:
    """What an arm64 phone needs, by the names it must have there: the runner and the libraries.

    Raises EnvironmentMissing, with what to run, when the runner was not built or a library was not
    fetched or is no longer what was fetched.
    """
    version = phone_version()
    folder = cache_folder(version)
    recorded = _recorded(folder)
    for name in LIBRARIES:
        if not _holds(folder / name, _expected(version, name, recorded)):
            missing = f"LiteRT {version}'s {name} for Android is not here, or not what was fetched"
            raise EnvironmentMissing(f"{missing}; run: fidelity android setup")
    return {NAME: android_runner(), **{name: folder / name for name in LIBRARIES}}


def recorded_versions(name: str) -> dict[str, str]:
    """Versions by the hash of one of their libraries: those that this package or an earlier fetch recorded."""
    shipped: dict[str, dict[str, str]] = json.loads(SHIPPED.read_text("utf-8"))
    known = {files[name]: version for version, files in shipped.items() if name in files}
    for folder in sorted(_root().glob("*")):
        recorded = _recorded(folder)
        if recorded is not None and name in recorded.sha256:
            known[recorded.sha256[name]] = recorded.version
    return known


def set_up(base: str = BASE, version: str | None = None, step: Step = lambda _: None) -> Libraries:
    """Fetch what is missing from `base`, an address or a folder that has VERSION/android_arm64/FILE.

    A `version` given by name is what phones get from now on, until this is called without one.

    Raises EnvironmentMissing when a file cannot be had, BadInput when it is not what it should be.
    """
    named, version = version, version or runtime_version()
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)[\w.]*", version)
    if numbers is None:
        raise BadInput(f"--version {version}: a version as 2.3.0 expected")
    if tuple(int(part) for part in numbers.groups()) < OLDEST:
        raise BadInput(f"LiteRT {version}: the C runner needs {'.'.join(map(str, OLDEST))} or newer")
    folder = cache_folder(version)
    done = []
    for name in LIBRARIES:
        step(name)
        done.append(_ensure(base.rstrip("/"), version, name, folder))
    if named is None:
        (_root() / CHOSEN).unlink(missing_ok=True)
    else:
        Chosen(version=version).write(_root() / CHOSEN)
    return Libraries(version=version, base=base, libraries=tuple(done))


def _ensure(base: str, version: str, name: str, folder: Path) -> Library:
    recorded = _recorded(folder)
    expected = _expected(version, name, recorded)
    path = folder / name
    fetched = not _holds(path, expected)
    if fetched:
        digest = _fetch(f"{base}/{version}/{PLATFORM}/{name}", path, expected)
        if recorded is None or recorded.sha256.get(name) != digest:
            known = {} if recorded is None else recorded.sha256
            Checksums(version=version, base=base, sha256={**known, name: digest}).write(folder / RECORDED)
    shipped = name in _shipped(version)
    return Library(
        name=name,
        path=str(path),
        bytes=path.stat().st_size,
        sha256=expected or digest,
        trusted="shipped" if shipped else "recorded earlier" if expected else "recorded now",
        fetched=fetched,
    )


def _fetch(source: str, path: Path, expected: str | None) -> str:
    """Put `source` at `path`, whole and checked, or leave `path` as it was. Its checksum."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            target = part.open("wb")
        with target, _open(source) as (stream, size):
            digest = _copy(stream, target, source, size)
        if expected is not None and digest != expected:
            raise BadInput(
                f"{source}: its sha256 is {digest[:16]}..., {expected[:16]}... is expected: it was altered; "
                f"if you know why, remove {path.parent} and run again"
            )
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentMissing(f"{source}: cannot be fetched: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return digest


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A disk that is full or kept from us is told apart from a base that gives nothing."""
    try:
        yield
    except OSError as error:
        raise EnvironmentMissing(f"cache {folder}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _open(source: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The content of an address or a file, and how many bytes it says it has."""
    if "://" not in source:
        with Path(source).open("rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size
        return
    if not source.startswith(("https://", "http://")):
        raise BadInput(f"{source}: an https address or a folder expected")
    with urllib.request.urlopen(source, timeout=_SECONDS) as answer:  # noqa: S310 - the scheme was looked at
        length = answer.headers.get("Content-Length", "")
        yield answer, int(length) if length.isdecimal() else None


def _copy(stream: BinaryIO, target: BinaryIO, source: str, size: int | None) -> str:
    digest, copied = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        if copied == 0 and (chunk[:6] != _ELF or chunk[18:20] != _AARCH64):
            raise BadInput(f"{source}: not a library for arm64; is this the right --base?")
        digest.update(chunk)
        with _writing(Path(target.name).parent):
            target.write(chunk)
        copied += len(chunk)
        if copied > _LARGEST:
            raise BadInput(f"{source}: larger than {_LARGEST >> 20} MiB")
    if copied == 0 or (size is not None and copied != size):
        raise EnvironmentMissing(f"{source}: {copied} of {size or 'no'} bytes came; run it again")
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        hint = "; is there such a version? see --version and --base" if error.code == http.HTTPStatus.NOT_FOUND else ""
        return f"HTTP {error.code} {error.reason}{hint}"
    if isinstance(error, FileNotFoundError):
        return "no such file; a base has VERSION/android_arm64/FILE"
    return " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__


def _root() -> Path:
    return Path(platformdirs.user_cache_dir("fidelity")) / "android" / "libraries"


def _shipped(version: str) -> Mapping[str, str]:
    known: dict[str, dict[str, str]] = json.loads(SHIPPED.read_text("utf-8"))
    return known.get(version, {})


def _recorded(folder: Path) -> Checksums | None:
    path = folder / RECORDED
    return Checksums.read(path) if path.exists() else None


def _expected(version: str, name: str, recorded: Checksums | None) -> str | None:
    """The checksum that the file must have; None when nobody has seen it yet."""
    return _shipped(version).get(name) or (None if recorded is None else recorded.sha256.get(name))


def _holds(path: Path, expected: str | None) -> bool:
    return expected is not None and path.is_file() and file_sha256(path) == expected
