"""Seeded weights for a text tower, by the same rules as the image tower's (`seeded`): text decides the result.

The token that ends a prompt is the same in every prompt, and its place in the stream is what is read. All
that tells prompts apart comes to it through attention, so attention's share is larger here than in the
image tower, and queries and keys are not sharpened: every token of a prompt has its say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from fidelity.models.counter_random import normal

if TYPE_CHECKING:
    from torch import nn

ATTENTION_SHARE = 0.7  # rms of an attention update, as a share of the stream's rms
MLP_SHARE = 0.35
_AVERAGE = 0.4  # rms of the mean of about six unit values: a short prompt's
_GELU_RMS = 0.65


def fill_seeded_text(tower: nn.Module, seed: int) -> None:
    """Overwrite every parameter of an open_clip text tower in place with seeded float32 values."""
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            centre, deviation = _role(name, parameter)
            values = normal(seed, f"text.{name}", tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values).mul_(deviation).add_(centre))


def _role(name: str, parameter: nn.Parameter) -> tuple[float, float]:
    """(centre, deviation) by what a parameter is for."""
    role = ".".join(name.rsplit(".", maxsplit=2)[-2:])
    if parameter.ndim < 2:
        gain = role.endswith(".gamma") or role in ("ln_1.weight", "ln_2.weight", "ln_final.weight")
        return (1.0, 0.1) if gain else (0.0, 0.05)
    unit = 1 / math.sqrt(math.prod(parameter.shape[1:]))
    deviations = {
        "token_embedding.weight": 1.0,
        "positional_embedding": 0.3,
        "text_projection": 1 / math.sqrt(parameter.shape[0]),  # stored [in, out], applied from the right
        "out_proj.weight": ATTENTION_SHARE * _stream(name) * unit / _AVERAGE,
        "c_proj.weight": MLP_SHARE * _stream(name) * unit / _GELU_RMS,
    }
    return 0.0, deviations.get(role, unit)


def _stream(name: str) -> float:
    """Rms of the residual stream before the block that a parameter belongs to."""
    block = int(name.partition("resblocks.")[2].partition(".")[0] or 0)
    return float((1 + ATTENTION_SHARE**2 + MLP_SHARE**2) ** (block / 2))
