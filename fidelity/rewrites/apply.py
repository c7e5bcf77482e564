"""Apply rewrites to a model: every module that one takes is replaced in a copy, and all is recorded."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat, RotaryEmbeddingDinoV3
from torch import nn

from fidelity.rewrites.contract import Rewrite, Site
from fidelity.rewrites.proof import Decision
from fidelity.rewrites.weights_map import Copied, Origin, compose, stored_tensors

if TYPE_CHECKING:
    from fidelity.rewrites.contract import Rewritten


@dataclass(frozen=True)
class RewrittenModel:
    """A rewritten copy of a model, the decisions that made it and where every tensor comes from."""

    model: nn.Module
    decisions: tuple[Decision, ...]
    origins: dict[str, Origin]

    @property
    def sites(self) -> tuple[str, ...]:
        """Paths at which the original has a module that was replaced (outermost, in model order)."""
        paths = sorted({d.path for d in self.decisions if d.refused is None})
        return tuple(p for p in paths if not any(p.startswith(f"{other}.") for other in paths))

    def taken(self, rewrite: str) -> tuple[str, ...]:
        """Paths that this rewrite replaced."""
        return tuple(d.path for d in self.decisions if d.rewrite == rewrite and d.refused is None)


def apply_rewrites(model: nn.Module, rewrites: Sequence[Rewrite]) -> RewrittenModel:
    """A deep copy of `model` with every rewrite applied, in order, wherever it can be.

    The original is not touched. Modules are visited outermost first; a module that a rewrite puts
    in place is not offered to the same rewrite again.
    """
    new = copy.deepcopy(model)
    origins: dict[str, Origin] = {name: Copied(name) for name in stored_tensors(model)}
    decisions: list[Decision] = []
    for rewrite in rewrites:
        for site in list(_sites(new, rewrite)):
            reason = rewrite.refuses(site)
            decisions.append(
                Decision(
                    rewrite=rewrite.contract.name,
                    path=site.path,
                    module=type(site.module).__name__,
                    refused=reason,
                )
            )
            if reason is None:
                _replace(new, site.path, rewrite.rewrite(site), origins)
    return RewrittenModel(new.eval(), tuple(decisions), origins)


def _sites(model: nn.Module, rewrite: Rewrite) -> Iterator[Site]:
    owners = {path: rotary_embedding(module) for path, module in model.named_modules()}
    for path, module in model.named_modules():
        if not rewrite.concerns(module):
            continue
        rope, name = next(
            ((rope, owner) for owner, rope in owners.items() if rope is not None and _inside(path, owner)),
            (None, ""),
        )
        yield Site(path, module, rope, f"/{owner_prefix(name)}{_rope_tensor(model.get_submodule(name))}")


def owner_prefix(path: str) -> str:
    """The prefix that names below the module at `path` carry; empty for the root."""
    return f"{path}." if path else ""


def _inside(path: str, owner: str) -> bool:
    return path.startswith(f"{owner_prefix(owner)}blocks.")


def rotary_embedding(module: nn.Module) -> torch.Tensor | None:
    """The fixed rotary embedding that a model hands to its blocks, or None.

    Only timm's RotaryEmbeddingCat of a fixed image size and DINOv3's have one: the mixed kind differs by
    block. DINOv3's of a dynamic size is that of the patches that the model was built for, computed in
    float64 and rounded once; one of a fixed size is stored.
    """
    rope = getattr(module, "rope", None)
    if isinstance(rope, RotaryEmbeddingDinoV3) and hasattr(module, "blocks"):
        if rope.pos_embed_cached is not None:
            return cast("torch.Tensor", rope.pos_embed_cached)
        grid = list(cast("tuple[int, int]", cast("nn.Module", module.patch_embed).grid_size))
        wide = copy.deepcopy(rope).double().get_embed(shape=grid)
        return cast("torch.Tensor", wide.to(rope.periods.dtype))
    if not isinstance(rope, RotaryEmbeddingCat) or rope.pos_embed is None or not hasattr(module, "blocks"):
        return None
    return cast("torch.Tensor", rope.get_embed())


def _rope_tensor(owner: nn.Module) -> str:
    """The tensor that a model's rotary embedding is, or is computed from."""
    rope = getattr(owner, "rope", None)
    if isinstance(rope, RotaryEmbeddingDinoV3):
        return "rope.periods" if rope.pos_embed_cached is None else "rope.pos_embed_cached"
    return "rope.pos_embed"


def _replace(model: nn.Module, path: str, rewritten: Rewritten, origins: dict[str, Origin]) -> None:
    prefix = owner_prefix(path)
    told = {f"{prefix}{name}": compose(origin, origins, prefix) for name, origin in rewritten.origins.items()}
    for name in [name for name in origins if name.startswith(prefix)]:
        del origins[name]
    origins.update(told)
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, rewritten.module)
