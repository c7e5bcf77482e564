"""Where every stored tensor of a rewritten model comes from, and the check that no bit of it changed.

"Weights-exact" is a claim about bits, so it is proved on bits: each tensor is either a copy of an
original one under a recorded index along one axis, or derived, with the derivation written down
and the originals that went into it named. An original tensor that is in neither is lost, which is
a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fidelity.rewrites.proof import TensorProof, WeightsProof

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Copied:
    """The tensor `source` of the original, or its slices `index` along `axis`, bit for bit.

    `source` is relative to the module that was rewritten; with a leading "/" it is the model's.
    """

    source: str
    index: NDArray[np.int64] | None = None
    axis: int = 0


@dataclass(frozen=True)
class Derived:
    """A constant computed once from original tensors, named as in `Copied`; `how` is the formula."""

    sources: tuple[str, ...]
    how: str


Origin = Copied | Derived
Origins = Mapping[str, Origin]


def compose(outer: Origin, known: Mapping[str, Origin], prefix: str) -> Origin:
    """`outer`, told in names of a module at `prefix`, retold in names of the original model.

    `known` maps the tensors that the module had before to their own origins. Two indices along one
    axis compose; along two axes they cannot be told as one copy, which no rewrite here needs.
    """
    if isinstance(outer, Derived):
        inner = [Copied(source[1:]) if source.startswith("/") else known[prefix + source] for source in outer.sources]
        names = [n for origin in inner for n in (origin.sources if isinstance(origin, Derived) else (origin.source,))]
        return Derived(tuple(dict.fromkeys(names)), outer.how)
    if outer.source.startswith("/"):
        return Copied(outer.source[1:], outer.index, outer.axis)
    before = known[prefix + outer.source]
    if isinstance(before, Derived):
        return Derived(before.sources, f"{before.how}; reindexed")
    if before.index is None:
        return Copied(before.source, outer.index, outer.axis)
    if outer.index is None:
        return before
    if before.axis != outer.axis:
        raise ValueError(f"{prefix + outer.source}: indexed along axis {before.axis} and then {outer.axis}")
    return Copied(before.source, before.index[outer.index], outer.axis)


def stored_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name, shared tensors under each of their names."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in named}


def check_weights(original: nn.Module, rewritten: nn.Module, origins: Origins) -> WeightsProof:
    """Compare every tensor of `rewritten` with the bits of its origin in `original`."""
    old, new = stored_tensors(original), stored_tensors(rewritten)
    covered = {name: np.zeros(tuple(tensor.shape), dtype=bool) for name, tensor in old.items()}
    proofs = [_prove(name, tensor, origins[name], old, covered) for name, tensor in new.items() if name in origins]
    return WeightsProof(
        tensors=tuple(proofs),
        lost=tuple(name for name, seen in covered.items() if not seen.all()),
        unexplained=tuple(name for name in new if name not in origins),
        copied_values=sum(new[proof.tensor].numel() for proof in proofs if proof.bits_equal),
        derived_tensors=tuple(proof.tensor for proof in proofs if proof.bits_equal is None),
    )


def _prove(
    name: str,
    tensor: torch.Tensor,
    origin: Origin,
    old: dict[str, torch.Tensor],
    covered: dict[str, NDArray[np.bool_]],
) -> TensorProof:
    if isinstance(origin, Derived):
        for name_used in origin.sources:
            covered[name_used][...] = True
        return TensorProof(tensor=name, source=", ".join(origin.sources), bits_equal=None, how=origin.how)
    expected = old[origin.source]
    if origin.index is None:
        covered[origin.source][...] = True
        how = "copied whole"
    else:
        slices = (slice(None),) * origin.axis + (origin.index,)
        covered[origin.source][slices] = True
        expected = expected.index_select(origin.axis, torch.from_numpy(origin.index))
        how = f"{len(origin.index)} slices along axis {origin.axis}"
    return TensorProof(tensor=name, source=origin.source, bits_equal=_same_bits(expected, tensor), how=how)


def _same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Equality of bits, not of values: 0.0 and -0.0 differ, NaN equals itself."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return left.contiguous().numpy().tobytes() == right.contiguous().numpy().tobytes()
