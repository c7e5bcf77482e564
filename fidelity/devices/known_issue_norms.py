"""Reported bugs of normalisation: zeros where a LayerNorm or an RMSNorm was computed in float16."""

from __future__ import annotations

import numpy as np

from fidelity.devices.known_issue_sketch import Shape, Sketch, options

_EPS = 1e-5
_ROOT = 2.0**-6
"""Relative: a mean, a reciprocal root of 2 ulp and two products, each truncated at worst, in float16: 5 x 2^-10,
and the square root's halving of the mean's own error; 16 x 2^-10 is three times that, and zero is 64 times off."""


def layer_norm_of_a_convolution(sketch: Sketch) -> None:
    """litert-torch #718: a 1x1 convolution and a LayerNorm over 4 channels of a [1, 4, 4, 4] of ones."""
    shape, weights = (1, 4, 4, 4), np.diag(np.array([3, 1, -1, -3], np.float32)).reshape(4, 1, 1, 4)
    made = options("Conv2D", strideH=1, strideW=1, padding=1, dilationHFactor=1, dilationWFactor=1)
    x = [sketch.input(np.ones(shape)), sketch.constant(weights), sketch.constant(np.zeros(4))]
    convolved = sketch.op("CONV_2D", x, shape, made)
    mean = _mean(sketch, convolved, shape)
    difference = sketch.op("SUB", [convolved, mean], shape, options("Sub"))
    y = _over_root(sketch, difference, shape)
    gain, bias = np.array([1, 2, 1, 2]), np.array([0, 0, 1, 1])
    y = sketch.op("MUL", [y, sketch.constant(gain)], shape, options("Mul"))
    y = sketch.op("ADD", [y, sketch.constant(bias)], shape, options("Add"))
    row = np.array([3, 1, -1, -3]) / np.sqrt(5 + _EPS) * gain + bias
    right = np.broadcast_to(row, shape)
    zeros = np.zeros(shape)
    zeros[0, 0, 0] = right[0, 0, 0]
    dead = {"zeros behind the first four elements": zeros, "zeros": np.zeros(shape)}
    sketch.output(y, "LayerNorm of a convolution", right, within=_ROOT * np.abs(right).max(), symptoms=dead)


def root_mean_square_of_large_numbers(sketch: Sketch) -> None:
    """#7693: all zeros unless fp32 is asked for, of a Gemma.

    The report does not say where. This is the one place of such a model that gives all zeros in float16
    and is right in float32: an RMSNorm, x / sqrt(mean(x x) + eps), of numbers beyond 256.
    """
    shape = (1, 8, 64)
    sign = np.where(np.arange(64) % 3 == 0, -1.0, 1.0)
    x = sketch.input(np.broadcast_to(512 * sign, shape))
    right = np.broadcast_to(sign, shape)
    clipped = {"zeros": np.zeros(shape), "the square clipped at 65,504": right * np.float16(512 / np.sqrt(65504))}
    y = _over_root(sketch, x, shape)
    sketch.output(y, "RMSNorm of 512", right, within=_ROOT, symptoms=clipped)


def _over_root(sketch: Sketch, x: str, shape: Shape) -> str:
    """x / sqrt(mean(x x) + eps) over the last axis, by the steps that a converter writes."""
    less = (*shape[:-1], 1)
    square = sketch.op("MUL", [x, x], shape, options("Mul"))
    shifted = sketch.op("ADD", [_mean(sketch, square, shape), sketch.constant(_EPS)], less, options("Add"))
    return sketch.op("MUL", [x, sketch.op("RSQRT", [shifted], less)], shape, options("Mul"))


def _mean(sketch: Sketch, x: str, shape: Shape) -> str:
    last = sketch.constant([len(shape) - 1], "int32")
    return sketch.op("MEAN", [x, last], (*shape[:-1], 1), options("Reducer", keepDims=True))
