"""The two compiled parts, beside what pyproject.toml says: optional, so that no compiler is no failure.

One is a module of Python; the other is a program, the on-device runner for this machine, which is built
as an extension is (in place too) but linked as a program.
"""

import os
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path("fidelity/arithmetic")
RUNNER = runpy.run_path("fidelity/devices/runner_sources.py")
RUNNER_FOLDER = Path("fidelity/devices/runner")
RUNNER_MODULE = f"fidelity.devices.runner.{RUNNER['NAME']}"


class BuildWithRunner(build_ext):
    """build_ext that links one of its extensions as a program."""

    def get_ext_filename(self, fullname: str) -> str:
        """A program has no suffix."""
        if fullname.endswith(RUNNER["NAME"]):
            return str(Path(*fullname.split(".")))
        return super().get_ext_filename(fullname)

    def build_extension(self, ext: Extension) -> None:
        """Compile the runner's files as any other's, and link a program of them."""
        if ext.name != RUNNER_MODULE:
            super().build_extension(ext)
            return
        target = Path(self.get_ext_fullpath(ext.name))
        objects = self.compiler.compile(
            ext.sources,
            output_dir=str(Path(self.build_temp) / "runner"),
            macros=ext.define_macros,
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        self.compiler.link_executable(
            objects, target.name, output_dir=str(target.parent), libraries=ext.libraries, target_lang="c"
        )


extensions = [
    Extension(
        "fidelity.arithmetic._kernels",
        [str(KERNELS / "kernels.c")],
        depends=sorted(str(file) for file in KERNELS.glob("*.h")),
        extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"],
        optional=True,
    )
]
if os.name == "posix":
    extensions.append(
        Extension(
            RUNNER_MODULE,
            [str(file) for file in RUNNER["sources"](RUNNER_FOLDER)],
            depends=sorted(str(file) for file in RUNNER_FOLDER.glob("*.h")),
            define_macros=[RUNNER["definition"](RUNNER_FOLDER)],
            extra_compile_args=list(RUNNER["FLAGS"]),
            libraries=list(RUNNER["LIBRARIES"]),
            optional=True,
        )
    )

setup(ext_modules=extensions, cmdclass={"build_ext": BuildWithRunner})
