"""Rewrite 2: interleaved rotary embedding to rotate-half, by a permutation baked into q and k.

Interleaved RoPE turns channel pairs (0, 1), (2, 3), ...; picking them apart, x[..., ::2], lowers
to a gather that the GPU refuses. With the even channels first and the odd ones after, the same
pairs lie half a head apart and halves are rotated instead. The permutation goes into the rows of
the q and k projections and into what is stored per channel of their norms; q.k sums the same
products in another order.
"""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers.attention import AttentionRope
from timm.models.eva import EvaAttention
from torch import nn

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.split_qkv import SplitAttention
from fidelity.rewrites.weights_map import Copied, Origin, stored_tensors

_ROTARY = (AttentionRope, EvaAttention, SplitAttention)


class RotateHalfAttention(nn.Module):
    """Attention whose q and k channels are even-then-odd in each head, with constant sine and cosine.

    The rotary embedding is the model's own, permuted likewise and stored; the one that the model
    hands over at run time is not read.
    """

    def __init__(self, inner: nn.Module, rope_half: torch.Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("rope_half", rope_half)

    def forward(
        self,
        x: torch.Tensor,
        rope: torch.Tensor | None = None,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """Same call and result as the attention it replaces; `rope` is replaced by the constant."""
        del rope
        return cast("torch.Tensor", self.inner(x, rope=self.rope_half, attn_mask=attn_mask, is_causal=is_causal))


class RotateHalf:
    """Interleaved RoPE attention, fused or split, to rotate-half."""

    contract = Contract(
        name="rotate_half",
        version=1,
        applies_to="attention with interleaved rotary embedding whose sine and cosine the model fixes",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: q.k sums the same products in another order",
        fp16_domain="wherever the original is finite in fp16, up to the order of q.k's sum",
        reason="x[..., ::2] lowers to a gather, which the delegate refuses",
        cures="gathers and strided slices",
    )

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, _ROTARY)

    def refuses(self, site: Site) -> str | None:
        module = site.module
        if not isinstance(module, _ROTARY):
            return f"{type(module).__name__} is not an attention that takes a rotary embedding"
        if module.rotate_half:
            return "rotates halves already"
        if site.rope is None or site.rope_computed:
            return "the model hands this attention no rotary embedding of a fixed size that it stores"
        if site.rope.ndim != 2 or site.rope.shape[-1] != 2 * module.head_dim:
            return f"a rotary embedding of shape {tuple(site.rope.shape)} is not [tokens, 2 x {module.head_dim}]"
        if isinstance(module, EvaAttention | AttentionRope) and module.qkv is None and _grouped(module):
            return "fewer key heads than query heads"
        return _unknown_norm(module)

    def rewrite(self, site: Site) -> Rewritten:
        module = site.module
        rope = cast("torch.Tensor", site.rope)
        order = even_then_odd(cast("int", module.head_dim))
        inner = copy.deepcopy(module)
        inner.rotate_half = True  # type: ignore[assignment]
        origins: dict[str, Origin] = {f"inner.{name}": Copied(name) for name in stored_tensors(module)}
        for name, index in _permuted_rows(module, order).items():
            tensor = inner.get_parameter(name) if name != "k_bias" else inner.get_buffer(name)
            tensor.data = tensor.data[torch.from_numpy(index)].clone()
            origins[f"inner.{name}"] = Copied(name, index)
        halves = torch.from_numpy(np.concatenate([order, order + len(order)]))
        origins["rope_half"] = Copied(site.rope_tensor, halves.numpy(), axis=1)
        half = rope.detach()[:, halves].clone()
        return Rewritten(RotateHalfAttention(inner, half).train(module.training), origins)


def even_then_odd(width: int) -> NDArray[np.int64]:
    """The permutation [0, 2, 4, ..., 1, 3, 5, ...] of a head's channels."""
    return np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])


def _permuted_rows(module: nn.Module, order: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """For every tensor of the module whose rows are q or k channels, the new order of its rows."""
    heads = cast("int", module.num_heads)
    one = np.concatenate([order + head * len(order) for head in range(heads)])
    fused = np.concatenate([one, one + len(one), np.arange(2 * len(one), 3 * len(one))])
    per_name = {"q_proj": one, "k_proj": one, "qkv": fused, "q_norm": order, "k_norm": order}
    rows = {}
    for name in stored_tensors(module):
        head = name.split(".", maxsplit=1)[0]
        if name in ("q_bias", "k_bias"):
            rows[name] = one
        elif head in per_name:
            rows[name] = per_name[head]
    return rows


def _grouped(module: nn.Module) -> bool:
    return getattr(module, "num_kv_groups", 1) != 1


def _unknown_norm(module: nn.Module) -> str | None:
    """A permutation commutes with a norm over the head's channels only if the norm is symmetric."""
    for name in ("q_norm", "k_norm"):
        norm = getattr(module, name)
        symmetric = isinstance(norm, nn.Identity | nn.LayerNorm | nn.RMSNorm) or "RmsNorm" in type(norm).__name__
        if not symmetric:
            return f"{name} is a {type(norm).__name__}, which is not known to commute with a permutation"
    return None
