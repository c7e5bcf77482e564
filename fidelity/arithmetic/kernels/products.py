"""FULLY_CONNECTED, BATCH_MATMUL and CONV_2D: products summed in an accumulator and an order, then the bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import holds_float16, rounded
from fidelity.arithmetic.matmul import Right, covers, matmul, plain_side, right_side
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.rules import Product, chosen

Single = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """How a convolution's window moves: strides, dilations, and zeros before and after, rows first."""

    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)


def weights(w: Single, rule: Product) -> Right:
    """FULLY_CONNECTED weights [N, K], or CONV_2D ones [N, rows, columns, channels], ready to multiply."""
    return _right(w.reshape(w.shape[0], -1).T, rule)


def fully_connected(x: Single, w: Right, bias: Single | None, rule: Product, observe: Observer = unobserved) -> Single:
    """x [..., K] times weights [N, K], plus bias [N]; float32 [..., N]. Rows are all leading axes."""
    flat = _operand(x.reshape(-1, x.shape[-1]), rule)
    return _product(flat, w, bias, rule, observe).reshape(*x.shape[:-1], w.columns)


def batch_matmul(a: Single, b: Single, rule: Product, observe: Observer = unobserved) -> Single:
    """a [..., M, K] times b [..., K, N], leading axes broadcast; float32 [..., M, N]. Rows are M."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = np.broadcast_to(_operand(a, rule), (*lead, *a.shape[-2:]))
    right = np.broadcast_to(b, (*lead, *b.shape[-2:]))
    return _product(left, _right(right, rule), None, rule, observe)


def conv_2d(
    x: Single,
    w: Right,
    kernel: tuple[int, int],
    window: Window,
    bias: Single | None,
    rule: Product,
    observe: Observer = unobserved,
) -> Single:
    """NHWC x with OHWI weights whose window is `kernel`, plus bias; terms in the order row, column, channel."""
    (top, left), (bottom, right) = window.before, window.after
    padded = np.pad(_operand(x, rule), ((0, 0), (top, bottom), (left, right), (0, 0)))
    reach = tuple((size - 1) * step + 1 for size, step in zip(kernel, window.dilations, strict=True))
    seen = np.lib.stride_tricks.sliding_window_view(padded, reach, (1, 2))  # [n, rows, columns, channels, *reach]
    seen = seen[:, :: window.strides[0], :: window.strides[1], :, :: window.dilations[0], :: window.dilations[1]]
    terms = seen.transpose(0, 1, 2, 4, 5, 3)
    return fully_connected(terms.reshape(*terms.shape[:3], -1), w, bias, rule, observe)


def _right(b: Single, rule: Product) -> Right:
    """[..., K, N] converted, and laid out for whoever multiplies."""
    operand = _operand(b, rule)
    return right_side(operand) if rule.cases and covers(rule.accumulator) else plain_side(operand)


def _operand(x: Single, rule: Product) -> Single:
    """Factors as the accumulator's format holds them."""
    conversion = rule.accumulator.conversion
    if rule.accumulator.format == "float32" or (conversion.subnormals == "kept" and holds_float16(x)):
        return x  # converting changes nothing
    return rounded(x, conversion)


def _product(x: Single, w: Right, bias: Single | None, rule: Product, observe: Observer) -> Single:
    kept = None if rule.accumulator.format == "float32" else rule.accumulator.conversion
    order = chosen(rule.cases, rows=x.shape[-2], columns=w.columns, terms=x.shape[-1]).order if rule.cases else None
    start = bias if rule.bias == "first" else None
    sums = matmul(x, w, order, rule.accumulator, fused=rule.fused, start=start, observe=observe)
    if bias is not None and rule.bias == "last":
        sums = rounded(sums + bias, kept)
    return rounded(sums, rule.stored)
