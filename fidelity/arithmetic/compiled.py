"""The C kernel of kernels.c, where it was built: found, described, called on all cores.

Loaded with ctypes: it takes plain arrays and needs no Python headers to build.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
PATHS = ("portable", "f16c", "avx512f")
_COLUMNS = 32  # COLUMNS of kernels.c
_ROWS_A_TASK = 16


class _Product(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "b", "sums", "term", "start")),
        *((name, ctypes.c_int64) for name in ("rows", "terms", "columns", "parts")),
    )


def paths() -> tuple[str, ...]:
    """The compiled paths that this machine can take, the fastest last; empty without the kernel."""
    kernel = _kernel()
    return () if kernel is None else PATHS[: kernel.fidelity_best_path() + 1]


def partial_sums(a: Single, b: Single, parts: NDArray[np.int32], count: int, path: str | None = None) -> Single:
    """Partial sums [count, M, N] of a [M, K] times b [K, N] as `padded` gives it; term k goes to parts[k].

    All values are float16 ones.
    Each part is a running float16 sum over its terms in ascending order, from +0, product and sum
    each rounded to the nearest. `path` is one of `paths()`, by default the fastest. Raises
    ValueError for shapes that do not fit or a path that is not there.
    """
    kernel, available = _kernel(), paths()
    chosen = path or (available[-1] if available else None)
    if kernel is None or chosen not in available:
        raise ValueError(f"compiled path {path!r} is not available; there are {list(available)}")
    (rows, terms), columns = a.shape, b.shape[1]
    if b.shape[0] != terms or parts.shape != (terms,) or (terms and not 0 <= parts.min() <= parts.max() < count):
        raise ValueError(f"a {a.shape}, b {b.shape}, parts {parts.shape} of {count} do not fit each other")
    if columns % _COLUMNS or not b.flags.c_contiguous:
        raise ValueError(f"b {b.shape} is not as padded() gives it")
    a = np.ascontiguousarray(a, np.float32)
    term = np.argsort(parts, kind="stable").astype(np.int32)
    start = np.concatenate([[0], np.bincount(parts, minlength=count).cumsum()]).astype(np.int32)
    sums = np.empty((count, rows, columns), np.float32)
    addresses = (array.ctypes.data for array in (a, b, sums, term, start))
    product = _Product(*addresses, rows, terms, columns, count)

    def run(first: int) -> None:
        last = min(first + _ROWS_A_TASK, rows)
        kernel.fidelity_partial_sums(ctypes.byref(product), first, last, PATHS.index(chosen))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, range(0, rows, _ROWS_A_TASK)))
    return sums


def padded(b: Single) -> Single:
    """`b` [K, N] with zero columns added up to the kernel's width, C-contiguous float32."""
    columns = -(-b.shape[1] // _COLUMNS) * _COLUMNS
    if columns == b.shape[1]:
        return np.ascontiguousarray(b, np.float32)
    filled = np.zeros((b.shape[0], columns), np.float32)
    filled[:, : b.shape[1]] = b
    return filled


@cache
def _kernel() -> ctypes.CDLL | None:
    """The library, or None where it was not built or cannot be loaded."""
    for suffix in EXTENSION_SUFFIXES:
        file = Path(__file__).with_name(f"_kernels{suffix}")
        if file.is_file():
            try:
                kernel = ctypes.CDLL(str(file))
            except OSError:
                continue
            kernel.fidelity_partial_sums.argtypes = (
                ctypes.POINTER(_Product),
                ctypes.c_int64,
                ctypes.c_int64,
                ctypes.c_int,
            )
            return kernel
    return None
