"""Planted massive activations: the condition under which the card's published collapse appears.

Trained deep vision transformers carry a few residual channels that are hundreds of times larger
than the rest, on every token, from an early block on. Seeded weights have none, so they are
planted: one block's MLP writes a fixed pattern on four channels, three quarters of the peak as a
constant (its bias) and one quarter by a ramp of the token (two hidden neurons), and every later
LayerNorm's gain is lowered on those channels and raised on the others, as trained gains are. That
keeps the outputs dependent on the image, but it is another function: at the default peak, B/16 at
64 pixels correlates 0.83 to 0.94 with the seeded model on the photographs (0.98 and more at a tenth
of it). So a massive model is judged against itself in float64, never against the seeded one.
"""

from __future__ import annotations

import torch
from torch import nn

from fidelity.errors import BadInput
from fidelity.models.counter_random import normal
from fidelity.models.seeded import fill_seeded, stream_rms

PATTERN = (1.0, -0.9, 0.8, -0.7)
CONSTANT_SHARE = 0.75
LOWERED = 0.02  # factor on a later LayerNorm's gain at the massive channels
_RAMP_SLOPE = 4.0  # steep enough that gelu(s(z+1)) - gelu(s(z-1)) is a ramp from 0 to 2 s


def fill_massive(model: nn.Module, seed: int, peak: float, block: int) -> tuple[int, ...]:
    """Seeded weights with massive activations that reach about `peak` from block `block` on.

    The largest magnitude after that block is `peak` up to the ordinary stream that lies under it
    (a few units). Returns the indices of the massive channels. Raises BadInput when the model has
    no such block or its block has no MLP with fc1, fc2 and bias to write them.
    """
    fill_seeded(model, seed)
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential) or not 0 <= block < len(blocks):
        depth = len(blocks) if isinstance(blocks, nn.ModuleList | nn.Sequential) else 0
        raise BadInput(f"weights 'massive': block {block} is not among the model's {depth} blocks")
    fc1, fc2 = (_linear(blocks[block], role, block) for role in ("fc1", "fc2"))
    width = fc2.out_features
    channels = tuple(int(width * (2 * place + 1) // 8) for place in range(len(PATTERN)))
    with torch.no_grad():
        _plant(fc1, fc2, channels, seed, peak)
        for index, norm in _norms_after(model, block):
            _reweight(norm, channels, peak, stream_rms(index))
    return channels


def _linear(block: nn.Module, role: str, index: int) -> nn.Linear:
    layer = getattr(getattr(block, "mlp", None), role, None)
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise BadInput(f"weights 'massive': block {index} has no mlp.{role} with a bias to plant in")
    return layer


def _plant(fc1: nn.Linear, fc2: nn.Linear, channels: tuple[int, ...], seed: int, peak: float) -> None:
    """Two hidden neurons see the token along one random direction, z of unit deviation."""
    direction = torch.from_numpy(normal(seed, "massive.direction", (fc1.in_features,)))
    direction /= fc1.in_features**0.5
    ramp_top = 2 * _RAMP_SLOPE
    for neuron, (shift, sign) in enumerate(((1.0, 1.0), (-1.0, -1.0))):
        fc1.weight[neuron] = _RAMP_SLOPE * direction
        fc1.bias[neuron] = _RAMP_SLOPE * shift
        fc2.weight[:, neuron] = 0
        for channel, share in zip(channels, PATTERN, strict=True):
            fc2.weight[channel, neuron] = sign * share * peak * (1 - CONSTANT_SHARE) / ramp_top
    for channel, share in zip(channels, PATTERN, strict=True):
        fc2.bias[channel] = share * peak * CONSTANT_SHARE


def _norms_after(model: nn.Module, block: int) -> list[tuple[int, nn.LayerNorm]]:
    """Every LayerNorm that reads the stream after `block`, with the number of blocks before it."""
    blocks = list(model.get_submodule("blocks").children())
    found = [
        (index, norm)
        for index in range(block + 1, len(blocks))
        for role in ("norm1", "norm2")
        if isinstance(norm := getattr(blocks[index], role, None), nn.LayerNorm)
    ]
    last = getattr(model, "norm", None)
    if isinstance(last, nn.LayerNorm):
        found.append((len(blocks), last))
    return found


def _reweight(norm: nn.LayerNorm, channels: tuple[int, ...], peak: float, stream: float) -> None:
    """Undo on the ordinary channels what the massive ones do to the row's deviation."""
    typical = peak * (CONSTANT_SHARE + (1 - CONSTANT_SHARE) / 2)
    planted = typical**2 * sum(share**2 for share in PATTERN) / norm.weight.numel()
    norm.weight.mul_((1 + planted / stream**2) ** 0.5)
    norm.weight[list(channels)] *= LOWERED
