"""A rotary embedding that the model computes at each call becomes a stored constant.

DINOv3's position embedding is a function of the image size alone, and the models take any size: their
graph has a sine, a cosine and a BROADCAST_TO of constants, which the delegate refuses. An artefact has
one size, so sine and cosine are computed once, in float64, and stored with each attention.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.attention import AttentionRope
from timm.models.eva import EvaAttention
from torch import nn

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.split_qkv import SplitAttention
from fidelity.rewrites.weights_map import Copied, Derived, Origin, stored_tensors

_ROTARY = (AttentionRope, EvaAttention, SplitAttention)


class FixedRopeAttention(nn.Module):
    """Attention with a constant sine and cosine: the one that the model hands over is not read."""

    def __init__(self, inner: nn.Module, rope: torch.Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("rope", rope)

    def forward(
        self,
        x: torch.Tensor,
        rope: torch.Tensor | None = None,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """Same call and result as the attention it replaces; `rope` is replaced by the constant."""
        del rope
        return cast("torch.Tensor", self.inner(x, rope=self.rope, attn_mask=attn_mask, is_causal=is_causal))


class FixedRope:
    """Rotate-half attention whose model computes the rotary embedding at each call to one with a constant."""

    contract = Contract(
        name="fixed_rope",
        version=1,
        applies_to="rotate-half attention of a model that computes its rotary embedding from the image size",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: sine and cosine are rounded once, from float64",
        fp16_domain="everywhere: the original computes angles and sines in fp16, this rounds their true values",
        reason="the embedding's BROADCAST_TO is refused, and its sines would be computed in fp16",
        cures="sines, cosines and BROADCAST_TO of a rotary embedding",
    )

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, _ROTARY) and bool(module.rotate_half)

    def refuses(self, site: Site) -> str | None:
        if not self.concerns(site.module):
            return f"{type(site.module).__name__} is not an attention that rotates halves"
        if site.rope is None:
            return "the model hands this attention no rotary embedding of a known size"
        if not site.rope_computed:
            return "the model stores its rotary embedding already"
        return None

    def rewrite(self, site: Site) -> Rewritten:
        fixed = FixedRopeAttention(site.module, cast("torch.Tensor", site.rope).detach().clone())
        origins: dict[str, Origin] = {f"inner.{name}": Copied(name) for name in stored_tensors(site.module)}
        how = "sine and cosine of the patches' angles, in float64, rounded once"
        origins["rope"] = Derived((site.rope_tensor,), how)
        return Rewritten(fixed.train(site.module.training), origins)
