"""One float64 run of a model with what a study of its LayerNorms needs: blocks, embedding, the norms' own inputs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fidelity.arithmetic.layernorm import NormRows
from fidelity.models.tower import ImageTower

Wide = NDArray[np.float64]
_MASSIVE = 5.0  # a channel is massive whose rms is that many times the median channel's: nothing ordinary is


@dataclass(frozen=True)
class Observed:
    """The truth about some images.

    `blocks`: each block's output [N, tokens, width] by its path in the tower. `norms`: inputs of every
    norm by its path in the model, a few rows of each. `peak`: the largest magnitude after any block.
    """

    embedding: Wide
    blocks: dict[str, Wide]
    norms: dict[str, NormRows]
    peak: float


def observe_truth(model: nn.Module, images: torch.Tensor, rows: int) -> Observed:
    """Run the model in float64. Of every norm `rows` rows are kept, by evenly spaced ranks of their deviation."""
    tower = ImageTower(copy.deepcopy(model)).double().eval()
    blocks: dict[str, Wide] = {}
    norms: dict[str, NormRows] = {}
    handles = []
    for path in block_paths(tower):

        def keep(_: nn.Module, __: Any, output: torch.Tensor, path: str = path) -> None:
            blocks[path] = output.numpy().copy()

        handles.append(tower.get_submodule(path).register_forward_hook(keep))
    for path, norm in norms_of(tower.model).items():

        def record(module: nn.Module, args: tuple[torch.Tensor, ...], path: str = path) -> None:
            x = args[0].reshape(-1, args[0].shape[-1]).numpy().astype(np.float32)
            ranked = x[x.std(axis=1).argsort(kind="stable")]
            norms[path] = NormRows(ranked, _eps(module), _is_rms(module)).fewer(rows)

        handles.append(norm.register_forward_pre_hook(record))
    try:
        with torch.no_grad():
            embedding = tower(images.double()).numpy()
    finally:
        for handle in handles:
            handle.remove()
    peak = max((float(np.abs(block).max()) for block in blocks.values()), default=float("nan"))
    return Observed(embedding, blocks, norms, peak)


def block_paths(tower: ImageTower) -> tuple[str, ...]:
    """Paths of the model's blocks within the tower; none where it has no list of them."""
    blocks = getattr(tower.model, "blocks", None)
    named = blocks.named_children() if isinstance(blocks, nn.ModuleList | nn.Sequential) else ()
    return tuple(f"model.blocks.{name}" for name, _ in named)


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every LayerNorm and RMSNorm over the last axis alone, by path."""
    return {
        path: module
        for path, module in model.named_modules()
        if (isinstance(module, nn.LayerNorm) or _is_rms(module))
        and len(cast("tuple[int, ...]", module.normalized_shape)) == 1
    }


def ordinary_channels(block: Wide) -> NDArray[np.bool_]:
    """Channels that are not massive: those hide what becomes of the others, since they hardly change."""
    rms = np.sqrt((block**2).mean(axis=tuple(range(block.ndim - 1))))
    ordinary: NDArray[np.bool_] = rms <= _MASSIVE * np.median(rms)
    return ordinary


def _is_rms(module: nn.Module) -> bool:
    return "rmsnorm" in type(module).__name__.lower() and hasattr(module, "normalized_shape")


def _eps(module: nn.Module) -> float:
    eps = getattr(module, "eps", None)
    return float(torch.finfo(torch.float32).eps if eps is None else eps)
