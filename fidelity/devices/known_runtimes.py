"""Which LiteRT a library is, known by its hash: the library itself carries no version.

The C runner tells the hash of the libLiteRt.so that it ran. It is the one of the installed wheel, one
that `fidelity android setup` fetched, or unknown.
"""

from __future__ import annotations

from functools import cache

from fidelity.devices.android.libraries import recorded_versions, runtime_version
from fidelity.devices.runner_build import runtime_folder
from fidelity.errors import EnvironmentMissing
from fidelity.files import file_sha256

LIBRARY = "libLiteRt.so"
PACKAGE = "ai-edge-litert"


def with_version(runtime: dict[str, str]) -> dict[str, str]:
    """What an executor tells of its runtime, with the version of the library whose hash it tells."""
    digest = runtime.get(LIBRARY)
    version = None if digest is None or PACKAGE in runtime else version_of(digest)
    return runtime if version is None else {PACKAGE: version, **runtime}


def version_of(sha256: str) -> str | None:
    """The version of the libLiteRt.so of this hash; None when no known one has it."""
    installed = _installed()
    if installed is not None and installed[0] == sha256:
        return installed[1]
    return recorded_versions(LIBRARY).get(sha256)


@cache
def _installed() -> tuple[str, str] | None:
    """Hash and version of the installed wheel's library."""
    try:
        return file_sha256(runtime_folder() / LIBRARY), runtime_version()
    except (OSError, EnvironmentMissing):
        return None
