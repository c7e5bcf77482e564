"""Where every stored tensor of a rewritten model comes from, and the check that no bit of it changed.

"Weights-exact" is a claim about bits, so it is proved on bits: each tensor is either a copy of an
original one under a recorded index along one axis, or derived, with the derivation written down
and the originals that went into it named. An original tensor that is in neither is lost, which is
a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    ledger = WeightsLedger(original)
    ledger.add(rewritten, origins)
    return ledger.proof()


class WeightsLedger:
    """Collects the proof of a model that is rewritten part by part: no part is kept."""

    def __init__(self, original: nn.Module) -> None:
        self._old = stored_tensors(original)
        self._covered = {name: _Covered(tuple(tensor.shape)) for name, tensor in self._old.items()}
        self._proofs: list[tuple[bool, TensorProof]] = []
        self._unexplained: list[tuple[bool, str]] = []
        self._copied = 0

    def add(self, part: nn.Module, origins: Origins, prefix: str = "") -> None:
        """Compare every tensor of the rewritten `part`, whose names begin with `prefix` in the whole model."""
        buffers = {name for name, _ in part.named_buffers(remove_duplicate=False)}
        for name, tensor in stored_tensors(part).items():
            whole = prefix + name
            if whole in origins:
                proof = self._prove(whole, tensor, origins[whole])
                self._proofs.append((name in buffers, proof))
                self._copied += tensor.numel() if proof.bits_equal else 0
            else:
                self._unexplained.append((name in buffers, whole))

    def proof(self, rank: Callable[[str], int] = lambda _: 0) -> WeightsProof:
        """The record: parameters, then buffers, each by rank and then in the order in which they were added."""
        proofs = [proof for _, proof in sorted(self._proofs, key=lambda each: (each[0], rank(each[1].tensor)))]
        return WeightsProof(
            tensors=tuple(proofs),
            lost=tuple(name for name, covered in self._covered.items() if not covered.wholly),
            unexplained=tuple(name for _, name in sorted(self._unexplained, key=lambda each: (each[0], rank(each[1])))),
            copied_values=self._copied,
            derived_tensors=tuple(proof.tensor for proof in proofs if proof.bits_equal is None),
        )

    def _prove(self, name: str, tensor: torch.Tensor, origin: Origin) -> TensorProof:
        if isinstance(origin, Derived):
            for used in origin.sources:
                self._covered[used].cover(None, 0)
            return TensorProof(tensor=name, source=", ".join(origin.sources), bits_equal=None, how=origin.how)
        expected = self._old[origin.source]
        self._covered[origin.source].cover(origin.index, origin.axis)
        how = "copied whole"
        if origin.index is not None:
            expected = expected.index_select(origin.axis, torch.from_numpy(origin.index))
            how = f"{len(origin.index)} slices along axis {origin.axis}"
        return TensorProof(tensor=name, source=origin.source, bits_equal=_same_bits(expected, tensor), how=how)


class _Covered:
    """Which slices of a tensor something was made of, along each axis: a flag a slice, not one an element."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._axes = [np.zeros(size, dtype=bool) for size in shape]
        self._all = False

    def cover(self, index: NDArray[np.int64] | None, axis: int) -> None:
        """These slices along one axis, or all of it."""
        if index is None:
            self._all = True
        else:
            self._axes[axis][index] = True

    @property
    def wholly(self) -> bool:
        """An element is left out when along every axis its slice is: there is one unless some axis is full."""
        return self._all or any(bool(axis.all()) for axis in self._axes)


def _same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Equality of bits, not of values: 0.0 and -0.0 differ, NaN equals itself."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return left.contiguous().numpy().tobytes() == right.contiguous().numpy().tobytes()
