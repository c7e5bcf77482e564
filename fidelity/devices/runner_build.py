"""Finding the on-device runner that was built with the package, and building it for a device.

The runner for this machine is made when the package is installed (setup.py), beside its sources. The
one for a phone is made by `fidelity android build`, with an Android NDK or any clang that has a sysroot
for the device; it is kept in the per-user cache, where the jobs for a phone find it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from fidelity.devices.runner_sources import FLAGS, FOLDER, LIBRARIES, NAME, definition, sources, version
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.record import Record

ANDROID_TARGET = "aarch64-linux-android26"
"""Android 8 and later: the oldest that LiteRT's GPU accelerator is made for."""

_ANDROID_FLAGS = ("-fPIE", "-pie", "-Wl,-z,max-page-size=16384")  # phones with 16 KiB pages refuse less
_NDK_VARIABLES = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")
_SECONDS = 120
_MEND = "install a C compiler (gcc or clang), then: pip install --force-reinstall --no-deps -e . (or make install)"


class Built(Record):
    """A runner that was compiled for a device."""

    file: str
    version: str
    target: str
    compiler: str
    bytes: int
    sha256: str


def host_runner() -> Path:
    """The runner for this machine. Raises EnvironmentMissing, with what to run, when it was not built."""
    path = FOLDER / NAME
    if not path.is_file() or not os.access(path, os.X_OK):
        raise EnvironmentMissing(f"the C runner was not built on this machine; {_MEND}")
    return path


def runtime_folder() -> Path:
    """The folder of LiteRT's own libraries for this machine: the Python wheel's."""
    try:
        import ai_edge_litert  # noqa: PLC0415 - only its folder is needed
    except ModuleNotFoundError as error:
        raise EnvironmentMissing("ai-edge-litert is not installed: pip install ai-edge-litert") from error
    return Path(ai_edge_litert.__file__).parent


def built_android_runner() -> Path:
    """Where `fidelity android build` puts the runner for arm64 phones: one file for each version of the sources."""
    return Path(platformdirs.user_cache_dir("fidelity")) / "android" / "runner" / version() / NAME


def android_runner() -> Path:
    """The runner for arm64 phones. Raises EnvironmentMissing when this version of it was not built."""
    path = built_android_runner()
    if not path.is_file():
        raise EnvironmentMissing("the C runner for phones was not built; run: fidelity android build --ndk FOLDER")
    return path


def android_compiler(ndk: Path | None, clang: Path | None, sysroot: Path | None) -> list[str]:
    """The compiler and the arguments that point it at a device's headers and libraries.

    An NDK is looked for in ANDROID_NDK_HOME and ANDROID_NDK_ROOT when nothing is named. Raises
    BadInput for what is named and is not there, EnvironmentMissing when there is no NDK.
    """
    if clang is not None:
        found = shutil.which(clang)
        if found is None:
            raise BadInput(f"--clang {clang}: no such compiler")
        if sysroot is None or not sysroot.is_dir():
            raise BadInput(f"--sysroot {sysroot or ''}: not a folder; --clang needs one")
        return [found, f"--sysroot={sysroot}"]
    if sysroot is not None:
        raise BadInput("--sysroot needs --clang")
    given = [ndk] if ndk else [Path(os.environ[name]) for name in _NDK_VARIABLES if os.environ.get(name)]
    for folder in given:
        compilers = sorted(folder.glob("toolchains/llvm/prebuilt/*/bin/clang"))
        if compilers:
            return [str(compilers[0])]
    if given:
        raise BadInput(f"{given[0]}: not an Android NDK: it has no toolchains/llvm/prebuilt/*/bin/clang")
    variables = " or ".join(_NDK_VARIABLES)
    raise EnvironmentMissing(
        f"no Android NDK: give --ndk FOLDER or set {variables} (from developer.android.com/ndk/downloads), "
        "or give --clang and --sysroot"
    )


def build_android_runner(compiler: list[str], output: Path, target: str = ANDROID_TARGET) -> Built:
    """Compile the runner for `target`. The file is whole or not there; raises BadInput with what the compiler says."""
    name, value = definition()
    with tempfile.TemporaryDirectory(prefix="fidelity-runner-") as folder:
        made = Path(folder) / NAME
        command = [
            *(*compiler, f"--target={target}", *FLAGS, "-Werror", *_ANDROID_FLAGS, f"-D{name}={value}"),
            *(*map(str, sources()), *(f"-l{library}" for library in LIBRARIES), "-o", str(made)),
        ]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BadInput(f"{compiler[0]}: cannot compile: {error}") from error
        if done.returncode != 0 or not made.is_file():
            raise BadInput(f"{compiler[0]} for {target}: {_first_error(done.stderr)}")
        content = made.read_bytes()
    _put(output, content)
    return Built(
        file=str(output),
        version=version(),
        target=target,
        compiler=_describe(compiler[0]),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _put(output: Path, content: bytes) -> None:
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.chmod(0o755)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EnvironmentMissing(f"{output}: cannot be written: {error.strerror}") from error


def _first_error(text: str) -> str:
    told = [line.strip() for line in text.splitlines() if "error" in line or "cannot find" in line]
    return (told or [text.strip() or "failed and said nothing"])[0][:300]


def _describe(compiler: str) -> str:
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return compiler
    return (done.stdout.splitlines() or [compiler])[0]
