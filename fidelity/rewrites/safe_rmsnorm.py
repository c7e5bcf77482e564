"""RMSNorm whose mean of squares fp16 cannot overflow.

RMSNorm divides a row by the root of its mean square and takes no mean off, so a massive channel
counts in full. As in `safe_layernorm.py` the row is multiplied by 1/32 before it is squared, with
eps / 32^2 in place of eps: the scale cancels and nothing has to be undone.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.layers import RmsNorm
from timm.layers.norm import RmsNorm2d, RmsNorm2dFp32, RmsNormFp32
from torch import nn

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.safe_layernorm import FIXED_SCALE
from fidelity.rewrites.weights_map import Copied, stored_tensors

_KIND = (nn.RMSNorm, RmsNorm, RmsNormFp32, RmsNorm2d, RmsNorm2dFp32)
_TAKEN = (nn.RMSNorm, RmsNorm)


class SafeRmsNorm(nn.Module):
    """RMSNorm over the last axis, any leading shape, computed on the row times 1/32."""

    def __init__(self, norm: nn.RMSNorm | RmsNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight = norm.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The normalised rows, same shape and dtype."""
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps  # torch's own default
        scaled = x * (1 / FIXED_SCALE)
        square = (scaled * scaled).mean(dim=-1, keepdim=True)
        y = scaled * torch.rsqrt(square + eps / FIXED_SCALE**2)
        return y * self.weight if self.weight is not None else y


class SafeRmsNormRewrite:
    """nn.RMSNorm and timm's RmsNorm over the last axis to SafeRmsNorm."""

    contract = Contract(
        name="safe_rmsnorm",
        version=1,
        applies_to="RMSNorm over the last axis",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: the mean of squares is summed in another order, and an inverse root is "
        "multiplied where the library may divide; the scale itself is a power of two and rounds nothing",
        fp16_domain="rows whose root mean square is between 0.03 and 295 (width 768; 9.24 x 32, times "
        "sqrt(768 / width)): below, eps / 1024 and the squares sink under fp16's smallest subnormal, and "
        "a row of zeros gives NaN; above, a running fp16 sum of squares overflows",
        fp16_row_deviation=(0.03, 295.0),
        reason="the delegate squares or sums in fp16: a single |x| of 256, or a root mean square of 9, is infinite",
        cures="fp16 overflow in an RMSNorm's mean of squares",
    )

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, _KIND)

    def refuses(self, site: Site) -> str | None:
        module = site.module
        if not isinstance(module, _KIND):
            return f"{type(module).__name__} is not an RMSNorm"
        if not isinstance(module, _TAKEN):
            return f"{type(module).__name__} normalises another axis, or in float32 whatever it is given"
        if len(module.normalized_shape) != 1:
            return f"normalises over {len(module.normalized_shape)} axes, not over the last one alone"
        return None

    def rewrite(self, site: Site) -> Rewritten:
        new = SafeRmsNorm(cast("nn.RMSNorm | RmsNorm", site.module)).train(site.module.training)
        return Rewritten(new, {name: Copied(name) for name in stored_tensors(new)})
