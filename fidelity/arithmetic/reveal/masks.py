"""Masks in the manner of FPRev: which terms of a sum are added before which.

Term i is big and term j its opposite. Terms that meet either before those two meet are lost; the
rest is seen. So a result tells how many terms lie under the node where i and j meet. How many
terms may be watched at once, and how they are read, depends on the accumulator.

Fan, Yan, Gao: FPRev (arXiv 2411.00442).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.reveal.experiment import NotTold, Single
from fidelity.arithmetic.summation import Accumulator

_BIG = np.float32(49152)  # its float16 neighbours are 32 away on both sides
_LARGEST = np.float32(65504)


@dataclass(frozen=True)
class Mask:
    """One question: of the terms `watched`, how many lie outside the node where `i` and `j` meet?"""

    i: int
    j: int
    watched: tuple[int, ...]


@dataclass(frozen=True)
class Masks:
    """How questions are put to an accumulator and read.

    `unit` is what a watched term loses when it meets i or j alone, `most` how many are watched at
    once. `base`: each of n watched terms has 31 // n more of this, which is never lost, so that the
    result is no subnormal. `modulus`: losing may move a sum by multiples of it. `overflow`: the
    accumulator keeps what it loses, so only overflow tells; i and j are both the largest number and
    the one watched term its opposite: infinity, and so NaN, unless that meets one of them first.
    """

    unit: float
    most: int
    base: float = 0.0
    modulus: float | None = None
    overflow: bool = False

    def terms(self, masks: Sequence[Mask], count: int) -> Single:
        """The terms of each sum, [masks, count]; zero where nothing is watched."""
        terms = np.zeros((len(masks), count), np.float32)
        for row, mask in zip(terms, masks, strict=True):
            row[list(mask.watched)] = -_LARGEST if self.overflow else self.unit + self._base(mask)
            row[mask.i] = _LARGEST if self.overflow else _BIG
            row[mask.j] = _LARGEST if self.overflow else -_BIG
        return terms

    def outside(self, masks: Sequence[Mask], values: Single, share: float) -> NDArray[np.int64]:
        """How many watched terms lie outside, for each sum's value; `share` is what a MEAN multiplies by.

        Raises NotTold for a value that no count gives.
        """
        if self.overflow:
            return np.asarray([len(mask.watched) for mask in masks], np.int64) * ~np.isfinite(values)
        with np.errstate(invalid="ignore"):
            kept = np.array([self._base(mask) * len(mask.watched) for mask in masks])
            counts = (values.astype(np.float64) / share - kept) / self.unit
            if self.modulus is not None:
                counts = np.mod(counts, self.modulus / self.unit)
        watched = np.array([len(mask.watched) for mask in masks])
        if not np.all((np.abs(counts - np.rint(counts)) < 0.25) & (counts > -0.5) & (counts < watched + 0.5)):
            raise NotTold("a masked sum is no number of the terms that it was made of")
        return np.asarray(np.rint(counts), np.int64)

    def _base(self, mask: Mask) -> float:
        return self.base * (31 // len(mask.watched)) if self.base and mask.watched else 0.0


def masks_for(accumulator: Accumulator, *, mean: bool, flushed: bool, terms: int) -> Masks:
    """The questions that `accumulator` can answer; `flushed` says that subnormals are lost on the way in or out.

    Raises NotTold for those that hide their order.
    """
    if accumulator.format == "float32":
        small = terms * 2.0**-24 if mean else 2.0**-22  # half an ulp of 49152 is 2^-9
        if flushed:
            return Masks(2.0**-14, 24, base=2.0**-8)
        return Masks(small, min(terms, int(2.0**-9 / small) - 1))
    if accumulator.format == "float16_corrected":
        if mean or accumulator.conversion.overflow == "saturate":
            raise NotTold("a corrected sum loses nothing that a mask could show unless it overflows to infinity")
        return Masks(1.0, 1, overflow=True)
    if accumulator.conversion.rounding == "toward_zero":
        return Masks(1.0, 24, modulus=32.0)
    return Masks(2.0**-6, 1000)


def split(i: int, j: int, watched: Sequence[int], most: int) -> list[Mask]:
    """Masks that watch all of `watched` but i and j, `most` at a time."""
    others = [term for term in watched if term not in (i, j)]
    return [Mask(i, j, tuple(others[first : first + most])) for first in range(0, max(1, len(others)), most)]
