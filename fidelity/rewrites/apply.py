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


@dataclass(frozen=True)
class Rotary:
    """The fixed rotary embedding that the module at `owner` hands to its blocks, [tokens, 2 * head width].

    `tensor` is what it is, or is computed from: its name from the root ("/name").
    """

    owner: str
    embedding: torch.Tensor
    tensor: str


@dataclass(frozen=True)
class Place:
    """Where a part of a model lies, and what it must know of the rest: the model's rotary embeddings."""

    path: str
    rotary: tuple[Rotary, ...]


def apply_rewrites(model: nn.Module, rewrites: Sequence[Rewrite], place: Place | None = None) -> RewrittenModel:
    """A deep copy of `model` with every rewrite applied, in order, wherever it can be.

    The original is not touched. Modules are visited outermost first; a module that a rewrite puts
    in place is not offered to the same rewrite again. With a `place`, `model` is the part of a model
    that lies there; decisions and origins are told in names of the whole.
    """
    place = place or Place("", rotary_embeddings(model))
    prefix = owner_prefix(place.path)
    new = copy.deepcopy(model)
    origins: dict[str, Origin] = {prefix + name: Copied(prefix + name) for name in stored_tensors(model)}
    decisions: list[Decision] = []
    for rewrite in rewrites:
        for path, site in list(_sites(new, rewrite, place)):
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
                rewritten = rewrite.rewrite(site)
                _retell(site.path, rewritten, origins)
                new = _replaced(new, path, rewritten.module)
    return RewrittenModel(new.eval(), tuple(decisions), origins)


def _sites(part: nn.Module, rewrite: Rewrite, place: Place) -> Iterator[tuple[str, Site]]:
    """Each module that the rewrite concerns, by its path in the part."""
    for path, module in part.named_modules():
        if not rewrite.concerns(module):
            continue
        whole = ".".join(filter(None, (place.path, path)))
        handed = next((each for each in place.rotary if _inside(whole, each.owner)), None)
        yield path, Site(whole, module) if handed is None else Site(whole, module, handed.embedding, handed.tensor)


def owner_prefix(path: str) -> str:
    """The prefix that names below the module at `path` carry; empty for the root."""
    return f"{path}." if path else ""


def _inside(path: str, owner: str) -> bool:
    return path.startswith(f"{owner_prefix(owner)}blocks.")


def rotary_embeddings(model: nn.Module) -> tuple[Rotary, ...]:
    """Every fixed rotary embedding that a module of the model hands to its blocks, the outermost first.

    Only timm's RotaryEmbeddingCat of a fixed image size and DINOv3's have one: the mixed kind differs by
    block. DINOv3's of a dynamic size is that of the patches that the model was built for, computed in
    float64 and rounded once; one of a fixed size is stored.
    """
    embeddings = ((path, module, _rotary_embedding(module)) for path, module in model.named_modules())
    return tuple(
        Rotary(path, embedding, f"/{owner_prefix(path)}{_rope_tensor(module)}")
        for path, module, embedding in embeddings
        if embedding is not None
    )


def _rotary_embedding(module: nn.Module) -> torch.Tensor | None:
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


def _retell(path: str, rewritten: Rewritten, origins: dict[str, Origin]) -> None:
    """The origins of the module at `path`, once it is rewritten, in names of the original model."""
    prefix = owner_prefix(path)
    told = {f"{prefix}{name}": compose(origin, origins, prefix) for name, origin in rewritten.origins.items()}
    for name in [name for name in origins if name.startswith(prefix)]:
        del origins[name]
    origins.update(told)


def _replaced(part: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """The part with `module` at `path`; that module itself where the path is the part's own."""
    if not path:
        return module
    parent, _, leaf = path.rpartition(".")
    setattr(part.get_submodule(parent), leaf, module)
    return part
