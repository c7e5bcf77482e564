"""What has to be on a device before it can run a job: the runner and LiteRT's libraries, by platform."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

RUNNER = "fidelity-runner"
ANDROID = "android-arm64-v8a"


class NoRuntime(Exception):
    """There is no runner for this platform; str() says why, in one line."""


def runtime_files(platform: str) -> Mapping[str, Path]:
    """The runner and the libraries for `platform`, by the names that they must have there.

    A phone gets those for arm64. A Linux machine over adb, of the same kind as this one, gets what
    runs here: that is how all of this is tested without a phone. Raises NoRuntime for any other
    platform, EnvironmentMissing when what is needed was not built or downloaded yet.
    """
    if platform == ANDROID:
        from fidelity.devices.android.libraries import android_runtime  # noqa: PLC0415 - only for phones

        return android_runtime()
    if (why := why_not(platform)) is not None:
        raise NoRuntime(why)
    from fidelity.devices.runner_build import host_runner, runtime_folder  # noqa: PLC0415 - needs a C compiler

    libraries = sorted(Path(runtime_folder()).glob("libLiteRt*.so"))
    return {RUNNER: host_runner(), **{path.name: path for path in libraries}}


def why_not(platform: str) -> str | None:
    """Why no job can run on `platform`; None for one that has a runner."""
    machine = os.uname()
    here = f"{machine.sysname.lower()}-{machine.machine}"
    if platform in (ANDROID, here):
        return None
    return f"there is no runner for {platform}; there are for {ANDROID} and {here}"
