"""Rewrite 1: one fused q, k, v projection becomes three, so that no tensor passes rank 4.

The fused projection's output is reshaped to [batch, tokens, 3, heads, head width], rank 5, which
the delegate refuses. The three projections have the fused one's rows, in its order: each output is
the same dot product of the same numbers.

BEiT's attention also looks its relative position bias up in a table at each call, a gather. The
indices are fixed, so the bias is looked up once and stored.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from timm.layers.attention import Attention, AttentionRope
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from torch import nn
from torch.nn import functional

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.weights_map import Copied, Derived, Origin, stored_tensors

_FUSED = (Attention, AttentionRope, EvaAttention, BeitAttention)
_THREE_BIASES = (EvaAttention, BeitAttention)
_CARRIED = ("q_norm", "k_norm", "norm", "gate", "proj")


class SplitAttention(nn.Module):
    """Self-attention with separate projections, everything rank 4 or less.

    Same call as timm's attentions: x [B, N, C]; `rope` [N - prefix, 2 * head width] (sine, cosine)
    or None; returns [B, N, C'].
    """

    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    q_norm: nn.Module
    k_norm: nn.Module
    norm: nn.Module
    gate: nn.Module
    proj: nn.Module

    def __init__(self, fused: nn.Module) -> None:
        super().__init__()
        self.num_heads = cast("int", fused.num_heads)
        self.num_prefix_tokens = cast("int", getattr(fused, "num_prefix_tokens", 0))
        self.rotate_half = bool(getattr(fused, "rotate_half", False))
        qkv = cast("nn.Linear", fused.qkv)
        width = qkv.out_features // 3
        self.head_dim = width // self.num_heads
        biases = _fused_bias(fused)
        for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
            rows = slice(part * width, (part + 1) * width)
            self.add_module(name, _linear(qkv.weight[rows], None if biases is None else biases[rows]))
        for name in _CARRIED:
            self.add_module(name, cast("nn.Module | None", getattr(fused, name, None)) or nn.Identity())

    def forward(
        self,
        x: torch.Tensor,
        rope: torch.Tensor | None = None,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """Attention over the tokens of `x`."""
        batch, tokens, _ = x.shape
        q = self.q_norm(self._heads(self.q_proj(x)))
        k = self.k_norm(self._heads(self.k_proj(x)))
        v = self._heads(self.v_proj(x))
        if rope is not None:
            q, k = self._rotate(q, rope), self._rotate(k, rope)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=is_causal)
        y = self.norm(y.transpose(1, 2).reshape(batch, tokens, self.num_heads * self.head_dim))
        if not isinstance(self.gate, nn.Identity):
            y = y * self.gate(x).sigmoid()
        return cast("torch.Tensor", self.proj(y))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def _rotate(self, x: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
        prefix = self.num_prefix_tokens
        turned = apply_rot_embed_cat(x[:, :, prefix:], rope, half=self.rotate_half)
        return torch.cat([x[:, :, :prefix], turned], dim=2) if prefix else turned


class SplitBiasedAttention(SplitAttention):
    """BEiT's: its logits get a bias, its own or the model's shared [heads, N, N], or both.

    Its own is stored as [1, N, heads * N] and added to logits of that shape: the converter drops the batch
    of the product's result, and ML Drift on WebGPU adds [1, heads, N, N] to [heads, N, N] wrongly, in float32
    too and at full residency (ai-edge-litert 2.3.0: correlation 0.67 of a two-head attention; so, 1.0).
    """

    def __init__(self, fused: BeitAttention) -> None:
        super().__init__(fused)
        self.register_buffer("relative_bias", _bias_rows(fused))

    def forward(  # type: ignore[override]  # timm's two attentions are called with other keywords
        self, x: torch.Tensor, shared_rel_pos_bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention over the tokens of `x`."""
        batch, tokens, _ = x.shape
        q, k, v = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        logits = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        if self.relative_bias is not None:
            rows = logits.transpose(1, 2).reshape(batch, tokens, self.num_heads * tokens) + self.relative_bias
            logits = rows.reshape(batch, tokens, self.num_heads, tokens).transpose(1, 2)
        if shared_rel_pos_bias is not None:
            logits = logits + shared_rel_pos_bias
        y = (logits.softmax(dim=-1) @ v).transpose(1, 2)
        return cast("torch.Tensor", self.proj(y.reshape(batch, tokens, self.num_heads * self.head_dim)))


class SplitQkv:
    """Fused qkv attention of timm (Attention, AttentionRope, EvaAttention, BEiT's) to SplitAttention."""

    contract = Contract(
        name="split_qkv",
        version=1,
        applies_to="timm attention with one fused qkv projection",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: three matrix products may sum in another order than one",
        fp16_domain="wherever the original is finite in fp16: the same products are summed",
        reason="the fused projection's reshape is rank 5, which the delegate refuses",
        cures="rank-5 tensors",
    )

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, _FUSED)

    def refuses(self, site: Site) -> str | None:
        module = site.module
        if not isinstance(module, _FUSED):
            return f"{type(module).__name__} is not a timm attention"
        if module.qkv is None:
            return "q, k and v are separate projections already"
        return None

    def rewrite(self, site: Site) -> Rewritten:
        fused = site.module
        split = SplitBiasedAttention(fused) if isinstance(fused, BeitAttention) else SplitAttention(fused)
        split.train(fused.training)
        return Rewritten(split, _origins(fused, split))


def _bias_rows(fused: BeitAttention) -> torch.Tensor | None:
    """BEiT's relative position bias, looked up: [1, N, heads * N], or None where it has none."""
    if fused.relative_position_bias_table is None:
        return None
    bias = fused._get_rel_pos_bias().detach()
    return cast("torch.Tensor", bias.transpose(1, 2).reshape(1, bias.shape[-1], -1).clone())


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear


def _fused_bias(fused: nn.Module) -> torch.Tensor | None:
    qkv = cast("nn.Linear", fused.qkv)
    if isinstance(fused, _THREE_BIASES):
        if fused.q_bias is None:
            return None
        return torch.cat([cast("torch.Tensor", b) for b in (fused.q_bias, fused.k_bias, fused.v_bias)])
    return qkv.bias


def _origins(fused: nn.Module, split: SplitAttention) -> dict[str, Origin]:
    width = split.num_heads * split.head_dim
    three = isinstance(fused, _THREE_BIASES)
    origins: dict[str, Origin] = {}
    for name in stored_tensors(split):
        head = name.split(".", maxsplit=1)[0]
        if name == "relative_bias":
            used = ("relative_position_bias_table", "relative_position_index")
            origins[name] = Derived(used, "table[index], [N, N, heads] as [1, N, heads x N]: nothing is rounded")
            continue
        if not head.endswith("_proj"):
            origins[name] = Copied(name)
            continue
        letter, kind = head[0], name.rsplit(".", maxsplit=1)[1]
        part = "qkv".index(letter)
        if three and kind == "bias":
            origins[name] = Copied(f"{letter}_bias")
        else:
            origins[name] = Copied(f"qkv.{kind}", np.arange(part * width, (part + 1) * width))
    return origins
