"""Wrong rewrites: each is a real one with one mistake that an engineer makes.

A mutant keeps its origins honest where it moves whole weights, so that the weights map has nothing
to object to and the numbers must tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fidelity.rewrites.contract import Contract, Rewrite, Rewritten, Site
from fidelity.rewrites.pool_one_query import OneQueryPool, PoolOneQuery
from fidelity.rewrites.rotate_half import RotateHalf, RotateHalfAttention
from fidelity.rewrites.safe_layernorm import (
    FIXED_SCALE,
    RowLayerNormRewrite,
    RowScaledLayerNorm,
    SafeLayerNorm,
    SafeLayerNormRewrite,
)
from fidelity.rewrites.split_qkv import SplitAttention, SplitQkv
from fidelity.rewrites.weights_map import Copied, Origin

Tamper = Callable[[Site, Rewritten], Rewritten | None]


class Mutant:
    """A rewrite whose result is tampered with."""

    def __init__(self, honest: Rewrite, tamper: Tamper) -> None:
        self._honest, self._tamper = honest, tamper
        self.contract: Contract = honest.contract

    def concerns(self, module: nn.Module) -> bool:
        return self._honest.concerns(module)

    def refuses(self, site: Site) -> str | None:
        return self._honest.refuses(site)

    def rewrite(self, site: Site) -> Rewritten:
        rewritten = self._honest.rewrite(site)
        return self._tamper(site, rewritten) or rewritten


def as_class(kind: type[nn.Module]) -> Tamper:
    """Give the new module another forward."""

    def tamper(_: Site, rewritten: Rewritten) -> None:
        rewritten.module.__class__ = kind

    return tamper


def reindex(parts: Mapping[str, Callable[[Any], np.ndarray]]) -> Tamper:
    """Move rows of some of the new module's tensors, and say so in the origins."""

    def tamper(_: Site, rewritten: Rewritten) -> Rewritten:
        origins: dict[str, Origin] = dict(rewritten.origins)
        for name, tensor in rewritten.module.named_parameters():
            if (head := next((part for part in parts if f"{part}." in name), None)) is None:
                continue
            index = parts[head](rewritten.module)
            tensor.data = tensor.data[torch.from_numpy(index)].clone()
            old = origins[name]
            before = old.index if old.index is not None else np.arange(tensor.shape[0])  # type: ignore[union-attr]
            origins[name] = Copied(old.source, before[index])  # type: ignore[union-attr]
        return Rewritten(rewritten.module, origins)

    return tamper


def swap(left: str, right: str) -> Tamper:
    """Exchange two submodules and their origins."""

    def tamper(_: Site, rewritten: Rewritten) -> Rewritten:
        module = rewritten.module
        first, second = getattr(module, left), getattr(module, right)
        setattr(module, left, second)
        setattr(module, right, first)
        names = {left: right, right: left}
        origins = {}
        for name, origin in rewritten.origins.items():
            head, _, tail = name.partition(".")
            origins[f"{names.get(head, head)}.{tail}" if tail else name] = origin
        return Rewritten(module, origins)

    return tamper


def without(name: str) -> Tamper:
    """Drop a bias."""

    def tamper(_: Site, rewritten: Rewritten) -> Rewritten:
        layer, _, leaf = name.rpartition(".")
        rewritten.module.get_submodule(layer).register_parameter(leaf, None)
        return Rewritten(rewritten.module, {k: v for k, v in rewritten.origins.items() if k != name})

    return tamper


def flip_a_bit(_: Site, rewritten: Rewritten) -> None:
    """The last bit of one weight: no number shows it, the weights map must."""
    weight = next(p for n, p in rewritten.module.named_parameters() if n.endswith("proj.weight"))
    integer = torch.int64 if weight.dtype == torch.float64 else torch.int32
    weight.data.view(-1).view(integer)[0] ^= 1


def unchanged(site: Site, rewritten: Rewritten) -> Rewritten:
    """Does nothing at all."""
    return Rewritten(site.module, {name: Copied(name) for name, _ in site.module.named_parameters()})


def roll_head(tensor_rows: int, width: int) -> np.ndarray:
    return np.roll(np.arange(tensor_rows), width)


def split_rows(shift: str) -> Callable[[Any], np.ndarray]:
    def index(module: SplitAttention) -> np.ndarray:
        rows = module.num_heads * module.head_dim
        step = module.head_dim if shift == "head" else 1
        return roll_head(rows, step)

    return index


class _Unscaled(SplitAttention):
    def forward(self, x: Any, rope: Any = None, attn_mask: Any = None, is_causal: bool = False) -> Any:
        plain = nn.functional.scaled_dot_product_attention
        batch, tokens, _ = x.shape
        q = self.q_norm(self._heads(self.q_proj(x)))
        k = self.k_norm(self._heads(self.k_proj(x)))
        q, k = (self._rotate(t, rope) if rope is not None else t for t in (q, k))
        y = self.merge(plain(q, k, self._heads(self.v_proj(x)), scale=self.scale()), batch, tokens)
        return self.finish(y, x)

    def scale(self) -> float:
        return 1.0

    def merge(self, y: torch.Tensor, batch: int, tokens: int) -> torch.Tensor:
        return y.transpose(1, 2).reshape(batch, tokens, -1)

    def finish(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(y)
        return self.proj(y if isinstance(self.gate, nn.Identity) else y * self.gate(x).sigmoid())


class _ScaledTwice(_Unscaled):
    def scale(self) -> float:
        return 1.0 / self.head_dim


class _HeadsNotMovedBack(_Unscaled):
    def scale(self) -> float:
        return self.head_dim**-0.5

    def merge(self, y: torch.Tensor, batch: int, tokens: int) -> torch.Tensor:
        return y.reshape(batch, tokens, -1)


class _NoGate(_Unscaled):
    def scale(self) -> float:
        return self.head_dim**-0.5

    def finish(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.proj(self.norm(y))


class _NoScaleNorm(_NoGate):
    def finish(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.proj(y if isinstance(self.gate, nn.Identity) else y * self.gate(x).sigmoid())


SPLIT_QKV: dict[str, Tamper] = {
    "q and k swapped": swap("q_proj", "k_proj"),
    "k and v swapped": swap("k_proj", "v_proj"),
    "heads of v swapped": reindex({"v_proj": split_rows("head")}),
    "channels of k rolled": reindex({"k_proj": split_rows("channel")}),
    "bias of k dropped (softmax hides it)": without("k_proj.bias"),
    "bias of v dropped": without("v_proj.bias"),
    "softmax scale forgotten": as_class(_Unscaled),
    "softmax scale applied twice": as_class(_ScaledTwice),
    "heads not moved back": as_class(_HeadsNotMovedBack),
    "gate forgotten": as_class(_NoGate),
    "scale norm forgotten": as_class(_NoScaleNorm),
    "one bit of a weight flipped": flip_a_bit,
    "norms of q and k swapped": swap("q_norm", "k_norm"),
    "still fused": unchanged,
}


def rope_buffer(change: Callable[[torch.Tensor], torch.Tensor]) -> Tamper:
    """Another constant sine and cosine."""

    def tamper(_: Site, rewritten: Rewritten) -> None:
        rewritten.module.rope_half = change(rewritten.module.rope_half)  # type: ignore[assignment]

    return tamper


def inner_rows(part: str, order: Callable[[int, int], np.ndarray], third: int | None = None) -> Tamper:
    """Move rows of a projection inside a RotateHalfAttention, with honest origins."""

    def tamper(_: Site, rewritten: Rewritten) -> Rewritten:
        inner = rewritten.module.inner
        origins: dict[str, Origin] = dict(rewritten.origins)
        index = order(inner.num_heads, inner.head_dim)
        for name, tensor in rewritten.module.named_parameters():
            fused = name.startswith("inner.qkv.")
            if not (name.startswith(f"inner.{part}.") or (fused and third is not None)):
                continue
            rows = np.arange(tensor.shape[0])
            start = len(index) * (third or 0) if fused else 0
            rows[start : start + len(index)] = start + index
            tensor.data = tensor.data[torch.from_numpy(rows)].clone()
            old = origins[name]
            before = old.index if old.index is not None else np.arange(tensor.shape[0])  # type: ignore[union-attr]
            origins[name] = Copied(old.source, before[rows])  # type: ignore[union-attr]
        return Rewritten(rewritten.module, origins)

    return tamper


def even_odd(heads: int, width: int) -> np.ndarray:
    one = np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])
    return np.concatenate([one + head * width for head in range(heads)])


def undo(heads: int, width: int) -> np.ndarray:
    return np.argsort(even_odd(heads, width))


def halves_swapped(heads: int, width: int) -> np.ndarray:
    one = np.roll(np.arange(width), width // 2)
    return np.concatenate([one + head * width for head in range(heads)])


def set_inner(name: str, value: object) -> Tamper:
    def tamper(_: Site, rewritten: Rewritten) -> None:
        setattr(rewritten.module.inner, name, value)

    return tamper


def chain(*tampers: Tamper) -> Tamper:
    """Several mistakes that only together look like one."""

    def tamper(site: Site, rewritten: Rewritten) -> Rewritten:
        for each in tampers:
            rewritten = each(site, rewritten) or rewritten
        return rewritten

    return tamper


class _GivenRope(RotateHalfAttention):
    def forward(self, x: Any, rope: Any = None, attn_mask: Any = None, is_causal: bool = False) -> Any:
        return self.inner(x, rope=rope, attn_mask=attn_mask, is_causal=is_causal)


def unpermuted_norm(_: Site, rewritten: Rewritten) -> None:
    norm = rewritten.module.inner.q_norm
    if isinstance(norm, nn.LayerNorm):
        norm.weight.data = norm.weight.data[torch.from_numpy(undo(1, norm.weight.numel()))].clone()


def sine_flipped(rope: torch.Tensor) -> torch.Tensor:
    width = rope.shape[1] // 2
    return torch.cat([-rope[:, :width], rope[:, width:]], dim=1)


ROTATE_HALF: dict[str, Tamper] = {
    "permutation on v too": inner_rows("v_proj", even_odd, third=2),
    "permutation on q only": inner_rows("k_proj", undo, third=1),
    "permutation on k only": inner_rows("q_proj", undo, third=0),
    "odd then even": chain(
        inner_rows("q_proj", halves_swapped, third=0), inner_rows("k_proj", halves_swapped, third=1)
    ),
    "odd then even in q only": inner_rows("q_proj", halves_swapped, third=0),
    "wrong half negated": rope_buffer(sine_flipped),
    "sine and cosine swapped": rope_buffer(lambda rope: rope.roll(rope.shape[1] // 2, dims=1)),
    "embedding not permuted": as_class(_GivenRope),
    "still interleaved": set_inner("rotate_half", False),
    "embedding one token late": rope_buffer(lambda rope: rope.roll(1, dims=0)),
    "one prefix token too many": set_inner("num_prefix_tokens", 3),
    "norm of q not permuted": unpermuted_norm,
}


class _Pool(OneQueryPool):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.positioned(x)
        k, v = self.keys(x), self._heads(self.v_proj(x))
        y = self.proj(self.pooled((k * self.query).sum(dim=-1), v).reshape(x.shape[0], -1))
        return self.finish(y)

    def positioned(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.pos_embed is None else x + self.pos_embed.unsqueeze(0)

    def keys(self, x: torch.Tensor) -> torch.Tensor:
        return self.k_norm(self._heads(self.k_proj(x)))

    def pooled(self, logits: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (logits.softmax(dim=-1).unsqueeze(-1) * v).sum(dim=2)

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        return y + self.mlp(self.norm(y))


class _SoftmaxOverHeads(_Pool):
    def pooled(self, logits: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (logits.softmax(dim=1).unsqueeze(-1) * v).sum(dim=2)


class _Mean(_Pool):
    def pooled(self, logits: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return v.mean(dim=2)


class _NoPosition(_Pool):
    def positioned(self, x: torch.Tensor) -> torch.Tensor:
        return x


class _NoKeyNorm(_Pool):
    def keys(self, x: torch.Tensor) -> torch.Tensor:
        return self._heads(self.k_proj(x))


class _NoResidual(_Pool):
    def finish(self, y: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.norm(y))


class _NormAfter(_Pool):
    def finish(self, y: torch.Tensor) -> torch.Tensor:
        return y + self.norm(self.mlp(y))


def query(change: Callable[[torch.Tensor, int], torch.Tensor]) -> Tamper:
    """Another baked query."""

    def tamper(_: Site, rewritten: Rewritten) -> None:
        module = rewritten.module
        module.query = change(module.query, module.head_dim)  # type: ignore[assignment]

    return tamper


def pool_heads(module: OneQueryPool) -> np.ndarray:
    return roll_head(module.num_heads * module.head_dim, module.head_dim)


POOL: dict[str, Tamper] = {
    "softmax over the heads": as_class(_SoftmaxOverHeads),
    "mean instead of attention": as_class(_Mean),
    "position embedding dropped": as_class(_NoPosition),
    "norm of k dropped": as_class(_NoKeyNorm),
    "residual dropped": as_class(_NoResidual),
    "norm after the mlp": as_class(_NormAfter),
    "scale forgotten": query(lambda q, width: q * width**0.5),
    "scale applied twice": query(lambda q, width: q * width**-0.5),
    "query rounded to fp16": query(lambda q, _: q.half().to(q.dtype)),
    "heads of the query swapped": query(lambda q, _: q.roll(1, dims=1)),
    "heads of v swapped": reindex({"v_proj": pool_heads}),
    "k and v swapped": swap("k_proj", "v_proj"),
    "one bit of a weight flipped": flip_a_bit,
}


class _Norm(SafeLayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = x * (1 / FIXED_SCALE)
        centred = scaled - scaled.mean(dim=-1, keepdim=True)
        y = self.normalised(centred, scaled, self.eps / FIXED_SCALE**2)
        return self.affine(y)

    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return centred * torch.rsqrt((centred * centred).mean(dim=-1, keepdim=True) + eps)

    def affine(self, y: torch.Tensor) -> torch.Tensor:
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias


class _EpsAsItIs(_Norm):
    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return super().normalised(centred, scaled, self.eps)


class _EpsOnceScaled(_Norm):
    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return super().normalised(centred, scaled, self.eps / FIXED_SCALE)


class _NoEps(_Norm):
    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return super().normalised(centred, scaled, 0.0)


class _EpsOutsideTheRoot(_Norm):
    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return centred / ((centred * centred).mean(dim=-1, keepdim=True).sqrt() + eps)


class _ScaleUndoneTwice(_Norm):
    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return super().normalised(centred, scaled, eps) * FIXED_SCALE


class _SampleVariance(_Norm):
    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return centred * torch.rsqrt(scaled.var(dim=-1, keepdim=True, unbiased=True) + eps)


class _MeanLeftIn(_Norm):
    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return scaled * torch.rsqrt((centred * centred).mean(dim=-1, keepdim=True) + eps)


class _RootMeanSquare(_Norm):
    def normalised(self, centred: torch.Tensor, scaled: torch.Tensor, eps: float) -> torch.Tensor:
        return centred * torch.rsqrt((scaled * scaled).mean(dim=-1, keepdim=True) + eps)


class _NoBias(_Norm):
    def affine(self, y: torch.Tensor) -> torch.Tensor:
        return y if self.weight is None else y * self.weight


class _BiasBeforeGain(_Norm):
    def affine(self, y: torch.Tensor) -> torch.Tensor:
        return y if self.weight is None else (y + self.bias) * self.weight


class _HalfPrecisionScale(_Norm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.half().to(x.dtype))


SAFE_LAYERNORM: dict[str, Tamper] = {
    "eps not scaled": as_class(_EpsAsItIs),
    "eps scaled once": as_class(_EpsOnceScaled),
    "eps forgotten": as_class(_NoEps),
    "eps outside the root": as_class(_EpsOutsideTheRoot),
    "scale undone twice": as_class(_ScaleUndoneTwice),
    "variance over K - 1": as_class(_SampleVariance),
    "mean left in": as_class(_MeanLeftIn),
    "mean left in the variance": as_class(_RootMeanSquare),
    "bias dropped": as_class(_NoBias),
    "bias before gain": as_class(_BiasBeforeGain),
    "row rounded to fp16": as_class(_HalfPrecisionScale),
}


class _RowEpsAsItIs(RowScaledLayerNorm):
    def normalise(self, scaled: torch.Tensor, eps: Any) -> torch.Tensor:
        return super().normalise(scaled, self.eps)


class _RowEpsOnceScaled(RowScaledLayerNorm):
    def normalise(self, scaled: torch.Tensor, eps: Any) -> torch.Tensor:
        return super().normalise(scaled, (eps * self.eps) ** 0.5)


class _OneScaleForAllRows(RowScaledLayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.target / x.abs().amax(dim=-1, keepdim=True)
        return self.normalise(x * scale, scale[..., :1, :] * scale[..., :1, :] * self.eps)


class _SignedLargest(RowScaledLayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.target / x.amax(dim=-1, keepdim=True)
        return self.normalise(x * scale, (scale * scale) * self.eps)


ROW_LAYERNORM: dict[str, Tamper] = {
    "eps left in the scaled domain": as_class(_RowEpsAsItIs),
    "eps scaled once": as_class(_RowEpsOnceScaled),
    "one scale for all rows": as_class(_OneScaleForAllRows),
    "largest value with its sign": as_class(_SignedLargest),
}

MUTANTS: dict[str, tuple[Callable[[], Rewrite], dict[str, Tamper]]] = {
    "split_qkv": (SplitQkv, SPLIT_QKV),
    "rotate_half": (RotateHalf, ROTATE_HALF),
    "pool_one_query": (PoolOneQuery, POOL),
    "safe_layernorm": (SafeLayerNormRewrite, SAFE_LAYERNORM),
    "row_layernorm": (RowLayerNormRewrite, ROW_LAYERNORM),
}
