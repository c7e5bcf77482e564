"""Reals that a file stores as integers: value = scale * (stored - zero point), and back with rounding.

An operation on quantised tensors is emulated in real numbers: its inputs are dequantised, the operation
computed in float32, the result rounded to the output's steps and clamped to its type. That is what the
integer kernels approximate with fixed-point multipliers, so the two differ only where a result lies
next to a tie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.tflite.structure import Quantization, Tensor

Array = NDArray[Any]
_NARROW, _WIDE = ("int8", "uint8", "int16"), ("int32", "int64")


def quantization_of(tensor: Tensor) -> Quantization | None:
    """How a tensor stores reals as integers; None where its numbers mean themselves.

    An int32 or int64 of scale 1 is an index, a size or an axis with a field filled in: what it says is its value.
    """
    how = tensor.quantization
    if how is None or tensor.dtype in _NARROW:
        return how if tensor.dtype in _NARROW else None
    return how if tensor.dtype in _WIDE and how.scale != (1.0,) else None


def to_reals(stored: Array, how: Quantization) -> NDArray[np.float32]:
    """The real numbers, computed in float64 and rounded once."""
    scale, zero = (_along(values, stored.ndim, how.axis) for values in (how.scale, how.zero_point))
    return np.asarray((stored.astype(np.float64) - zero) * scale, dtype=np.float32)


def to_stored(reals: Array, how: Quantization, dtype: str) -> Array:
    """The nearest steps, halves away from zero as the runtime rounds, clamped to the type."""
    scale, zero = (_along(values, reals.ndim, how.axis) for values in (how.scale, how.zero_point))
    steps = reals.astype(np.float64) / scale
    rounded = np.trunc(steps + np.copysign(0.5, steps)) + zero
    bounds = np.iinfo(dtype)
    return np.clip(rounded, bounds.min, bounds.max).astype(dtype)


def _along(values: tuple[float, ...], rank: int, axis: int) -> NDArray[np.float64]:
    """One value for all, or one a slice along the axis, shaped to broadcast."""
    if len(values) == 1:
        return np.asarray(values[0], np.float64)
    return np.asarray(values, np.float64).reshape([-1 if each == axis else 1 for each in range(rank)])
