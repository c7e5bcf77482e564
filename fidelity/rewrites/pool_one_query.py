"""Rewrite 3: an attention pool with one constant query becomes multiply and sum.

The pooling query is a constant, so its matrix product with the keys is constant x runtime: refused
by the delegate, or computed wrongly when operands are swapped to make the constant the right side.
With one query the product is (q * k).sum, the pooled value (attention * v).sum. The projected and
scaled query is computed once, in float64, and stored.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from timm.layers import AttentionPoolLatent
from torch import nn

from fidelity.rewrites.contract import Contract, Exactness, Rewritten, Site
from fidelity.rewrites.weights_map import Copied, Derived, Origin, stored_tensors


class OneQueryPool(nn.Module):
    """[B, N, C] tokens to [B, C] by one constant query per head; softmax over the tokens."""

    def __init__(self, pool: AttentionPoolLatent) -> None:
        super().__init__()
        self.num_heads: int = pool.num_heads
        self.head_dim: int = pool.head_dim
        self.register_buffer("query", constant_query(pool))
        if pool.pos_embed is not None:
            self.pos_embed: nn.Parameter | None = nn.Parameter(pool.pos_embed.detach().clone())
        else:
            self.pos_embed = None
        width = self.num_heads * self.head_dim
        self.k_proj = _rows(pool.kv, slice(0, width))
        self.v_proj = _rows(pool.kv, slice(width, 2 * width))
        self.k_norm, self.proj, self.norm = pool.k_norm, pool.proj, pool.norm
        self.mlp = pool.mlp if pool.mlp is not None else nn.Identity()
        self.has_mlp = pool.mlp is not None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pooled embedding of each image."""
        if self.pos_embed is not None:
            x = x + self.pos_embed.unsqueeze(0)
        k = self.k_norm(self._heads(self.k_proj(x)))
        v = self._heads(self.v_proj(x))
        attention = (k * self.query).sum(dim=-1).softmax(dim=-1)
        y = (attention.unsqueeze(-1) * v).sum(dim=2)
        y = self.proj(y.reshape(x.shape[0], self.num_heads * self.head_dim))
        return cast("torch.Tensor", y + self.mlp(self.norm(y)) if self.has_mlp else y)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)


class PoolOneQuery:
    """timm's AttentionPoolLatent with one latent query to OneQueryPool."""

    contract = Contract(
        name="pool_one_query",
        version=1,
        applies_to="AttentionPoolLatent with one latent query",
        exactness=Exactness.ROUNDING,
        bound="see rounding.py: the query is rounded once instead of at each step, sums run in another order",
        fp16_domain="logits and values below 65,504, as in the original",
        reason="constant x runtime matrix products are refused, or computed wrongly when reordered",
        cures="constant-by-runtime batch matmul",
    )

    def concerns(self, module: nn.Module) -> bool:
        return isinstance(module, AttentionPoolLatent)

    def refuses(self, site: Site) -> str | None:
        pool = site.module
        if not isinstance(pool, AttentionPoolLatent):
            return f"{type(pool).__name__} is not an attention pool with a latent query"
        if pool.latent_len != 1:
            return f"{pool.latent_len} latent queries: the product is a real matrix product"
        if pool.pool not in ("token", "avg"):
            return f"pool type {pool.pool!r} keeps the query axis"
        return None

    def rewrite(self, site: Site) -> Rewritten:
        pool = cast("AttentionPoolLatent", site.module)
        new = OneQueryPool(pool).train(pool.training)
        width = new.num_heads * new.head_dim
        origins: dict[str, Origin] = {name: Copied(name) for name in stored_tensors(new)}
        for part, name in enumerate(("k_proj", "v_proj")):
            rows = np.arange(part * width, (part + 1) * width)
            for kind in ("weight", "bias"):
                if f"{name}.{kind}" in origins:
                    origins[f"{name}.{kind}"] = Copied(f"kv.{kind}", rows)
        old = stored_tensors(pool)
        used = tuple(n for n in old if n == "latent" or n.startswith(("q.", "q_norm.")))
        how = "q_norm(q(latent)) / sqrt(head width), in float64, rounded once"
        origins["query"] = Derived(used, how)
        return Rewritten(new, origins)


def constant_query(pool: AttentionPoolLatent) -> torch.Tensor:
    """The projected, normed and scaled query, [1, heads, 1, head width], in the pool's dtype.

    Computed in float64 and rounded once, so it is nearer the real number than the original's own.
    """
    dtype = pool.latent.dtype
    with torch.no_grad():
        latent = cast("torch.Tensor", pool.latent).double()
        q = latent if isinstance(pool.q, nn.Identity) else _linear64(pool.q, latent)
        q = q.reshape(1, 1, pool.num_heads, pool.head_dim).transpose(1, 2)
        q = _norm64(pool.q_norm, q)
        return cast("torch.Tensor", (q * pool.head_dim**-0.5).to(dtype))


def _linear64(linear: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    y = x @ linear.weight.double().T
    return y if linear.bias is None else y + linear.bias.double()


def _norm64(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    dtype = next((p.dtype for p in norm.parameters()), torch.float64)
    try:
        return cast("torch.Tensor", norm.double()(x))
    finally:
        norm.to(dtype)


def _rows(linear: nn.Linear, rows: slice) -> nn.Linear:
    weight = linear.weight[rows]
    part = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None, dtype=weight.dtype)
    part.weight = nn.Parameter(weight.detach().clone())
    if linear.bias is not None:
        part.bias = nn.Parameter(linear.bias[rows].detach().clone())
    return part
