"""The one compiled part, beside what pyproject.toml says: optional, so that no compiler is no failure."""

import sys
from pathlib import Path

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "fidelity.arithmetic._kernels",
            ["fidelity/arithmetic/kernels.c"],
            depends=sorted(str(file) for file in Path("fidelity/arithmetic").glob("*.h")),
            extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"],
            optional=True,
        )
    ]
)
