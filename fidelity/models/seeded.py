"""Weights from a seed that behave like a trained vision transformer's where arithmetic cares.

Random initialisation will not do: a deep network of plainly random blocks forgets its image, and
then every comparison of outputs passes. Here each attention and MLP adds a stated share of the
stream's rms, queries and keys are sharp enough that attention picks tokens, and the embedding
depends on the image (tests hold it to that). All of it is a function of shapes and the seed
alone: nothing is measured on a run, so the bits are the same for every torch version.

Roles are told by what modules are and what timm calls them, so they carry over to the other vision
transformers: `seeded_roles.py`.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from fidelity.models.counter_random import normal
from fidelity.models.seeded_roles import gains, stream_rms

__all__ = ["fill_seeded", "stream_rms"]

_VECTORS = ("pos_embed", "cls_token", "reg_token", "dist_token", "latent")


def fill_seeded(model: nn.Module, seed: int) -> None:
    """Overwrite every parameter of `model` in place with seeded float32 values.

    Gains follow each parameter's role: norms' gains near 1, linear maps with unit rms out for
    unit rms in, residual updates scaled to the stream of their depth, vectors small.
    """
    known = dict(gains(model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre, deviation = known.get(name) or _default(name, parameter)
            values = normal(seed, name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values).mul_(deviation).add_(centre))


def _default(name: str, parameter: nn.Parameter) -> tuple[float, float]:
    """Matrices and kernels keep the rms of their input; vectors are small; LayerScale is 1 on average."""
    if name.endswith((".gamma", "gamma_1", "gamma_2")):
        return 1.0, 0.1
    if parameter.ndim >= 2 and not name.endswith(_VECTORS):
        return 0.0, 1 / math.sqrt(math.prod(parameter.shape[1:]))
    return 0.0, 0.1 if parameter.ndim >= 2 else 0.05
