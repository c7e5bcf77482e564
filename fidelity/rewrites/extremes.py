"""Activations that photographs do not give: what a proof must also hold on."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fidelity.models.massive import PATTERN

SMALLEST, LARGEST = 1e-6, 6e4
_MASSIVE = 300.0


def extreme_activations(x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Named variants of a recorded activation [B, N, C] (or [..., C]), same shape and dtype.

    Between them they reach from 1e-6 to 6e4 in magnitude, within one call as well.
    """
    top = x.abs().max().clamp(min=torch.finfo(x.dtype).tiny)
    yield "tiny", x * (SMALLEST / top)
    yield "huge", x * (LARGEST / top)
    rows = x.shape[-2] if x.ndim > 1 else 1
    ramp = torch.logspace(-6, 4.778, rows, dtype=torch.float64).to(x.dtype)  # 10^4.778 is 6e4
    yield "rows from tiny to huge", x / top * ramp.reshape(-1, 1)
    massive = x.clone()
    for place, share in enumerate(PATTERN):
        massive[..., (2 * place + 1) * x.shape[-1] // 8] = _MASSIVE * share
    yield "massive channels", massive
    yield "far above zero", x + 30 * top
    yield "far below zero", x - 30 * top
