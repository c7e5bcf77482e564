"""What each parameter of a vision transformer is for, and the gain that its role asks for.

A block is a child of a module list that timm calls `blocks` (or `transformer`, in MobileViT); the
stream before it has grown with the number of blocks before it in that list. Stages of a pyramid
begin with a norm and a convolution, so each starts from a stream of unit rms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

ATTENTION_SHARE = 0.25  # rms of an attention update, as a share of the stream's rms
MLP_SHARE = 0.35  # the same for an MLP update
QUERY_KEY_GAIN = 1.5  # deviation of q and k entries; logits then deviate by its square, 2.25
RELATIVE_BIAS = 0.5  # deviation of a relative position bias, which is added to such logits
GRN_GAIN = 0.5  # a global response norm then multiplies its channels by 1.5 on average
_ATTENTION_KEEPS = 0.82  # rms of an average of unit values under such attention, measured on B/16
_GELU_RMS = 0.65  # rms of gelu(z), z standard normal: sqrt(0.4252)
_SILU_RMS = 0.596  # rms of silu(z), z standard normal: sqrt(0.3557); of silu(z) z' as well
_NORMS = ("LayerNorm", "RMSNorm", "RmsNorm", "BatchNorm", "GroupNorm", "SimpleNorm")

Gain = tuple[float, float]
"""Centre and deviation."""


def stream_rms(block: int) -> float:
    """Rms of the residual stream before block `block` (0-based), unit before the first."""
    return float((1 + ATTENTION_SHARE**2 + MLP_SHARE**2) ** (block / 2))


def gains(model: nn.Module) -> Iterator[tuple[str, Gain]]:
    """(parameter name, gain) of everything whose role is not plain from its shape."""
    for name, module in model.named_modules():
        yield from _norm_gains(name, module)
    for path, index, block in residual_blocks(model):
        yield from _block_gains(path, block, stream_rms(index))
    pool = getattr(model, "attn_pool", None)
    if isinstance(pool, nn.Module) and isinstance(getattr(pool, "latent", None), nn.Parameter):
        latent = cast("torch.Tensor", pool.latent)
        yield "attn_pool.latent", (0.0, 1.0)
        yield "attn_pool.q.weight", (0.0, QUERY_KEY_GAIN / math.sqrt(latent.shape[-1]))


def residual_blocks(model: nn.Module) -> Iterator[tuple[str, int, nn.Module]]:
    """(path, place in its list, module) of every residual block, in model order."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and name.rpartition(".")[2] in ("blocks", "transformer"):
            for index, block in enumerate(module):
                yield f"{name}.{index}", index, block


def is_norm(module: nn.Module) -> bool:
    """True for a normalisation of torch or timm, of whatever kind."""
    return any(kind in type(module).__name__ for kind in _NORMS)


def _norm_gains(name: str, module: nn.Module) -> Iterator[tuple[str, Gain]]:
    role = name.rpartition(".")[2]
    if type(module).__name__ == "GlobalResponseNorm":
        yield f"{name}.weight", (GRN_GAIN, 0.1)
        yield f"{name}.bias", (0.0, 0.05)
    if not is_norm(module):
        return
    if isinstance(getattr(module, "weight", None), nn.Parameter):
        centre = QUERY_KEY_GAIN if role in ("q_norm", "k_norm") else 1.0
        if not isinstance(getattr(module, "act", nn.Identity()), nn.Identity):
            centre = 1 / _SILU_RMS  # what the activation takes: statistics are those of initialisation
        yield f"{name}.weight", (centre, 0.1)
    if isinstance(getattr(module, "bias", None), nn.Parameter):
        yield f"{name}.bias", (0.0, 0.05)


def _block_gains(name: str, block: nn.Module, stream: float) -> Iterator[tuple[str, Gain]]:
    for path, module in block.named_modules():
        if isinstance(getattr(module, "relative_position_bias_table", None), nn.Parameter):
            yield f"{name}.{path}.relative_position_bias_table", (0.0, RELATIVE_BIAS)
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        unit = 1 / math.sqrt(math.prod(module.weight.shape[1:]))
        parent, _, role = path.rpartition(".")
        owner: Any = block.get_submodule(parent)
        if role in ("q_proj", "k_proj", "qkv"):
            # one gain for a fused projection: its v rows are as large, and proj makes up for it
            yield f"{name}.{path}.weight", (0.0, QUERY_KEY_GAIN * unit)
        elif role == "proj":
            yield f"{name}.{path}.weight", (0.0, ATTENTION_SHARE * stream * unit / _pooled_rms(owner))
        elif role == "fc2":
            yield f"{name}.{path}.weight", (0.0, MLP_SHARE * stream * unit / _hidden_rms(owner))


def _pooled_rms(attention: Any) -> float:
    """Rms of what reaches an attention's output projection."""
    if is_norm(getattr(attention, "norm", nn.Identity())):
        return 1.0
    values = QUERY_KEY_GAIN if getattr(attention, "qkv", None) is not None else 1.0
    return _ATTENTION_KEEPS * values


def _hidden_rms(mlp: Any) -> float:
    """Rms of what reaches an MLP's second layer."""
    if is_norm(getattr(mlp, "norm", nn.Identity())):
        return 1.0
    if "Glu" in type(mlp).__name__ or "GLU" in type(mlp).__name__:
        return _SILU_RMS
    return _GELU_RMS * (1 + GRN_GAIN) if hasattr(mlp, "grn") else _GELU_RMS
