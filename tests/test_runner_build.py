"""The runner's build: on this machine, with every compiler there is, and for a device."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from runner_program import built, compiled, run
from tiny_models import add_and_scale_job

from fidelity.cli.android import android
from fidelity.devices import runner_build
from fidelity.devices.job import JobResult
from fidelity.devices.runner_build import android_compiler, build_android_runner, host_runner
from fidelity.devices.runner_sources import FOLDER, definition, sources, version
from fidelity.errors import BadInput, EnvironmentMissing

ARM64 = "aarch64-linux-gnu"
STRICT = ("-Wconversion", "-Wshadow", "-Wpedantic", "-Wstrict-prototypes")
DEBIAN = Path("/")
"""Debian's cross headers lie under / and clang knows where: any clang with a sysroot, without an NDK."""


def cross_clang() -> Path:
    """A clang that can compile and link for arm64 Linux; skips where there is none."""
    clang = shutil.which("clang")
    if clang is None or not Path(f"/usr/{ARM64}/include/stdio.h").exists():
        pytest.skip("no clang with arm64 headers here: apt-get install clang gcc-aarch64-linux-gnu")
    return Path(clang)


def test_the_runner_here_is_built_of_these_sources() -> None:
    said = subprocess.run([str(built()), "--version"], capture_output=True, text=True, check=True).stdout
    assert said.strip() == version(), "built of older sources: pip install --no-deps -e ."


@pytest.mark.parametrize("compiler", ["gcc", "clang", f"{ARM64}-gcc"])
def test_no_compiler_has_anything_to_say(compiler: str, tmp_path: Path) -> None:
    found = shutil.which(compiler)
    if found is None:
        pytest.skip(f"no {compiler} here")
    assert compiled(tmp_path / "runner", *STRICT, by=found).is_file()


def test_the_version_is_of_every_source(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.[ch]"):
        shutil.copy(path, tmp_path)
    assert version(tmp_path) == version()
    assert definition(tmp_path) == ("RUNNER_VERSION", f'"{version()}"')
    header = tmp_path / "job.h"
    header.write_bytes(header.read_bytes() + b"\n")
    assert version(tmp_path) != version()


def test_every_file_says_why_it_is_and_is_of_a_size_to_read() -> None:
    for path in [*sources(), *FOLDER.glob("*.h")]:
        text = path.read_text("utf-8")
        assert text.startswith("/* "), path.name
        assert len(text.splitlines()) <= 260, path.name
        assert max(map(len, text.splitlines())) <= 120, path.name


def test_a_runner_that_was_not_built_is_told_with_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_build, "FOLDER", tmp_path)
    with pytest.raises(EnvironmentMissing, match="not built on this machine; install a C compiler"):
        host_runner()
    (tmp_path / "fidelity-runner").write_bytes(b"")  # there, and no program
    with pytest.raises(EnvironmentMissing, match="not built"):
        host_runner()


def test_a_wheel_has_the_runner_and_its_sources(tmp_path: Path) -> None:
    """Built as an extension, linked as a program: from a copy, so that this tree stays as it is."""
    root = Path(__file__).parents[1]
    source = tmp_path / "source"
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md"):
        source.mkdir(exist_ok=True)
        shutil.copy(root / name, source)
    shutil.copytree(root / "fidelity", source / "fidelity", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (source / "fidelity/devices/runner/fidelity-runner").unlink(missing_ok=True)
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(tmp_path / "library")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300, check=False)
    if "setuptools" in done.stderr and "ModuleNotFoundError" in done.stderr:
        pytest.skip("no setuptools here")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "library" / "fidelity" / "devices" / "runner"
    assert {path.name for path in folder.iterdir()} == {
        "fidelity-runner",
        *(path.name for path in FOLDER.glob("*.[ch]")),
    }
    said = subprocess.run([str(folder / "fidelity-runner"), "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == version()


def test_no_ndk_is_told_with_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EnvironmentMissing, match="no Android NDK: give --ndk FOLDER or set ANDROID_NDK_HOME"):
        android_compiler(None, None, None)


def test_an_ndk_is_found_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clang = tmp_path / "toolchains/llvm/prebuilt/linux-x86_64/bin/clang"
    with pytest.raises(BadInput, match="not an Android NDK"):
        android_compiler(tmp_path, None, None)
    clang.parent.mkdir(parents=True)
    clang.write_bytes(b"")
    assert android_compiler(tmp_path, None, None) == [str(clang)]
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    monkeypatch.setenv("ANDROID_NDK_ROOT", str(tmp_path))
    assert android_compiler(None, None, None) == [str(clang)]


@pytest.mark.parametrize(
    ("clang", "sysroot", "told"),
    [
        (Path("/nonexistent"), Path("/"), "no such compiler"),
        (Path("/bin/sh"), None, "--clang needs one"),
        (Path("/bin/sh"), Path("/nonexistent"), "not a folder"),
        (None, Path("/"), "--sysroot needs --clang"),
    ],
)
def test_a_compiler_without_its_other_half(clang: Path | None, sysroot: Path | None, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        android_compiler(None, clang, sysroot)


def test_a_compiler_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out" / "runner"
    for script, told in (("echo 'x.c:1:1: error: no stdio.h' >&2; exit 1", "no stdio.h"), ("exit 0", "said nothing")):
        compiler = tmp_path / "cc"
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(0o755)
        with pytest.raises(BadInput, match=told) as caught:
            build_android_runner([str(compiler)], output)
        assert "\n" not in str(caught.value)
        assert not output.parent.exists()


def test_an_arm64_runner_is_built_and_runs(tmp_path: Path) -> None:
    """Not Android's: Debian's arm64 headers and C library stand in for a phone's. QEMU stands in for the CPU."""
    output = tmp_path / "runner"
    arguments = ["build", "--clang", str(cross_clang()), "--sysroot", str(DEBIAN), "--target", ARM64]
    done = CliRunner().invoke(android, [*arguments, "-o", str(output), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["version"], told["target"], told["bytes"]) == (version(), ARM64, output.stat().st_size)
    assert output.read_bytes()[18:20] == b"\xb7\x00"  # AArch64
    reader = shutil.which("readelf")
    if reader is not None:  # pages of 16 KiB, which new phones have
        told = subprocess.run([reader, "-lW", str(output)], capture_output=True, text=True, check=True).stdout
        assert {line.split()[-1] for line in told.splitlines() if line.strip().startswith("LOAD")} == {"0x4000"}
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("built; no qemu-user-static here to run it")
    started = tmp_path / "started"
    started.write_text(f'#!/bin/sh\nexec {emulator} -L /usr/{ARM64} {output} "$@"\n')
    started.chmod(0o755)
    said = subprocess.run([str(started), "--version"], capture_output=True, text=True, check=True).stdout
    assert said.strip() == version()
    folder = add_and_scale_job(tmp_path / "job")
    ended = run(started, folder, runtime=tmp_path)
    assert (ended.code, JobResult.read(folder / "result.json").status) == (3, "no_device")  # no arm64 LiteRT here
    (folder / "job.json").write_text("{}")
    assert run(started, folder).code == 2
    assert (folder / "log.txt").stat().st_size > 0
