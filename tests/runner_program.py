"""The C runner as tests use it: as built with the package, and compiled anew under sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from fidelity.devices.believing import read_result
from fidelity.devices.job import Job, JobResult
from fidelity.devices.runner_build import host_runner, runtime_folder
from fidelity.devices.runner_sources import FLAGS, LIBRARIES, definition, sources
from fidelity.errors import EnvironmentMissing

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")
CODES = {0, 2, 3, 4, 5, 6, 7, 8}
"""Every exit code that --help documents."""


@dataclass(frozen=True)
class Ended:
    """How the runner ended: exit code (negative: a signal), and what it said on the stderr it was given."""

    code: int
    said: str


def built() -> Path:
    """The runner of this machine; skips where it was not built."""
    try:
        return host_runner()
    except EnvironmentMissing as error:
        pytest.skip(str(error))


@cache
def compiler() -> str:
    """A C compiler; skips where there is none."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("no C compiler here")
    return found


def compiled(target: Path, *flags: str, by: str | None = None) -> Path:
    """The runner compiled to `target` with further flags; a warning is an error."""
    name, value = definition()
    command = [by or compiler(), *FLAGS, "-Werror", *flags, f"-D{name}={value}", *map(str, sources())]
    done = subprocess.run(
        [*command, *(f"-l{library}" for library in LIBRARIES), "-o", str(target)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "cannot find" in done.stderr and "san" in done.stderr:
        pytest.skip("the compiler has no sanitizers here")
    assert done.returncode == 0, done.stderr
    return target


def run(
    program: Path,
    folder: Path,
    *more: str,
    runtime: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 60,
) -> Ended:
    """The runner on a job folder, with the wheel's libraries unless `runtime` names others."""
    done = subprocess.run(
        [str(program), str(folder), "--runtime", str(runtime or runtime_folder()), *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
        timeout=seconds,
        check=False,
    )
    assert done.stdout == "", "everything is for log.txt"
    return Ended(done.returncode, done.stderr)


def result_of(program: Path, folder: Path, *more: str, environment: Mapping[str, str] | None = None) -> JobResult:
    """The result of a job as the harness reads it: checked against the job, its outputs and its log."""
    ended = run(program, folder, *more, environment=environment)
    return read_result(Job.read(folder / "job.json"), folder, f"ended with code {ended.code}: {ended.said}")


def edit(folder: Path, **changes: object) -> None:
    """Change fields of a job, without a check that they fit."""
    job = Job.read(folder / "job.json")
    (folder / "job.json").write_text(job.model_copy(update=changes).to_json(), "utf-8")
