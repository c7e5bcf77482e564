"""LayerScale as a product whose operands the delegate broadcasts rightly.

A block multiplies what its attention and its network give by a stored gain per channel. The converter
leaves there a MUL of [tokens, channels] by [1, 1, channels], of two ranks, and ML Drift on WebGPU
(ai-edge-litert 2.3.0) then takes other channels than it should: DINOv2, DINOv3 and BEiT are resident
and wrong, in fp32 too. With an axis of one before the channels both operands have rank 4.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.layers.layer_scale import LayerScale
from timm.models.beit import Block as BeitBlock
from timm.models.eva import EvaBlock
from torch import nn

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.weights_map import Copied, stored_tensors

_BLOCKS = (EvaBlock, BeitBlock)
_CARRIED = ("norm1", "attn", "drop_path1", "norm2", "mlp", "drop_path2")


class RankedLayerScale(nn.Module):
    """x [B, N, C] times a gain [C], computed at rank 4."""

    def __init__(self, gamma: nn.Parameter) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The scaled rows, same shape and dtype."""
        batch, tokens, channels = x.shape
        return (x.reshape(batch, tokens, 1, channels) * self.gamma).reshape(batch, tokens, channels)


class RankedBlock(nn.Module):
    """A block of EVA or BEiT whose gains lie in modules; the same call: x [B, N, C] and what attention is handed."""

    norm1: nn.Module
    attn: nn.Module
    drop_path1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    drop_path2: nn.Module

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name in _CARRIED:
            self.add_module(name, cast("nn.Module", getattr(block, name)))
        self.scale1, self.scale2 = (_scale(block, name) for name in ("gamma_1", "gamma_2"))

    def forward(self, x: torch.Tensor, **handed: Any) -> torch.Tensor:
        """The stream after attention and network."""
        x = x + self.drop_path1(self.scale1(self.attn(self.norm1(x), **handed)))
        return cast("torch.Tensor", x + self.drop_path2(self.scale2(self.mlp(self.norm2(x)))))


class RankedLayerScaleRewrite:
    """timm's LayerScale, and the blocks of EVA and BEiT that keep its gains themselves."""

    contract = Contract(
        name="ranked_layer_scale",
        version=1,
        applies_to="LayerScale on [B, N, C], and blocks of timm's EVA and BEiT with gains of their own",
        exactness=Exactness.EXACT,
        bound="none: the same numbers are multiplied, each once",
        fp16_domain="wherever the original is finite in fp16: the same products are rounded",
        reason="a MUL of operands of two ranks, which ML Drift on WebGPU computes wrongly",
        cures="wrong numbers behind a LayerScale, at full residency",
    )

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, LayerScale) or (
            isinstance(module, _BLOCKS) and any(_gain(module, name) is not None for name in ("gamma_1", "gamma_2"))
        )

    def refuses(self, site: Site) -> str | None:
        module = site.module
        if not self.concerns(module):
            return f"{type(module).__name__} has no gain per channel"
        if isinstance(module, LayerScale) and module.inplace:
            return "it scales in place, so that its input cannot be held against the original's"
        return None

    def rewrite(self, site: Site) -> Rewritten:
        old = site.module
        if isinstance(old, LayerScale):
            scale = RankedLayerScale(old.gamma).train(old.training)
            return Rewritten(scale, {"gamma": Copied("gamma")})
        block = RankedBlock(old).train(old.training)
        renamed = {"scale1.gamma": "gamma_1", "scale2.gamma": "gamma_2"}
        return Rewritten(block, {name: Copied(renamed.get(name, name)) for name in stored_tensors(block)})


def _gain(block: nn.Module, name: str) -> nn.Parameter | None:
    return cast("nn.Parameter | None", getattr(block, name))


def _scale(block: nn.Module, name: str) -> nn.Module:
    gamma = _gain(block, name)
    return nn.Identity() if gamma is None else RankedLayerScale(gamma)
