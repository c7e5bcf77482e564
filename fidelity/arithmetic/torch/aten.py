"""Which of torch's operations is which kind: the table that the dispatch mode looks up.

Torch's composite operations arrive here in parts already; what is not in the table and makes floating
point numbers is missing, which the run reports by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fidelity.arithmetic.kernels.products import Window
from fidelity.arithmetic.torch import composites
from fidelity.arithmetic.torch.device import Device

Operand = torch.Tensor | float
Handler = Callable[..., Any]
"""Called with the device and the operation's own arguments, by position and name."""

MOVEMENT = frozenset(
    (
        *("clone", "_unsafe_view", "cat", "stack", "index_select", "index", "gather"),
        *("constant_pad_nd", "repeat", "roll", "flip", "lift_fresh", "copy_", "where"),
        *("masked_fill", "amax", "amin", "max", "min", "argmax", "tril"),
        *("triu", "fill_", "zero_", "select_scatter", "slice_scatter", "split_copy", "split_with_sizes_copy"),
        *("repeat_interleave",),
    )
)
"""Operations that move, repeat or choose numbers and compute none; views are known by themselves."""

FACTORIES = frozenset(
    ("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like")
)
"""Operations that read a tensor's shape alone: constants."""


def _operand(device: Device, x: Operand) -> torch.Tensor:
    return x if isinstance(x, torch.Tensor) else device.scalar(float(x))


def _binary(kind: str, *, reverse: bool = False) -> Handler:
    def handler(device: Device, a: Operand, b: Operand, *, alpha: float = 1) -> torch.Tensor:
        left, right = _operand(device, a), _operand(device, b)
        if reverse:
            left, right = right, left
        if alpha != 1:
            right = device.binary("MUL", right, device.scalar(float(alpha)))
        return device.binary(kind, left, right)

    return handler


def _divide(device: Device, a: Operand, b: Operand, *, rounding_mode: str | None = None) -> torch.Tensor:
    if rounding_mode is not None:
        raise NotImplementedError(f"division rounded by {rounding_mode}")
    return device.binary("DIV", _operand(device, a), _operand(device, b))


def _unary(kind: str) -> Handler:
    return lambda device, x: device.unary(kind, x)


def _clamp(device: Device, x: torch.Tensor, min: Operand | None = None, max: Operand | None = None) -> torch.Tensor:
    y = x if min is None else device.binary("MAXIMUM", x, _operand(device, min))
    return y if max is None else device.binary("MINIMUM", y, _operand(device, max))


def _power(device: Device, x: torch.Tensor, exponent: Operand) -> torch.Tensor:
    if isinstance(exponent, torch.Tensor):
        raise NotImplementedError("a power whose exponent is a tensor")
    return device.binary("MUL", x, x) if exponent == 2 else device.power(x, float(exponent))


def _gelu(device: Device, x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
    if approximate != "none":
        raise NotImplementedError(f"the {approximate} form of GELU")
    return device.unary("GELU", x)


def _silu(device: Device, x: torch.Tensor) -> torch.Tensor:
    return device.binary("MUL", x, device.unary("LOGISTIC", x))


def _reduction(kind: str) -> Handler:
    def handler(
        device: Device, x: torch.Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
    ) -> torch.Tensor:
        if dtype not in (None, torch.float32):
            raise NotImplementedError(f"{kind} in {dtype}")
        return device.reduce(kind, x, tuple(dim) if dim else tuple(range(x.ndim)), keep=keepdim)

    return handler


def _softmax(device: Device, x: torch.Tensor, dim: int, half_to_float: bool = False) -> torch.Tensor:
    return device.softmax(x, dim)


def _vector_norm(
    device: Device,
    x: torch.Tensor,
    ord: float = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> torch.Tensor:
    if ord != 2:
        raise NotImplementedError(f"the vector norm of order {ord}")
    return composites.vector_norm(device, x, tuple(dim) if dim else tuple(range(x.ndim)), keep=keepdim)


def _addmm(
    device: Device, bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    if beta != 1 or alpha != 1:
        raise NotImplementedError("addmm with beta or alpha")
    if bias.ndim != 1:
        return device.binary("ADD", device.matmul(a, b), bias)
    return device.matmul(a, b, bias)


def _baddbmm(
    device: Device, bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    product = device.batch_matmul(a, b)
    if alpha != 1:
        product = device.binary("MUL", product, device.scalar(float(alpha)))
    if beta not in (0, 1):
        bias = device.binary("MUL", bias, device.scalar(float(beta)))
    return product if beta == 0 else device.binary("ADD", product, bias)


def _convolution(
    device: Device,
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> torch.Tensor:
    if transposed or groups != 1 or len(stride) != 2:
        raise NotImplementedError("a convolution that is transposed, grouped or not of two dimensions")
    (up, across), (down, along), (top, left) = stride, dilation, padding
    return device.convolution(x, w, bias, Window((up, across), (down, along), (top, left), (top, left)))


def _layer_norm(
    device: Device,
    x: torch.Tensor,
    shape: Sequence[int],
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> tuple[Any, ...]:
    return composites.layer_norm(device, x, tuple(shape), weight, bias, eps), None, None


def _rms_norm(
    device: Device, x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None, eps: float | None
) -> tuple[Any, ...]:
    epsilon = torch.finfo(x.dtype).eps if eps is None else eps
    return composites.rms_norm(device, x, tuple(shape), weight, epsilon), None


def _attention(
    device: Device,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[Any, ...]:
    if dropout_p:
        raise NotImplementedError("attention with dropout")
    return composites.attention(device, q, k, v, attn_mask, causal=is_causal, scale=scale), None


ATEN: Mapping[str, Handler] = {
    "add": _binary("ADD"),
    "sub": _binary("SUB"),
    "rsub": _binary("SUB", reverse=True),
    "mul": _binary("MUL"),
    "div": _divide,
    "maximum": _binary("MAXIMUM"),
    "minimum": _binary("MINIMUM"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda device, x, most: _clamp(device, x, None, most),
    "relu": lambda device, x: _clamp(device, x, 0.0),
    "reciprocal": lambda device, x: device.binary("DIV", device.scalar(1.0), x),
    "neg": lambda device, x: device.binary("MUL", x, device.scalar(-1.0)),  # as the converter writes it
    "abs": _unary("ABS"),
    "sqrt": _unary("SQRT"),
    "rsqrt": _unary("RSQRT"),
    "exp": _unary("EXP"),
    "tanh": _unary("TANH"),
    "sigmoid": _unary("LOGISTIC"),
    "gelu": _gelu,
    "silu": _silu,
    "pow": _power,
    "sum": _reduction("SUM"),
    "mean": _reduction("MEAN"),
    "_softmax": _softmax,
    "_safe_softmax": _softmax,
    "linalg_vector_norm": _vector_norm,
    "mm": lambda device, a, b: device.matmul(a, b),
    "addmm": _addmm,
    "bmm": lambda device, a, b: device.batch_matmul(a, b),
    "baddbmm": _baddbmm,
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "_fused_rms_norm": _rms_norm,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
}
"""By the operation's name in torch, without overload and without the underscore of its in-place form."""
