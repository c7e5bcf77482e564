"""Weights from a seed that behave like a trained vision transformer's where arithmetic cares.

Random initialisation will not do: a deep network of plainly random blocks forgets its image, and
then every comparison of outputs passes. Here each attention and MLP adds a stated share of the
stream's rms, queries and keys are sharp enough that attention picks tokens, and the embedding
depends on the image (tests hold it to that). All of it is a function of shapes and the seed
alone: nothing is measured on a run, so the bits are the same for every torch version.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from fidelity.models.counter_random import normal

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTENTION_SHARE = 0.25  # rms of an attention update, as a share of the stream's rms
MLP_SHARE = 0.35  # the same for an MLP update
QUERY_KEY_GAIN = 1.5  # deviation of q and k entries; logits then deviate by its square, 2.25
_ATTENTION_KEEPS = 0.82  # rms of an average of unit values under such attention, measured on B/16
_GELU_RMS = 0.65  # rms of gelu(z), z standard normal: sqrt(0.4252)


def fill_seeded(model: nn.Module, seed: int) -> None:
    """Overwrite every parameter of `model` in place with seeded float32 values.

    Gains follow each parameter's role: LayerNorm gains near 1, linear maps with unit rms out for
    unit rms in, residual updates scaled to the stream of their depth, vectors small.
    """
    gains = dict(_gains(model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre, deviation = gains.get(name) or _default(name, parameter)
            values = normal(seed, name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values).mul_(deviation).add_(centre))


def stream_rms(block: int) -> float:
    """Rms of the residual stream before block `block` (0-based), unit before the first."""
    return float((1 + ATTENTION_SHARE**2 + MLP_SHARE**2) ** (block / 2))


def _gains(model: nn.Module) -> Iterator[tuple[str, tuple[float, float]]]:
    """(parameter name, (centre, deviation)) of everything whose role is not plain from its shape."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            yield f"{name}.weight", (1.0, 0.1)
            yield f"{name}.bias", (0.0, 0.05)
    blocks = getattr(model, "blocks", None)
    for index, block in enumerate(blocks if isinstance(blocks, nn.ModuleList | nn.Sequential) else ()):
        yield from _block_gains(f"blocks.{index}", block, stream_rms(index))
    pool = getattr(model, "attn_pool", None)
    if isinstance(pool, nn.Module) and isinstance(getattr(pool, "latent", None), nn.Parameter):
        latent = cast("torch.Tensor", pool.latent)
        yield "attn_pool.latent", (0.0, 1.0)
        yield "attn_pool.q.weight", (0.0, QUERY_KEY_GAIN / math.sqrt(latent.shape[-1]))


def _block_gains(name: str, block: nn.Module, stream: float) -> Iterator[tuple[str, tuple[float, float]]]:
    for path, module in block.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        unit = 1 / math.sqrt(module.in_features)
        role = path.rsplit(".", maxsplit=1)[-1]
        if role in ("q_proj", "k_proj", "qkv"):
            # one gain for a fused projection: its v rows are as large, and proj makes up for it
            yield f"{name}.{path}.weight", (0.0, QUERY_KEY_GAIN * unit)
        elif role == "proj":
            values = QUERY_KEY_GAIN if getattr(block.get_submodule("attn"), "qkv", None) is not None else 1.0
            yield (
                f"{name}.{path}.weight",
                (0.0, ATTENTION_SHARE * stream * unit / (_ATTENTION_KEEPS * values)),
            )
        elif role == "fc2":
            yield f"{name}.{path}.weight", (0.0, MLP_SHARE * stream * unit / _GELU_RMS)


def _default(name: str, parameter: nn.Parameter) -> tuple[float, float]:
    """Matrices and kernels keep the rms of their input; vectors are small; LayerScale is 1 on average."""
    if name.endswith((".gamma", "gamma_1", "gamma_2")):
        return 1.0, 0.1
    if parameter.ndim >= 2 and not name.endswith(("pos_embed", "cls_token", "reg_token", "latent")):
        return 0.0, 1 / math.sqrt(math.prod(parameter.shape[1:]))
    return 0.0, 0.1 if parameter.ndim >= 2 else 0.05
