"""Operations that only a float32 profile computes: none has a rule, since no device's rounding of them is measured.

In IEEE float32 an operation needs no rule, so a bare graph can be emulated there and held against the
runtime's reference kernels. Under any other profile these stay not predictable, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from fidelity.tflite.emulation.movement import given, max_pool_2d, number, pooled_spans, same_padding
from fidelity.tflite.emulation.operations import Call, activated

Array = NDArray[Any]
Single = NDArray[np.float32]
_ONE, _ZERO = np.float32(1), np.float32(0)


def depthwise_conv_2d(call: Call) -> Array:
    """Each channel by itself with `depth_multiplier` kernels [1, rows, columns, channels * multiplier]: tap by tap."""
    x, w, options = given(call.inputs, 0), given(call.inputs, 1), call.op.options
    _, rows, columns, depth = w.shape
    if depth % x.shape[3]:
        raise ValueError(f"{depth} kernels for {x.shape[3]} channels")
    wide = np.repeat(x, depth // x.shape[3], axis=3)
    strides, dilations = _pair(call, "stride_{}"), _pair(call, "dilation_{}factor")
    before, after = (0, 0), (0, 0)
    if options.get("padding") == "SAME":
        pairs = [same_padding(x.shape[1 + i], (rows, columns)[i], strides[i], dilations[i]) for i in range(2)]
        before, after = (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])
    padded = np.pad(wide, ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)))
    reach = [(size - 1) * step for size, step in zip((rows, columns), dilations, strict=True)]
    high, across = ((padded.shape[1 + i] - reach[i] - 1) // strides[i] + 1 for i in range(2))
    total = np.zeros((x.shape[0], high, across, depth), np.float32)
    for row, column in np.ndindex(rows, columns):
        top, left = row * dilations[0], column * dilations[1]
        seen = padded[:, top : top + high * strides[0] : strides[0], left : left + across * strides[1] : strides[1]]
        total += seen[:, :high, :across] * w[0, row, column]
    return _finished(call, total, 2)


def transpose_conv(call: Call) -> Array:
    """Every input pixel adds its kernel [out, rows, columns, in] to the result, whose shape is the first input."""
    shape, w, x = (given(call.inputs, position) for position in range(3))
    n, high, across, depth = (int(size) for size in shape.reshape(-1).tolist())
    rows, columns = w.shape[1:3]
    strides = _pair(call, "stride_{}")
    around = [(0, 0), (0, 0)]
    if call.op.options.get("padding") == "SAME":
        around = [same_padding((high, across)[i], (rows, columns)[i], strides[i]) for i in range(2)]
    reach = [(x.shape[1 + i] - 1) * strides[i] + (rows, columns)[i] for i in range(2)]
    whole = np.zeros(
        (n, max(reach[0], around[0][0] + high), max(reach[1], around[1][0] + across), depth), dtype=np.float32
    )
    for row, column in np.ndindex(rows, columns):
        spread = x @ w[:, row, column, :].T
        down, right = (x.shape[1 + i] * strides[i] for i in range(2))
        whole[:, row : row + down : strides[0], column : column + right : strides[1]] += spread
    (top, _), (left, _) = around
    return _finished(call, whole[:, top : top + high, left : left + across], 3)


def average_pool_2d(call: Call) -> Array:
    """The mean of what of each window lies within the image."""
    x = given(call.inputs, 0)
    spans = pooled_spans(call.op, x.shape)
    (high, down, *_), (wide, right, *_) = spans
    around = [(0, 0), *((before, after) for _, _, before, after in spans), (0, 0)]

    def summed(array: Array) -> Array:
        seen = np.lib.stride_tricks.sliding_window_view(np.pad(array, around), (high, wide), (1, 2))
        return np.asarray(seen[:, ::down, ::right].sum(axis=(-2, -1), dtype=np.float32))

    return activated(call, np.asarray(summed(x) / summed(np.ones_like(x[:1, :, :, :1])), np.float32))


def pooled_maximum(call: Call) -> Array:
    """As movement has it, with a fused activation."""
    plain = {**call.op.options, "fused_activation_function": "NONE"}
    return activated(call, max_pool_2d(replace(call.op, options=plain), call.inputs))


def resize_bilinear(call: Call) -> Array:
    """Between the two nearest rows and columns, by float32 weights as the runtime's kernel has them."""
    x, size = given(call.inputs, 0), given(call.inputs, 1).reshape(-1).tolist()
    (top, bottom, down), (left, right, across) = (_between(call, x.shape[1 + i], int(size[i])) for i in range(2))
    down, across = down[:, np.newaxis, np.newaxis], across[:, np.newaxis]
    upper, lower = x[:, top], x[:, bottom]
    return np.asarray(
        upper[:, :, left] * (_ONE - down) * (_ONE - across)
        + lower[:, :, left] * down * (_ONE - across)
        + upper[:, :, right] * (_ONE - down) * across
        + lower[:, :, right] * down * across
    )


def prelu(call: Call) -> Array:
    x, slope = given(call.inputs, 0), given(call.inputs, 1)
    return np.where(x >= 0, x, x * slope)


def leaky_relu(call: Call) -> Array:
    x = given(call.inputs, 0)
    return np.where(x > 0, x, x * np.float32(number(call.op.options, "alpha")))


def hard_swish(call: Call) -> Array:
    x = given(call.inputs, 0)
    return x * np.minimum(np.float32(6), np.maximum(_ZERO, x + np.float32(3))) / np.float32(6)


def l2_normalization(call: Call) -> Array:
    """Over the last axis; the kernel's guard against a row of zeros is 1e-6."""
    x = given(call.inputs, 0).astype(np.float64)
    norm = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
    return np.asarray(x / np.maximum(norm, 1e-6), np.float32)


def cast(call: Call) -> Array:
    """Towards zero, as C converts. A number that the new type does not hold is not defined there: refused here."""
    x, kind = given(call.inputs, 0), np.dtype(str(call.op.options.get("out_data_type")).lower())
    if kind.kind in "iu" and x.dtype.kind == "f":
        bounds = np.iinfo(kind)
        if not np.all((x > float(bounds.min) - 1) & (x < float(bounds.max) + 1)):
            raise NotImplementedError(f"CAST of a number that {kind} does not hold")
    return x.astype(kind)


def arg_extreme(call: Call) -> Array:
    """The first place of the greatest, or of the least, along an axis."""
    x, axis = given(call.inputs, 0), int(given(call.inputs, 1).reshape(-1)[0])
    find = np.argmax if call.op.name == "ARG_MAX" else np.argmin
    return np.asarray(find(x, axis=axis), dtype=np.int64 if call.op.options.get("output_type") == 4 else np.int32)


def reduce_min(call: Call) -> Array:
    axes = tuple(int(axis) for axis in given(call.inputs, 1).reshape(-1).tolist())
    return np.asarray(np.min(given(call.inputs, 0), axis=axes, keepdims=bool(call.op.options.get("keep_dims"))))


def same_value(call: Call) -> Array:
    """QUANTIZE and DEQUANTIZE in real numbers; the tensors' own scales do the rest."""
    x = given(call.inputs, 0)
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _of_one(function: Callable[[Any], Any]) -> Callable[[Call], Array]:
    """A function of one number, taken in float64 and rounded once."""
    return lambda call: np.asarray(function(given(call.inputs, 0).astype(np.float64)), dtype=np.float32)


def _of_two(function: Callable[[Any, Any], Any]) -> Callable[[Call], Array]:
    return lambda call: np.asarray(function(given(call.inputs, 0), given(call.inputs, 1)))


FLOAT32_ALONE: Mapping[str, Callable[[Call], Array]] = {
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "TRANSPOSE_CONV": transpose_conv,
    "AVERAGE_POOL_2D": average_pool_2d,
    "MAX_POOL_2D": pooled_maximum,
    "RESIZE_BILINEAR": resize_bilinear,
    "PRELU": prelu,
    "LEAKY_RELU": leaky_relu,
    "HARD_SWISH": hard_swish,
    "L2_NORMALIZATION": l2_normalization,
    "CAST": cast,
    "ARG_MAX": arg_extreme,
    "ARG_MIN": arg_extreme,
    "REDUCE_MIN": reduce_min,
    "QUANTIZE": same_value,
    "DEQUANTIZE": same_value,
    "RELU": lambda call: np.maximum(given(call.inputs, 0), _ZERO),
    "RELU6": lambda call: np.clip(given(call.inputs, 0), _ZERO, np.float32(6)),
    "RELU_N1_TO_1": lambda call: np.clip(given(call.inputs, 0), -_ONE, _ONE),
    "SQUARE": lambda call: given(call.inputs, 0) * given(call.inputs, 0),
    "FLOOR": lambda call: np.floor(given(call.inputs, 0)),
    "LOG": _of_one(np.log),
    "SIN": _of_one(np.sin),
    "COS": _of_one(np.cos),
    "LOG_SOFTMAX": _of_one(lambda x: log_softmax(x, axis=-1)),
    "GREATER": _of_two(np.greater),
    "GREATER_EQUAL": _of_two(np.greater_equal),
    "LESS": _of_two(np.less),
    "LESS_EQUAL": _of_two(np.less_equal),
    "EQUAL": _of_two(np.equal),
    "NOT_EQUAL": _of_two(np.not_equal),
    "LOGICAL_AND": _of_two(np.logical_and),
    "LOGICAL_OR": _of_two(np.logical_or),
    "LOGICAL_NOT": lambda call: np.logical_not(given(call.inputs, 0)),
    "SELECT_V2": lambda call: np.where(*(given(call.inputs, position) for position in range(3))),
}
"""By the schema's name of the operation."""


def _pair(call: Call, name: str) -> tuple[int, int]:
    """A whole-number option of rows and of columns; at least 1, as the runtime takes a zero."""
    high, wide = (max(1, int(number(call.op.options, name.format(side)))) for side in "hw")
    return high, wide


def _finished(call: Call, sums: Single, bias: int) -> Array:
    """The bias, where there is one at that position, and the fused activation."""
    added = call.inputs[bias] if len(call.inputs) > bias else None
    return activated(call, sums if added is None else sums + added.astype(np.float32))


def _between(call: Call, before: int, after: int) -> tuple[Array, Array, Single]:
    """Of each pixel of the result: the two pixels of the image that it lies between, and the second one's share."""
    options = call.op.options
    whole = bool(options.get("align_corners")) and after > 1
    scale = np.float32(before - 1) / np.float32(after - 1) if whole else np.float32(before) / np.float32(after)
    half = np.float32(0.5 if options.get("half_pixel_centers") else 0)
    places = (np.arange(after, dtype=np.float32) + half) * scale - half
    first = np.maximum(np.floor(places), 0).astype(np.int64)
    second = np.minimum(np.ceil(places), before - 1).astype(np.int64)
    return first, second, (places - first.astype(np.float32)).astype(np.float32)
