"""Operations of torch that a .tflite has only as several: taken apart as the converter takes them apart.

The steps are those of converted graphs (litert-torch 0.10.0), read from them; so is their order.
"""

from __future__ import annotations

import torch

from fidelity.arithmetic.torch.device import Device


def layer_norm(
    device: Device,
    x: torch.Tensor,
    shape: tuple[int, ...],
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> torch.Tensor:
    """x times r plus (0 - r times mean), r = RSQRT(mean of squared differences + eps); then gain and bias."""
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = device.reduce("MEAN", x, axes, keep=True)
    square = device.binary("SQUARED_DIFFERENCE", x, mean)
    variance = device.reduce("MEAN", square, axes, keep=True)
    root = device.unary("RSQRT", device.binary("ADD", variance, device.scalar(eps)))
    shift = device.binary("SUB", device.scalar(0.0), device.binary("MUL", root, mean))
    y = device.binary("ADD", device.binary("MUL", x, root), shift)
    return _affine(device, y, weight, bias)


def rms_norm(
    device: Device, x: torch.Tensor, shape: tuple[int, ...], weight: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """x times RSQRT(mean of squares + eps), then the gain."""
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    variance = device.reduce("MEAN", device.binary("MUL", x, x), axes, keep=True)
    root = device.unary("RSQRT", device.binary("ADD", variance, device.scalar(eps)))
    return _affine(device, device.binary("MUL", x, root), weight, None)


def vector_norm(device: Device, x: torch.Tensor, axes: tuple[int, ...], *, keep: bool) -> torch.Tensor:
    """The L2 norm: square, SUM, POW by a half."""
    total = device.reduce("SUM", device.binary("MUL", x, x), axes, keep=keep)
    return device.power(total, 0.5)


def attention(
    device: Device,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """softmax(q k^T scale + mask) v, q and k each multiplied by the root of the scale."""
    root = device.scalar((scale if scale is not None else q.shape[-1] ** -0.5) ** 0.5)
    scaled_q = device.binary("MUL", q, root)
    logits = device.batch_matmul(scaled_q, device.binary("MUL", k, root).transpose(-1, -2))
    if causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    if mask is not None:
        logits = device.binary("ADD", logits, mask)
    return device.batch_matmul(device.softmax(logits, -1), v)


def _affine(device: Device, y: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
    if weight is not None:
        y = device.binary("MUL", y, weight)
    return y if bias is None else device.binary("ADD", y, bias)
