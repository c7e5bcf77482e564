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


def mirror_pad(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """Mode 0 mirrors about the edge element (NumPy's reflect), mode 1 repeats it (symmetric)."""
    mode: Any = "symmetric" if number(op.options, "mode") == 1 else "reflect"
    return np.pad(given(inputs, 0), given(inputs, 1).tolist(), mode=mode)


def depth_to_space(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """NHWC: the channels of a pixel are the rows, then the columns, of a block of pixels."""
    x, block = given(inputs, 0), int(number(op.options, "block_size"))
    n, height, width, depth = x.shape
    split = x.reshape(n, height, width, block, block, depth // (block * block))
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(n, height * block, width * block, -1)


def space_to_depth(op: Operator, inputs: Sequence[Array | None]) -> Array:
    x, block = given(inputs, 0), int(number(op.options, "block_size"))
    n, height, width, depth = x.shape
    split = x.reshape(n, height // block, block, width // block, block, depth)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // block, width // block, -1)


def resize_nearest(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """Each pixel of the result is one of the image's: which is a matter of float32, as the runtime's kernel has it."""
    x, size = given(inputs, 0), given(inputs, 1).reshape(-1).tolist()
    rows, columns = (_nearest(op, x.shape[1 + axis], int(size[axis])) for axis in range(2))
    return x[:, rows][:, :, columns]


def max_pool_2d(op: Operator, inputs: Sequence[Array | None]) -> Array:
    """The greatest number of each window, what lies outside the image left out; a fused activation is not taken."""
    if op.options.get("fused_activation_function") not in (None, "NONE"):
        raise NotImplementedError("a fused activation of MAX_POOL_2D")
    x = given(inputs, 0)
    spans, filled = pooled_spans(op, x.shape), x
    if any(before or after for _, _, before, after in spans):
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        around = [(0, 0), *((before, after) for _, _, before, after in spans), (0, 0)]
        filled = np.pad(x, around, constant_values=lowest)
    (high, down, *_), (wide, right, *_) = spans
    seen = np.lib.stride_tricks.sliding_window_view(filled, (high, wide), (1, 2))[:, ::down, ::right]
    return np.asarray(seen.max(axis=(-2, -1)))


def split(op: Operator, inputs: Sequence[Array | None]) -> list[Array]:
    """Equal parts along an axis, which is the first input."""
    axis = int(given(inputs, 0).item())
    return np.split(given(inputs, 1), int(number(op.options, "num_splits")), axis=axis)


def split_v(op: Operator, inputs: Sequence[Array | None]) -> list[Array]:
    """Parts of given sizes along an axis; one size of -1 takes the rest."""
    x, sizes, axis = given(inputs, 0), given(inputs, 1).reshape(-1).tolist(), int(given(inputs, 2).item())
    known = sum(size for size in sizes if size >= 0)
    ends = np.cumsum([x.shape[axis] - known if size < 0 else size for size in sizes])
    return np.split(x, ends[:-1].tolist(), axis=axis)


def unpack(op: Operator, inputs: Sequence[Array | None]) -> list[Array]:
    x, axis = given(inputs, 0), int(number(op.options, "axis"))
    return [np.asarray(part) for part in np.moveaxis(x, axis, 0)]


MOVES_TO_MANY: Mapping[str, Callable[[Operator, Sequence[Array | None]], list[Array]]] = {
    "SPLIT": split,
    "SPLIT_V": split_v,
    "UNPACK": unpack,
}
"""Those with several results, in the file's order."""

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
    "MIRROR_PAD": mirror_pad,
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_DEPTH": space_to_depth,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "MAX_POOL_2D": max_pool_2d,
}
"""By the schema's name of the operation."""


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after of SAME padding, so that ceil(size / stride) windows fit."""
    reach = (kernel - 1) * dilation + 1
    needed = max(0, (-(-size // stride) - 1) * stride + reach - size)
    return needed // 2, needed - needed // 2


def pooled_spans(op: Operator, shape: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Of rows and of columns: the window's size, its stride, what is missing before and after the image."""
    spans = []
    for axis, (name, side) in enumerate((("height", "h"), ("width", "w"))):
        size, stride = (int(number(op.options, key)) for key in (f"filter_{name}", f"stride_{side}"))
        if size < 1 or stride < 1:
            raise ValueError(f"a window of {size} moved by {stride}")
        around = same_padding(shape[1 + axis], size, stride) if op.options.get("padding") == "SAME" else (0, 0)
        spans.append((size, stride, *around))
    return spans


def _nearest(op: Operator, before: int, after: int) -> Array:
    """Which pixel each pixel of the result is."""
    aligned, centred = bool(op.options.get("align_corners")), bool(op.options.get("half_pixel_centers"))
    whole = aligned and after > 1
    scale = np.float32(before - 1) / np.float32(after - 1) if whole else np.float32(before) / np.float32(after)
    places = (np.arange(after, dtype=np.float32) + np.float32(0.5 if centred else 0)) * scale
    # half away from zero, as std::round; the numbers are not negative
    chosen = np.floor(places + np.float32(0.5)) if aligned else np.floor(places)
    return np.asarray(np.clip(chosen.astype(np.int64), 0, before - 1))


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
