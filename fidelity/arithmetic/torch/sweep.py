"""The whole study of a model's LayerNorms: scales at its own magnitude, over magnitudes, and the collapse by peak."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from fidelity.arithmetic.layernorm import PER_ROW, STOCK, Scale
from fidelity.arithmetic.layernorm_sweep import (
    DIVISORS,
    MAGNITUDES,
    SHOWN,
    CollapsePoint,
    LayerNormSweep,
    ScaleOutcome,
    advise,
    scale_outcome,
)
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.torch.collapse import FORMS, collapse
from fidelity.arithmetic.torch.observed import Observed, observe_truth
from fidelity.errors import BadInput
from fidelity.models.massive import fill_massive
from fidelity.models.source import Source
from fidelity.models.weights import Weights, build_model
from fidelity.progress import Reporter

PEAKS = (0.5, 0.75, 0.85, 0.92, 1.0, 1.3)
"""Shares of the weights' peak at which a model with planted massive activations is studied."""
ROWS = 32  # rows of each norm by ranks of their deviation: the share that overflows is then known to 3 %
_FEW_ROWS = 8  # of each norm, over magnitudes
_ALL_SCALES = (STOCK, *(Scale(kind="fixed", divisor=divisor) for divisor in DIVISORS), PER_ROW)
Images = Mapping[str, NDArray[np.float32]]


def sweep_layernorm(
    source: str,
    weights: str,
    profiles: tuple[Profile, ...],
    images: Images,
    seed: int,
    reporter: Reporter,
    *,
    shares: tuple[float, ...] = PEAKS,
    forms: tuple[str, ...] = tuple(FORMS),
) -> LayerNormSweep:
    """Sweep a source model under these profiles, at least one, on images [1, 3, H, W] by name.

    Only planted massive weights have a peak to vary; others are studied as they are. Raises BadInput
    for a model without LayerNorm, EnvironmentMissing for weights that cannot be had.
    """
    choice = Weights.parse(weights)
    model = build_model(Source.parse(source), choice, seed)
    batch = torch.from_numpy(np.concatenate(list(images.values())))
    with reporter.stage("scales", 1 + len(profiles)) as step:
        step("float64")
        truth = observe_truth(model, batch, ROWS)
        if not truth.norms:
            raise BadInput(f"{source}: has no LayerNorm or RMSNorm over its last axis: there is nothing to sweep")
        scales: list[ScaleOutcome] = []
        magnitudes: list[ScaleOutcome] = []
        for profile in profiles:
            step(profile.name)
            scales += [scale_outcome(truth.norms, scale, profile) for scale in _ALL_SCALES]
            magnitudes += _over_magnitudes(truth, profile)
    points: list[CollapsePoint] = []
    studied = shares if choice.kind == "massive" else (1.0,)
    with reporter.stage("collapse", len(studied) * (1 + len(profiles) * len(forms))) as step:
        for share in studied:
            step(f"float64 at {share:g} of the peak")
            here = truth
            if share != 1:
                fill_massive(model, seed, choice.peak * share, choice.block)
                here = observe_truth(model, batch, 1)
            elif choice.kind == "massive":
                fill_massive(model, seed, choice.peak, choice.block)
            for profile in profiles:
                for form in forms:
                    step(f"{form} at {share:g} of the peak, {profile.name}")
                    points.append(collapse(model, form, profile, batch, here))
    return LayerNormSweep(
        source=source,
        weights=weights,
        seed=seed,
        inputs=tuple(images),
        peak=truth.peak,
        norms=len(truth.norms),
        scales=tuple(scales),
        magnitudes=tuple(magnitudes),
        advice=tuple(advise(tuple(s for s in scales if s.profile == profile.name)) for profile in profiles),
        collapse=tuple(points),
    )


def _over_magnitudes(truth: Observed, profile: Profile) -> list[ScaleOutcome]:
    few = {path: norm.fewer(_FEW_ROWS) for path, norm in truth.norms.items()}
    return [scale_outcome(few, scale, profile, magnitude) for scale in SHOWN for magnitude in MAGNITUDES]
