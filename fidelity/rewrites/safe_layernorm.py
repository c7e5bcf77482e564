"""Rewrite 4: LayerNorm that a delegate which reduces the variance in fp16 cannot overflow.

Massive activations make the sum of squares pass 65,504, fp16's largest; the row is then normalised
by infinity, or by garbage, and the error compounds with depth. Multiplying the row by a power of
two S^-1 before squaring, with eps / S^2 in place of eps, gives the same real number: the scale
cancels in (x/S - mean) / sqrt(var/S^2 + eps/S^2), so nothing has to be undone, and in float32 a
power of two rounds nothing. `RowScaledLayerNorm` takes the scale from each row instead and holds
where the fixed one does not: rows near zero, and rows whose deviation passes a few hundred.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from timm.layers import LayerNorm2d, LayerNormFp32
from timm.layers.norm import LayerNorm2dFp32, LayerNormExp2d
from torch import nn

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.weights_map import Copied, stored_tensors

FIXED_SCALE = 32.0
FP16_LARGEST = 65504.0
CHANNEL_NORMS = (LayerNorm2d, LayerNorm2dFp32, LayerNormExp2d)
"""timm's LayerNorms over the channels of [B, C, H, W]: nn.LayerNorms too, of one axis that is not the last."""
GREATEST_FACTOR = 128.0  # rows near zero are multiplied by no more: its square, and eps times that, stay finite in fp16


class ScaledLayerNorm(nn.Module):
    """LayerNorm over the last axis, any leading shape, computed on the row divided by a scale."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def normalise(self, scaled: torch.Tensor, eps: torch.Tensor | float) -> torch.Tensor:
        """(row - mean) / sqrt(variance + eps), then the affine map; `eps` in the scaled domain."""
        centred = scaled - scaled.mean(dim=-1, keepdim=True)
        variance = (centred * centred).mean(dim=-1, keepdim=True)
        y = centred * torch.rsqrt(variance + eps)
        if self.weight is not None:
            y = y * self.weight
        return y + self.bias if self.bias is not None else y


class SafeLayerNorm(ScaledLayerNorm):
    """The card's form: every row times 1/32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The normalised rows, same shape and dtype."""
        return self.normalise(x * (1 / FIXED_SCALE), self.eps / FIXED_SCALE**2)


class RowScaledLayerNorm(ScaledLayerNorm):
    """Every row divided by its own largest magnitude, at least `least`, and multiplied by `target`."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__(norm)
        self.target = row_target(norm.normalized_shape[-1])
        self.least = self.target / GREATEST_FACTOR

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The normalised rows, same shape and dtype."""
        amax = x.abs().amax(dim=-1, keepdim=True)
        scale = self.target / torch.clamp(amax, min=self.least)
        return self.normalise(x * scale, (scale * scale) * self.eps)


def row_target(width: int) -> float:
    """The greatest power of two whose square, summed over a row of `width`, stays finite in fp16.

    Sum of (x - mean)^2 <= sum of x^2 <= width * target^2 <= 65,504.
    """
    return 2.0 ** math.floor(math.log2(math.sqrt(FP16_LARGEST / width)))


class _LayerNormRewrite:
    """What the two scales share: which modules they are for."""

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, nn.LayerNorm | ScaledLayerNorm) and not isinstance(module, CHANNEL_NORMS)

    def refuses(self, site: Site) -> str | None:
        module = site.module
        if isinstance(module, ScaledLayerNorm):
            return "scaled already"
        if not isinstance(module, nn.LayerNorm):
            return f"{type(module).__name__} is not a LayerNorm"
        if isinstance(module, CHANNEL_NORMS):
            return f"{type(module).__name__} normalises the channels of [B, C, H, W], not the last axis"
        if isinstance(module, LayerNormFp32):
            return "computes in float32 whatever it is given, so float64 has no truth to hold it against"
        if len(module.normalized_shape) != 1:
            return f"normalises over {len(module.normalized_shape)} axes, not over the last one alone"
        return None


class SafeLayerNormRewrite(_LayerNormRewrite):
    """nn.LayerNorm over the last axis to SafeLayerNorm."""

    contract = Contract(
        name="safe_layernorm",
        version=1,
        applies_to="LayerNorm over the last axis",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: two passes in plain arithmetic instead of the library's fused kernel; "
        "the scale itself is a power of two and rounds nothing",
        fp16_domain="rows whose standard deviation is between 0.03 and 295 (width 768; 9.24 x 32, times "
        "sqrt(768 / width)): below, eps / 1024 and the squares sink under fp16's smallest subnormal, and "
        "a constant row gives NaN; above, a running fp16 sum of squares overflows. row_layernorm holds "
        "on both sides",
        fp16_row_deviation=(0.03, 295.0),
        reason="the delegate reduces the variance in fp16, which overflows at |x| of 50",
        cures="fp16 overflow in a LayerNorm's variance",
    )

    def rewrite(self, site: Site) -> Rewritten:
        return _scaled(SafeLayerNorm(cast("nn.LayerNorm", site.module)))


class RowLayerNormRewrite(_LayerNormRewrite):
    """nn.LayerNorm over the last axis to RowScaledLayerNorm."""

    contract = Contract(
        name="row_layernorm",
        version=1,
        applies_to="LayerNorm over the last axis",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: the row's scale is rounded, and cancels as a real number since eps is "
        "multiplied by its square",
        fp16_domain="every finite row: a row of zeros gives the bias, and squares cannot sum past 65,504",
        fp16_row_deviation=(0.0, FP16_LARGEST),
        reason="the fixed 1/32 fails for rows near zero and for deviations past a few hundred",
        cures="fp16 overflow and underflow in a LayerNorm's variance",
    )

    def rewrite(self, site: Site) -> Rewritten:
        return _scaled(RowScaledLayerNorm(cast("nn.LayerNorm", site.module)))


def _scaled(norm: ScaledLayerNorm) -> Rewritten:
    return Rewritten(norm, {name: Copied(name) for name in stored_tensors(norm)})
