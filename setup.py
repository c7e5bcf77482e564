"""The one compiled part, beside what pyproject.toml says: optional, so that no compiler is no failure."""

import sys

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "fidelity.arithmetic._kernels",
            ["fidelity/arithmetic/kernels.c"],
            depends=["fidelity/arithmetic/kernel_body.h"],
            extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"],
            optional=True,
        )
    ]
)
