"""Prove the rewrites on the very model that will ship: weights, sites, blocks, the whole.

The unrewritten model is the only reference. Comparing a rewritten model with another rewritten one
proves nothing about either, which is how published conversions went wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fidelity.models.inputs import InputSet
from fidelity.rewrites.apply import RewrittenModel, apply_rewrites
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.proof import Proof
from fidelity.rewrites.side_by_side import SiteRecorder, Versions, record
from fidelity.rewrites.weights_map import check_weights

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """What is proved: a float32 model and how it is called in words."""

    model: nn.Module
    source: str
    weights: str


@dataclass(frozen=True)
class Proved:
    """The proof, and the original's float64 outputs that it was made with, [1, D] by input name."""

    proof: Proof
    outputs: dict[str, NDArray[np.float64]]


def prove(
    subject: Subject, rewrites: Sequence[Rewrite], inputs: InputSet, progress: Progress = lambda _: None
) -> Proved:
    """Hold the rewritten model against the original on every input.

    Every rewritten module and every block is compared on its own recorded activations of the
    photographs (of every input, where none is a photograph) and on extremes made of the first; the
    whole model on every input, stress images included. Float64 versions are rewritten from the
    float64 original, so that what a rewrite derives is derived in float64 as well; float32 is
    what ships, and its weights map is checked bit for bit.
    """
    rewritten = apply_rewrites(subject.model, rewrites)
    original64 = copy.deepcopy(subject.model).double()
    models = (original64, subject.model), (apply_rewrites(original64, rewrites).model, rewritten.model)
    recorders = _recorders(rewritten, *(dict(zip((torch.float64, torch.float32), m, strict=True)) for m in models))
    whole = [recorder for recorder in recorders if recorder.path == ""]
    recorded_everywhere = inputs.photographs or tuple(inputs.arrays)
    outputs = {}
    for name, array in inputs.arrays.items():
        progress(name)
        watching = recorders if name in recorded_everywhere else whole
        outputs[name] = record(watching, original64, name, torch.from_numpy(array)).numpy()
    proof = Proof(
        source=subject.source,
        weights=subject.weights,
        contracts=tuple(rewrite.contract for rewrite in rewrites),
        decisions=rewritten.decisions,
        weights_map=check_weights(subject.model, rewritten.model, rewritten.origins),
        sites=tuple(recorder.proof() for recorder in recorders),
        inputs=tuple(inputs.arrays),
    )
    return Proved(proof, outputs)


def _recorders(
    rewritten: RewrittenModel, original: Mapping[torch.dtype, nn.Module], new: Mapping[torch.dtype, nn.Module]
) -> list[SiteRecorder]:
    """One for each rewritten module, each block and the whole model, in model order."""
    by_site = {
        path: tuple(d.rewrite for d in rewritten.decisions if d.refused is None and d.path == path)
        for path in rewritten.sites
    }
    blocks = [name for name, _ in original[torch.float32].named_modules() if _is_block(name)]
    everything = tuple(dict.fromkeys(name for names in by_site.values() for name in names))
    inside = {
        block: tuple(dict.fromkeys(n for p, names in by_site.items() if p.startswith(f"{block}.") for n in names))
        for block in blocks
    }
    chosen = {**by_site, **inside, "": everything}
    return [
        SiteRecorder(
            path=path,
            versions=Versions(
                {dtype: model.get_submodule(path) for dtype, model in original.items()},
                {dtype: model.get_submodule(path) for dtype, model in new.items()},
            ),
            rewrites=names,
            extremes=path != "",
        )
        for path, names in sorted(chosen.items())
    ]


def _is_block(name: str) -> bool:
    parent, _, leaf = name.rpartition(".")
    return parent == "blocks" and leaf.isdigit()
