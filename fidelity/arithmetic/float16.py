"""Conversions to and from float16 under every rule that a device may follow.

float16 is IEEE 754 binary16: 11 significant bits, largest finite value 65504, smallest normal
2^-14, smallest subnormal 2^-24. Devices agree on the format and differ on the way into it: the
delegate measured in arithmetic.md rounds elementwise results to the nearest, overflowing to
infinity, and truncates the results of reductions, saturating.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from fidelity.arithmetic import compiled

Rounding = Literal["nearest_even", "toward_zero"]
Overflow = Literal["infinite", "saturate"]
Subnormals = Literal["kept", "flushed"]

LARGEST = 65504.0
SMALLEST_NORMAL = 2.0**-14
_FIRST_BEYOND = 65536.0  # the value after LARGEST, were the exponent range wider


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Conversion:
    """The rule by which a wider number becomes a float16.

    `overflow` decides what a finite number beyond the range becomes: infinity or 65504 with its
    sign. Beyond the range is what rounds there as if the exponent had no end: from 65520 on when
    rounding to the nearest, from 65536 on when rounding toward zero. An infinity is no overflow
    and stays one, a NaN stays a NaN. `subnormals` are those of the result, after rounding.
    """

    rounding: Rounding = "nearest_even"
    overflow: Overflow = "infinite"
    subnormals: Subnormals = "kept"


IEEE = Conversion()


def to_float16(x: NDArray[np.floating[Any]], conversion: Conversion = IEEE) -> NDArray[np.float16]:
    """`x` of float32 or float64, any shape, rounded once to float16. Raises TypeError for other dtypes."""
    if x.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"to_float16 takes float32 or float64, not {x.dtype}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        half = x.astype(np.float16)  # NumPy rounds to the nearest, ties to even, from either dtype in one step
    finite = np.isfinite(x)
    if conversion.rounding == "toward_zero":
        half = _toward_zero(half, x, finite)
        beyond = finite & (np.abs(x) >= _FIRST_BEYOND)
    else:
        beyond = finite & np.isinf(half)
    limit = np.float16(np.inf if conversion.overflow == "infinite" else LARGEST)
    half = np.where(beyond, np.copysign(limit, half), half)
    return flush(half) if conversion.subnormals == "flushed" else half


def from_float16(half: NDArray[np.float16], subnormals: Subnormals = "kept") -> NDArray[np.float32]:
    """The same values in float32, exactly; with `flushed`, subnormals are read as zero of their sign."""
    if subnormals == "flushed":
        half = flush(half)
    if half.dtype == np.float16 and compiled.path() is not None:
        return compiled.widened(half)
    return half.astype(np.float32)


def round_to_float16(x: NDArray[np.floating[Any]], conversion: Conversion = IEEE) -> NDArray[np.float32]:
    """`to_float16` and back: float32 numbers that are float16 values."""
    if x.dtype == np.float32 and compiled.path() is not None:
        return compiled.round_to_float16(x, compiled_rule(conversion))
    return to_float16(x, conversion).astype(np.float32)


def compiled_rule(conversion: Conversion) -> compiled.Conversion:
    """The rule as the C kernels take it."""
    return compiled.Conversion(
        conversion.rounding == "toward_zero", conversion.overflow == "saturate", conversion.subnormals == "flushed"
    )


def holds_float16(x: NDArray[np.float32]) -> bool:
    """Whether every number is a float16 value (or infinite, or NaN)."""
    if compiled.path() is not None:
        return compiled.holds_float16(x)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return bool(np.array_equal(x.astype(np.float16).astype(np.float32), x, equal_nan=True))


def rounded(x: NDArray[np.floating[Any]], conversion: Conversion | None) -> NDArray[np.float32]:
    """`round_to_float16` by a rule that may be None: then the number is rounded to float32 alone."""
    if conversion is None:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return np.asarray(x, np.float32)
    return round_to_float16(x, conversion)


def flush(half: NDArray[np.float16]) -> NDArray[np.float16]:
    """Subnormals replaced by zero of their sign."""
    small = np.abs(half) < np.float16(SMALLEST_NORMAL)
    return np.where(small, np.copysign(np.float16(0), half), half)


def _toward_zero(
    half: NDArray[np.float16], x: NDArray[np.floating[Any]], finite: NDArray[np.bool_]
) -> NDArray[np.float16]:
    """The neighbour below in magnitude wherever the nearest lies above; infinity's is 65504."""
    away = finite & (np.abs(half).astype(np.float64) > np.abs(x))
    stepped: NDArray[np.float16] = (half.view(np.uint16) - away.astype(np.uint16)).view(np.float16)
    return stepped
