"""Prove the rewrites on the very model that will ship: weights, sites, blocks, the whole.

The unrewritten model is the only reference. Comparing a rewritten model with another rewritten one
proves nothing about either, which is how published conversions went wrong.

Four passes of each input go through the model side by side, original and rewritten in float64 and
float32, and stop at every block: its four versions are made, used by all of them and dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fidelity.models.inputs import InputSet
from fidelity.models.passes import Call, block_paths, started, stops
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.parts import Part, Parts, rewrites_by_site
from fidelity.rewrites.proof import Decision, Proof, SiteProof
from fidelity.rewrites.rounding import MonteCarloArithmetic, kappa, longest_sum, samples, storages
from fidelity.rewrites.side_by_side import Recorded, SiteRecorder, Versions, recording
from fidelity.rewrites.weights_map import WeightsLedger

Progress = Callable[[str], None]
Ranks = Callable[[str], int]
_DTYPES = (torch.float64, torch.float32)


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


class _Which(NamedTuple):
    """One pass of the proof."""

    input: str
    rewritten: bool
    dtype: torch.dtype

    def of(self, versions: Versions) -> nn.Module:
        return (versions.rewritten if self.rewritten else versions.original)[self.dtype]

    @property
    def recorded(self) -> bool:
        """Whether modules are compared on what this pass calls them with."""
        return not self.rewritten and self.dtype is torch.float64


def steps(model: nn.Module) -> int:
    """How many times `prove` tells its progress."""
    return len(block_paths(model)) + 1


def prove(
    subject: Subject,
    rewrites: Sequence[Rewrite],
    inputs: InputSet,
    progress: Progress = lambda _: None,
    stop_at: Sequence[str] | None = None,
) -> Proved:
    """Hold the rewritten model against the original on every input.

    Every rewritten module and every block is compared on its own recorded activations of the
    photographs (of every input, where none is a photograph) and on extremes made of the first; the
    whole model on every input, stress images included. Float64 versions are rewritten from the
    float64 original, so that what a rewrite derives is derived in float64 as well; float32 is
    what ships, and its weights map is checked bit for bit.

    `stop_at` are the blocks that are in memory one at a time, by default all; the proof does not
    depend on it.
    """
    paths = block_paths(subject.model) if stop_at is None else tuple(stop_at)
    parts = Parts(subject.model, rewrites, paths)
    rest = parts.rest()
    collected = _Collected(WeightsLedger(subject.model))
    outputs = _run(parts, rest, inputs, collected, progress)
    progress("the whole model")
    sites = collected.by_site
    everything = tuple(dict.fromkeys(name for path in sorted(sites) for name in sites[path]))
    whole = SiteRecorder("", everything, extremes=False)
    for name, array in inputs.arrays.items():
        results = {
            dtype: (outputs[_Which(name, False, dtype)], outputs[_Which(name, True, dtype)]) for dtype in _DTYPES
        }
        image = torch.from_numpy(array).double()
        amplified = partial(_amplification, parts, rest, image, results[torch.float64][0])
        with torch.no_grad():
            whole.judge(name, results, longest_sum(subject.model, [image]), amplified)
    proof = Proof(
        source=subject.source,
        weights=subject.weights,
        contracts=tuple(rewrite.contract for rewrite in rewrites),
        decisions=_in_order(collected.decisions, rewrites, _ranks(rest.versions.original[torch.float32])),
        weights_map=collected.ledger.proof(_ranks(rest.rewritten.model)),
        sites=tuple(sorted((whole.proof(), *collected.sites), key=lambda site: site.path)),
        inputs=tuple(inputs.arrays),
    )
    return Proved(proof, {name: outputs[_Which(name, False, torch.float64)].numpy() for name in inputs.arrays})


@dataclass
class _Collected:
    """What the parts have shown so far."""

    ledger: WeightsLedger
    decisions: list[Decision] = field(default_factory=list)
    by_site: dict[str, tuple[str, ...]] = field(default_factory=dict)
    recorders: dict[str, dict[str, SiteRecorder]] = field(default_factory=dict)

    def recorders_of(self, parts: Parts, part: Part) -> dict[str, SiteRecorder]:
        """The recorders of a part; at its first sight, its decisions and weights are taken down."""
        if part.path not in self.recorders:
            prefix = f"{part.path}." if part.path else ""
            self.ledger.add(part.rewritten.model, part.rewritten.origins, prefix)
            self.decisions += part.rewritten.decisions
            self.by_site |= rewrites_by_site(part.rewritten)
            self.recorders[part.path] = parts.recorders(part)
        return self.recorders[part.path]

    @property
    def sites(self) -> list[SiteProof]:
        return [recorder.proof() for each in self.recorders.values() for recorder in each.values()]


def _run(
    parts: Parts, rest: Part, inputs: InputSet, collected: _Collected, progress: Progress
) -> dict[_Which, torch.Tensor]:
    """All passes from the images to the outputs; modules are compared on the way, or, those of `rest`, at the end."""
    watched = inputs.photographs or tuple(inputs.arrays)
    around: dict[_Which, list[Recorded]] = {}

    def called(part: Part, which: _Which, call: Call) -> tuple[torch.Tensor, list[Recorded]]:
        looked_at = which.recorded and which.input in watched
        recorders = collected.recorders_of(parts, part) if looked_at else {}
        module = which.of(part.versions)
        with torch.no_grad(), recording(recorders, module) as seen:
            return module(*call.args, **call.kwargs), seen

    def from_image(which: _Which) -> torch.Tensor:
        image = torch.from_numpy(inputs.arrays[which.input]).to(which.dtype)
        output, around[which] = called(rest, which, Call("", (image,), {}))
        return output

    collected.recorders_of(parts, rest)
    every = [_Which(name, new, dtype) for name in inputs.arrays for new in (False, True) for dtype in _DTYPES]
    with torch.no_grad(), started({which: partial(from_image, which) for which in every}) as passes:
        for path, calls in stops(passes):
            progress(path)
            part = parts.block(path)
            collected.recorders_of(parts, part)
            for which, call in calls.items():
                output, seen = called(part, which, call)
                _see(part, which.input, seen)
                passes[which].answer(output)
        outputs = {which: each.output for which, each in passes.items()}
    for path in parts.stops:
        if path not in collected.recorders:  # a block that no pass came to: its weights count, and nothing was compared
            collected.recorders_of(parts, parts.block(path))
    with torch.no_grad():
        for which in every:
            _see(rest, which.input, around[which])
    return outputs


def _see(part: Part, name: str, seen: Sequence[Recorded]) -> None:
    """Compare the part's modules on what they were called with."""
    for each in seen:
        versions = part.versions.within(part.below(each.recorder.path))
        each.recorder.see(versions, name, each.args, each.kwargs, each.output)


def _amplification(parts: Parts, rest: Part, image: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """`rounding.amplification` of the whole original on a float64 image, its noisy runs side by side."""
    around = rest.versions.original[torch.float64]
    exempt = storages(around)
    modes = [MonteCarloArithmetic(sample, exempt) for sample in range(samples(exact))]

    def noisy(mode: MonteCarloArithmetic) -> torch.Tensor:
        with torch.no_grad(), mode:
            return cast("torch.Tensor", around(image))

    with torch.no_grad(), started({place: partial(noisy, mode) for place, mode in enumerate(modes)}) as passes:
        for path, calls in stops(passes):
            block = copy.deepcopy(parts.model.get_submodule(path)).double()
            own = storages(block)
            exempt |= own
            for place, call in calls.items():
                with modes[place]:
                    output = block(*call.args, **call.kwargs)
                passes[place].answer(output)
            exempt -= own
        return kappa(exact, [each.output for each in passes.values()])


def _in_order(decisions: Sequence[Decision], rewrites: Sequence[Rewrite], ranks: Ranks) -> tuple[Decision, ...]:
    """By rewrite, in the order in which they are applied, then as the modules lie in the model."""
    applied = {rewrite.contract.name: place for place, rewrite in enumerate(rewrites)}
    return tuple(sorted(decisions, key=lambda each: (applied[each.rewrite], ranks(each.path))))


def _ranks(rest: nn.Module) -> Ranks:
    """The place in the model of the module that a path or a tensor's name lies in; a block's is its stop's."""
    places = {path: place for place, (path, _) in enumerate(rest.named_modules(remove_duplicate=False))}

    def rank(path: str) -> int:
        while path not in places:
            path = path.rpartition(".")[0]
        return places[path]

    return rank
