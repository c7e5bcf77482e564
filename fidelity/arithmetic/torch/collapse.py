"""How a model's outputs fall away from the truth, block by block, as its LayerNorms are computed under a profile."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fidelity.arithmetic.layernorm_sweep import CollapsePoint
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.torch.device import TorchSite
from fidelity.arithmetic.torch.observed import Observed, block_paths, ordinary_channels
from fidelity.arithmetic.torch.run import MODULE, TorchEmulator
from fidelity.models.tower import ImageTower
from fidelity.rewrites.apply import apply_rewrites
from fidelity.rewrites.catalogue import chosen

FORMS = {"stock": "none", "safe": "safe_layernorm", "row": "row_layernorm"}
"""The forms of a LayerNorm and the rewrite that gives each."""


def collapse(model: nn.Module, form: str, profile: Profile, images: torch.Tensor, truth: Observed) -> CollapsePoint:
    """The model with its LayerNorms in this form, under the profile, on the images that `truth` is of.

    Raises BadInput for an operation that cannot be computed, naming it and its module.
    """
    tower = ImageTower(apply_rewrites(model, chosen(FORMS[form])).model)
    outputs: dict[str, NDArray[np.float32]] = {}
    paths = frozenset(block_paths(tower))

    def watch(site: TorchSite) -> Observer:
        if site.kind != MODULE or site.path not in paths:
            return unobserved

        def observe(part: Any, values: NDArray[np.float32]) -> None:
            outputs[site.path] = values.copy()

        return observe

    embedding = TorchEmulator(tower, profile).run(images, watch=watch).complete().numpy()
    correlations = [correlation(got, want) for got, want in zip(embedding, truth.embedding, strict=True)]
    return CollapsePoint(
        profile=profile.name,
        form=form,
        peak=truth.peak,
        correlation=float(np.mean(correlations)),
        worst=min(correlations),
        best=max(correlations),
        blocks=tuple(_block_correlation(outputs[path], truth.blocks[path]) for path in truth.blocks),
    )


def correlation(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Pearson's; 0 where either side is constant or not finite, which has nothing to do with the other."""
    a, b = got.astype(np.float64).ravel(), want.astype(np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    value = float(a @ b) / size if size > 0 else 0.0
    return value if np.isfinite(value) else 0.0


def _block_correlation(got: NDArray[Any], want: NDArray[np.float64]) -> float:
    """Mean over images, on the ordinary channels."""
    keep = ordinary_channels(want)
    return float(np.mean([correlation(g[..., keep], w[..., keep]) for g, w in zip(got, want, strict=True)]))
