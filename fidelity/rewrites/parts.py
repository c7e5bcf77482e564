"""A model in parts, each in the four versions that a proof compares: the blocks, and the rest around them.

A part is made from the float32 original when it is asked for and belongs to whoever asked, so a proof
holds the original and one block in four versions, whatever the model's depth.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from fidelity.models.passes import block_paths, without_blocks
from fidelity.rewrites.apply import Place, RewrittenModel, apply_rewrites, owner_prefix, rotary_embeddings
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.side_by_side import SiteRecorder, Versions


@dataclass(frozen=True)
class Part:
    """One part: its path in the model, its versions, and what the rewriting of it in float32 was."""

    path: str
    versions: Versions
    rewritten: RewrittenModel

    def below(self, path: str) -> str:
        """A path of the model as one of the part, which it must lie in."""
        return path.removeprefix(owner_prefix(self.path)) if path != self.path else ""


class Parts:
    """The parts of a model under rewrites. `stops` are the blocks that are parts of their own."""

    def __init__(self, model: nn.Module, rewrites: Sequence[Rewrite], stops: Sequence[str]) -> None:
        self.model, self.stops, self._rewrites = model, tuple(stops), rewrites
        self._blocks = block_paths(model)
        around = without_blocks(model, stops)
        self._rotary = rotary_embeddings(around)
        self._rotary64 = rotary_embeddings(around.double())  # some are computed: in float64, not widened

    def rest(self) -> Part:
        """The model with a stop in the place of every block that is a part of its own."""
        return self._made(without_blocks(self.model, self.stops), "")

    def block(self, path: str) -> Part:
        """The block at this path."""
        return self._made(self.model.get_submodule(path), path)

    def _made(self, original: nn.Module, path: str) -> Part:
        original64 = copy.deepcopy(original).double()
        rewritten = apply_rewrites(original, self._rewrites, Place(path, self._rotary))
        rewritten64 = apply_rewrites(original64, self._rewrites, Place(path, self._rotary64)).model
        versions = Versions(
            {torch.float64: original64, torch.float32: original},
            {torch.float64: rewritten64, torch.float32: rewritten.model},
        )
        return Part(path, versions, rewritten)

    def recorders(self, part: Part) -> dict[str, SiteRecorder]:
        """One for each rewritten module and each block of the part, by its path there."""
        by_site = rewrites_by_site(part.rewritten)
        found = {
            block: tuple(dict.fromkeys(chain.from_iterable(n for p, n in by_site.items() if _within(p, block))))
            for block in self._blocks
            if (block == part.path if part.path else block not in self.stops)
        }
        chosen = {**by_site, **found}
        return {part.below(path): SiteRecorder(path, names, extremes=True) for path, names in sorted(chosen.items())}


def rewrites_by_site(rewritten: RewrittenModel) -> dict[str, tuple[str, ...]]:
    """Names of the rewrites that each replaced module and what lies in it went through."""
    taken = [(d.rewrite, d.path) for d in rewritten.decisions if d.refused is None]
    return {site: tuple(dict.fromkeys(name for name, path in taken if _within(path, site))) for site in rewritten.sites}


def _within(path: str, block: str) -> bool:
    return path == block or path.startswith(f"{block}.")
