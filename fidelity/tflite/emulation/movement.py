"""Operations that move, repeat or choose numbers and compute none: any dtype, the same under every profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.tflite.structure import Operator, Option

Array = NDArray[Any]
Move = Callable[[Operator, Sequence[Array | None]], Array]


def reshape(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """The new shape is the second input, or an option of old files."""
    shape = op.options.get("new_shape", ()) if len(inputs) < 2 or inputs[1] is None else inputs[1].tolist()
    return given(inputs, 0).reshape(tuple(int(size) for size in _sequence(shape)))


def transpose(op: Operator, inputs: Sequence[Array | None]) -> Array:
    return given(inputs, 0).transpose(*given(inputs, 1).tolist())


def slice_(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """Begin and size of every axis; a size of -1 goes to the end."""
    x, begin, size = (given(inputs, position) for position in range(3))
    spans = zip(begin.tolist(), size.tolist(), strict=True)
    return x[tuple(slice(start, None if count == -1 else start + count) for start, count in spans)]


def strided_slice(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """NumPy's slicing, with masks of bits for open ends and dropped axes; ellipsis and new axes are refused."""
    if op.options.get("ellipsis_mask") or op.options.get("new_axis_mask"):
        raise NotImplementedError("ellipsis_mask and new_axis_mask of STRIDED_SLICE")
    x, begin, end, step = (given(inputs, position) for position in range(4))
    if op.options.get("offset"):
        end = begin + end
    masks = [int(number(op.options, name)) for name in ("begin_mask", "end_mask", "shrink_axis_mask")]
    index: list[int | slice] = []
    for axis, (first, last, stride) in enumerate(zip(begin.tolist(), end.tolist(), step.tolist(), strict=True)):
        open_begin, open_end, shrink = (bool(mask >> axis & 1) for mask in masks)
        index.append(first if shrink else slice(None if open_begin else first, None if open_end else last, stride))
    return x[tuple(index)]


def concatenation(op: Operator, inputs: Sequence[Array | None]) -> Array:
    return np.concatenate([given(inputs, i) for i in range(len(inputs))], axis=int(number(op.options, "axis")))


def pack(op: Operator, inputs: Sequence[Array | None]) -> Array:
    return np.stack([given(inputs, i) for i in range(len(inputs))], axis=int(number(op.options, "axis")))


def pad(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """Zeros, or PADV2's third input, around the first."""
    value = given(inputs, 2).item() if len(inputs) > 2 else 0
    return np.pad(given(inputs, 0), given(inputs, 1).tolist(), constant_values=value)


def expand_dims(op: Operator, inputs: Sequence[Array | None]) -> Array:
    return np.expand_dims(given(inputs, 0), int(given(inputs, 1).item()))


def squeeze(op: Operator, inputs: Sequence[Array | None]) -> Array:
    axes = tuple(int(axis) for axis in _sequence(op.options.get("squeeze_dims", ())))
    return np.squeeze(given(inputs, 0), axes or None)


def broadcast_to(op: Operator, inputs: Sequence[Array | None]) -> Array:
    return np.broadcast_to(given(inputs, 0), given(inputs, 1).tolist())


def tile(op: Operator, inputs: Sequence[Array | None]) -> Array:
    return np.tile(given(inputs, 0), given(inputs, 1).tolist())


def gather(op: Operator, inputs: Sequence[Array | None]) -> Array:
    if op.options.get("batch_dims"):
        raise NotImplementedError("batch_dims of GATHER")
    return np.take(given(inputs, 0), given(inputs, 1), axis=int(number(op.options, "axis")))


def reduce_max(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """The greatest is one of the numbers: nothing is computed."""
    axes = tuple(int(axis) for axis in given(inputs, 1).reshape(-1).tolist())
    return np.asarray(np.max(given(inputs, 0), axis=axes, keepdims=bool(op.options.get("keep_dims"))))


MOVES: Mapping[str, Move] = {
    "RESHAPE": reshape,
    "TRANSPOSE": transpose,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "CONCATENATION": concatenation,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "EXPAND_DIMS": expand_dims,
    "SQUEEZE": squeeze,
    "BROADCAST_TO": broadcast_to,
    "TILE": tile,
    "GATHER": gather,
    "REDUCE_MAX": reduce_max,
}
"""By the schema's name of the operation."""


def given(inputs: Sequence[Array | None], position: int) -> Array:
    """The input at a position. Raises ValueError when it is absent."""
    found = inputs[position] if position < len(inputs) else None
    if found is None:
        raise ValueError(f"input {position} is absent")
    return found


def number(options: Mapping[str, Option], name: str) -> float:
    """A numeric option; 0 when the file leaves it out, as the schema says."""
    value = options.get(name, 0)
    if not isinstance(value, int | float):
        raise ValueError(f"option {name} is {value!r}, not a number")
    return value


def _sequence(value: Any) -> Sequence[int]:
    return value if isinstance(value, list | tuple) else ()
