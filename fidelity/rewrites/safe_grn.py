"""ConvNeXt V2's global response norm, whose sums of squares fp16 cannot overflow.

Each channel's L2 norm over all places of an image is divided by the mean of these norms over the
channels. The squares are summed over thousands of places: at 56 x 56 a root mean square of 4.6
passes 65,504. Norms of the image times 1/32, with eps / 32, have the same ratio.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.grn import GlobalResponseNorm
from torch import nn

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.safe_layernorm import FIXED_SCALE
from fidelity.rewrites.weights_map import Copied, stored_tensors


class SafeGlobalResponseNorm(nn.Module):
    """x + bias + weight x n, n each channel's norm over the norms' mean; [B, H, W, C] or [B, C, H, W]."""

    def __init__(self, norm: GlobalResponseNorm) -> None:
        super().__init__()
        self.eps: float = norm.eps
        self.spatial = cast("tuple[int, int]", norm.spatial_dim)
        self.channel = cast("int", norm.channel_dim)
        self.shape = cast("tuple[int, ...]", norm.wb_shape)
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The image with each channel weighted by its share of the response, same shape and dtype."""
        scaled = x * (1 / FIXED_SCALE)
        norms = (scaled * scaled).sum(dim=self.spatial, keepdim=True).sqrt()
        share = norms / (norms.mean(dim=self.channel, keepdim=True) + self.eps / FIXED_SCALE)
        answer = x * share * self.weight.reshape(self.shape) + self.bias.reshape(self.shape)
        return cast("torch.Tensor", x + answer)


class SafeGrn:
    """timm's GlobalResponseNorm to SafeGlobalResponseNorm."""

    contract = Contract(
        name="safe_grn",
        version=1,
        applies_to="timm's GlobalResponseNorm, channels first or last",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: squares are summed in another order; the scale is a power of two and rounds nothing",
        fp16_domain="channels whose root mean square over n places is at most 32 sqrt(65504 / n): 146 at 56 x 56. "
        "An image of zeros gives NaN, since eps / 32 is below fp16's smallest subnormal",
        reason="the delegate squares in fp16: a single |x| of 256 is infinite, and so is every channel's share",
        cures="fp16 overflow in a global response norm's sums of squares",
    )

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, GlobalResponseNorm)

    def refuses(self, site: Site) -> str | None:
        if not isinstance(site.module, GlobalResponseNorm):
            return f"{type(site.module).__name__} is not a GlobalResponseNorm"
        return None

    def rewrite(self, site: Site) -> Rewritten:
        new = SafeGlobalResponseNorm(cast("GlobalResponseNorm", site.module)).train(site.module.training)
        return Rewritten(new, {name: Copied(name) for name in stored_tensors(new)})
