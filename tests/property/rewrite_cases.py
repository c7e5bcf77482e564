"""Hypothesis strategies for what rewrites are applied to: real timm modules with drawn shapes and weights.

A case is a small model that holds the module where a whole model would, so that rewrites are applied
by `apply_rewrites` itself, and a call of that module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from timm.layers import AttentionPoolLatent, RotaryEmbeddingCat
from timm.layers.attention import Attention, AttentionRope
from timm.models.eva import EvaAttention
from torch import nn

from fidelity.models.counter_random import normal


class Holder(nn.Module):
    """A model of one block: `blocks.0` is the module, `rope` the embedding that it is handed."""

    def __init__(self, module: nn.Module, rope: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([module])
        self.rope = rope


@dataclass(frozen=True)
class Case:
    """A model, and a call of the module at `blocks.0`: x [B, N, C] in float64 and keyword arguments."""

    model: Holder
    x: torch.Tensor
    kwargs: dict[str, Any] = field(default_factory=dict)
    told: str = ""

    def __repr__(self) -> str:
        return self.told


@st.composite
def attentions(draw: st.DrawFn, rotary: bool, fused: bool = True) -> Case:
    """timm's attentions with a fused qkv: rotary or plain, qk-norm or not, gated or not."""
    kind = draw(st.sampled_from([AttentionRope, EvaAttention] if rotary else [Attention, AttentionRope, EvaAttention]))
    heads, width = draw(st.integers(1, 3)), draw(st.sampled_from([4, 8, 12]))
    options: dict[str, Any] = {
        "qkv_bias": draw(st.booleans()),
        "qk_norm": draw(st.booleans()),
        "scale_norm": draw(st.booleans()),
        "gated": draw(st.booleans()),
    }
    grid = (draw(st.integers(1, 3)), draw(st.integers(2, 4)))
    prefix = draw(st.integers(0, 2))
    norm = nn.LayerNorm
    if kind is Attention:
        module: nn.Module = Attention(heads * width, heads, norm_layer=norm, **options)
    else:
        module = kind(heads * width, heads, norm_layer=norm, num_prefix_tokens=prefix, qkv_fused=fused, **options)
    rope = RotaryEmbeddingCat(width, in_pixels=False, feat_shape=list(grid)) if rotary else None
    tokens = prefix + grid[0] * grid[1]
    model = filled(draw, Holder(module, rope))
    x = activation(draw, (draw(st.integers(1, 2)), tokens, heads * width))
    kwargs = {"rope": rope.get_embed().double()} if rope is not None else {}
    told = f"{kind.__name__}({heads} heads of {width}, {options}), prefix {prefix}, grid {grid}"
    return Case(model.eval(), x, kwargs, told)


@st.composite
def pools(draw: st.DrawFn) -> Case:
    """AttentionPoolLatent with one latent query."""
    heads, width = draw(st.integers(2, 3)), draw(st.sampled_from([4, 6, 8]))
    tokens = draw(st.integers(2, 9))
    options: dict[str, Any] = {
        "qkv_bias": draw(st.booleans()),
        "qk_norm": draw(st.booleans()),
        "pos_embed": draw(st.sampled_from(["", "abs"])),
        "pool_type": draw(st.sampled_from(["token", "avg"])),
    }
    pool = AttentionPoolLatent(
        heads * width, num_heads=heads, feat_size=tokens, norm_layer=nn.LayerNorm, mlp_ratio=2.0, **options
    )
    model = filled(draw, Holder(pool, None))
    return Case(model.eval(), activation(draw, (draw(st.integers(1, 2)), tokens, heads * width)), {}, f"pool {options}")


@st.composite
def layernorms(draw: st.DrawFn) -> Case:
    """nn.LayerNorm over the last axis, affine or not, eps of real models."""
    width = draw(st.sampled_from([3, 16, 48, 192]))
    eps = draw(st.sampled_from([1e-6, 1e-5]))
    norm = nn.LayerNorm(width, eps=eps, elementwise_affine=draw(st.booleans()))
    model = filled(draw, Holder(norm, None))
    return Case(model.eval(), activation(draw, (2, draw(st.integers(1, 6)), width)), {}, f"LayerNorm({width}, {eps})")


def filled(draw: st.DrawFn, model: Holder) -> Holder:
    """Weights of unit gain from a drawn seed, with a few outliers thirty times larger."""
    seed, outliers = draw(st.integers(0, 2**16)), draw(st.booleans())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.from_numpy(normal(seed, name, tuple(parameter.shape)).copy())
            if parameter.ndim > 1:
                values /= parameter.shape[-1] ** 0.5
            elif "norm" in name and name.endswith("weight"):
                values = 1 + 0.3 * values
            if outliers:
                values.view(-1)[:: max(7, values.numel() // 3)] *= 30 if parameter.ndim > 1 else 3
            parameter.copy_(values)
    return model


def activation(draw: st.DrawFn, shape: tuple[int, ...]) -> torch.Tensor:
    """Float64 activations from 1e-6 to 6e4, with an offset or not."""
    values = torch.from_numpy(normal(draw(st.integers(0, 2**16)), "activation", shape).copy()).double()
    scale = draw(st.sampled_from([1e-6, 1e-3, 1.0, 1.0, 30.0, 1.3e4]))
    return (values + draw(st.sampled_from([0.0, 0.0, 2.0]))) * scale
