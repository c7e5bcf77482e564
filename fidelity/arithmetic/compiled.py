"""The C kernels, where they were built: found, described, run on all cores. NumPy computes the same bits elsewhere.

Loaded with ctypes: they take plain arrays and need no Python headers to build. They are written
once and compiled for several instruction sets, the paths; the fastest that the machine has is
taken. float16 instructions (avx512_fp16, Arm's fp16) would be faster still and are not used: there
was no machine to hold them against the definition.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
PATHS = ("portable", "avx2", "avx512f")
COLUMNS = 32
"""Columns of a block of packed numbers: COLUMNS of kernels.c."""
_chosen: list[str | None] = []


class Conversion(ctypes.Structure):
    """struct conversion of kernels.c."""

    _fields_ = tuple((name, ctypes.c_int32) for name in ("toward_zero", "saturate", "flush"))


_FUNCTIONS = {
    "fidelity_multiply": (ctypes.c_void_p, ctypes.c_void_p),
    "fidelity_pack": (ctypes.c_void_p, ctypes.c_void_p),
    "fidelity_round": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, Conversion),
    "fidelity_widen": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64),
    "fidelity_holds_float16": (ctypes.c_void_p, ctypes.c_int64),
    "fidelity_exp2_gallivm": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64),
    "fidelity_softmax_statistics": (ctypes.c_void_p, ctypes.c_void_p),
}
"""Parameters of each function, without the path that all of them end in."""


def paths() -> tuple[str, ...]:
    """The paths that this machine can take, the fastest last; empty without the kernels."""
    kernels, _ = _library()
    return () if kernels is None else PATHS[: kernels.fidelity_best_path() + 1]


def path() -> str | None:
    """The path that is taken: the fastest, or what `on_path` says; None where NumPy computes."""
    return _chosen[-1] if _chosen else _fastest()


@contextmanager
def on_path(which: str | None) -> Iterator[None]:
    """Within: `which` of `paths()`, or NumPy alone for None. For comparisons; not per thread.

    Raises ValueError for a path that is not there.
    """
    if which is not None and which not in paths():
        raise ValueError(f"compiled path {which!r} is not available; there are {list(paths())}")
    _chosen.append(which)
    try:
        yield
    finally:
        _chosen.pop()


def describe() -> str:
    """Which path computes, or why there is none: one line for a report."""
    kernels, reason = _library()
    if kernels is None:
        return f"emulation by NumPy, some hundred times slower than the C kernels, same results: {reason}"
    if path() is None:
        return "emulation by NumPy, as was asked for"
    return f"emulation by C kernels, path {path()} of {', '.join(paths())}, on {_cores()} cores"


def call(name: str, *arguments: Any) -> int:
    """A function of kernels.c on the path that is taken. Raises RuntimeError where there is none."""
    kernels, _ = _library()
    taken = path()
    if kernels is None or taken is None:
        raise RuntimeError(describe())
    return int(getattr(kernels, name)(*arguments, PATHS.index(taken)))


def share_out(name: str, work: ctypes.Structure, units: int) -> None:
    """Have `units` of the function's work done by as many threads as there are cores, or units."""
    following = ctypes.c_int64(0)

    def run() -> None:
        call(name, ctypes.byref(work), ctypes.byref(following))

    threads = min(_cores(), units)
    others = [_pool(os.getpid()).submit(run) for _ in range(threads - 1)]
    run()
    for other in others:
        other.result()


def round_to_float16(x: Single, rule: Conversion) -> Single:
    """float32 numbers to float16 values."""
    return _elementwise("fidelity_round", x, rule)


def widened(half: NDArray[np.float16]) -> Single:
    """The same values in float32."""
    return _elementwise("fidelity_widen", half)


def exp2_gallivm(x: Single) -> Single:
    """As special.py defines it."""
    return _elementwise("fidelity_exp2_gallivm", x)


def holds_float16(x: Single) -> bool:
    """Whether every number is a float16 value, infinite or NaN."""
    flat = np.require(np.asarray(x, np.float32).ravel("K"), requirements=("C", "A"))
    return bool(call("fidelity_holds_float16", flat.ctypes.data, flat.size))


def _elementwise(name: str, x: NDArray[Any], *rule: Any) -> Single:
    if x.flags.f_contiguous and not x.flags.c_contiguous:
        return _elementwise(name, x.T, *rule).T  # weights, which need not be copied for this
    x = np.require(x, requirements=("C", "A"))
    result = np.empty(x.shape, np.float32)
    call(name, x.ctypes.data, result.ctypes.data, x.size, *rule)
    return result


@cache
def _library() -> tuple[ctypes.CDLL | None, str]:
    """The library, or None and why: it was not built, or cannot be loaded."""
    reason = "they were not built, for want of a C compiler when the package was installed"
    for suffix in EXTENSION_SUFFIXES:
        file = Path(__file__).with_name(f"_kernels{suffix}")
        if not file.is_file():
            continue
        try:
            kernels = ctypes.CDLL(str(file))
            for name, parameters in _FUNCTIONS.items():
                getattr(kernels, name).argtypes = (*parameters, ctypes.c_int)
        except (OSError, AttributeError) as error:
            reason = f"{file.name} cannot be used: {error}"
            continue
        return kernels, ""
    return None, reason


@cache
def _fastest() -> str | None:
    return paths()[-1] if paths() else None


@cache
def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads for as long as the process lives; a forked child has none of its parent's and gets its own."""
    return ThreadPoolExecutor(_cores(), thread_name_prefix="fidelity-kernels")
