"""`fidelity android build|setup`: what a phone needs before a job can run on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fidelity.cli import options as o
from fidelity.devices.android.libraries import BASE
from fidelity.devices.runner_build import ANDROID_TARGET
from fidelity.errors import EXIT_PASS

android = typer.Typer(help="The C runner and LiteRT's libraries for Android phones.")


@android.command()
def build(
    ndk: Annotated[
        Path | None, typer.Option(help="An Android NDK (default: ANDROID_NDK_HOME or ANDROID_NDK_ROOT).")
    ] = None,
    clang: Annotated[Path | None, typer.Option(help="Any clang, with --sysroot, instead of an NDK.")] = None,
    sysroot: Annotated[Path | None, typer.Option(help="Headers and libraries of the device, for --clang.")] = None,
    target: Annotated[str, typer.Option(help="What --clang compiles for.")] = ANDROID_TARGET,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the runner is put (default: where jobs find it).")
    ] = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Compile the C runner for arm64 phones."""
    from fidelity.devices.runner_build import (  # noqa: PLC0415
        android_compiler,
        build_android_runner,
        built_android_runner,
    )

    session = o.Session(json, verbose, None)
    compiler = android_compiler(ndk, clang, sysroot)
    with session.reporter.stage("build the C runner", 1) as step:
        step(target)
        built = build_android_runner(compiler, output or built_android_runner(), target)
    session.show(built, [f"{built.file}: {built.version} for {built.target}, {built.bytes} bytes, by {built.compiler}"])
    return EXIT_PASS


@android.command()
def setup(
    base: Annotated[
        str, typer.Option(help="An address or a folder that has VERSION/android_arm64/FILE, as LiteRT's own has.")
    ] = BASE,
    version: Annotated[str | None, typer.Option(help="Version of LiteRT (default: the one installed here).")] = None,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Fetch LiteRT's prebuilt Android libraries into the per-user cache, and check them.

    LiteRT publishes no checksums: where fidelity ships none either, those of the first fetch are
    recorded, and every later use is held to them.
    """
    from fidelity.devices.android.libraries import LIBRARIES, set_up  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    with session.reporter.stage("LiteRT's Android libraries", len(LIBRARIES)) as step:
        done = set_up(base, version, step)
    lines = [
        f"{'fetched' if each.fetched else 'kept'} {each.path}: {each.bytes} bytes, sha256 {each.sha256}, {each.trusted}"
        for each in done.libraries
    ]
    session.show(done, lines)
    return EXIT_PASS
