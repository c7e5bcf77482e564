"""LayerNorm over the channels of an image, [B, C, H, W], that fp16 cannot overflow.

timm's LayerNorm2d moves the channels last, normalises and moves them back. Here axis 1 is reduced
where it is, and the squares are those of the values times 1/32, with eps / 32^2, as in
`safe_layernorm.py`: the same real number, no transposition, rank 4 throughout.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.layers import LayerNorm2d
from timm.layers.norm import LayerNormExp2d
from torch import nn

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.safe_layernorm import CHANNEL_NORMS, FIXED_SCALE
from fidelity.rewrites.weights_map import Copied, stored_tensors

_TAKEN = (LayerNorm2d, LayerNormExp2d)


class SafeLayerNorm2d(nn.Module):
    """[B, C, H, W] normalised over C at each place, then gain and bias of each channel."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The normalised image, same shape and dtype."""
        scaled = x * (1 / FIXED_SCALE)
        centred = scaled - scaled.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        y = centred * torch.rsqrt(variance + self.eps / FIXED_SCALE**2)
        if self.weight is not None:
            y = y * self.weight.reshape(1, -1, 1, 1)
        return y + self.bias.reshape(1, -1, 1, 1) if self.bias is not None else y


class SafeLayerNorm2dRewrite:
    """timm's LayerNorm2d to SafeLayerNorm2d."""

    contract = Contract(
        name="safe_layernorm_2d",
        version=1,
        applies_to="timm's LayerNorm2d: the channels of [B, C, H, W]",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: two passes in plain arithmetic instead of the library's fused kernel; "
        "the scale itself is a power of two and rounds nothing",
        fp16_domain="places whose channels deviate by 0.03 to 295 (768 channels; 9.24 x 32, times "
        "sqrt(768 / channels)), for the reasons of safe_layernorm",
        fp16_row_deviation=(0.03, 295.0),
        reason="the delegate squares or sums the variance in fp16, which overflows at |x| of 50 to 256",
        cures="fp16 overflow in the variance of a LayerNorm over channels",
    )

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, CHANNEL_NORMS)

    def refuses(self, site: Site) -> str | None:
        if not isinstance(site.module, CHANNEL_NORMS):
            return f"{type(site.module).__name__} is not a LayerNorm over the channels of an image"
        if not isinstance(site.module, _TAKEN):
            return "computes in float32 whatever it is given, so float64 has no truth to hold it against"
        return None

    def rewrite(self, site: Site) -> Rewritten:
        new = SafeLayerNorm2d(cast("nn.LayerNorm", site.module)).train(site.module.training)
        return Rewritten(new, {name: Copied(name) for name in stored_tensors(new)})
