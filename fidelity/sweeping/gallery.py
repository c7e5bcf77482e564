"""A few images of the data set, the same for all others, that each is held against.

Metrics over a set compare every input with every other; a stream has no such set. The gallery stands for it:
its mean reference is the common component, its images are the ones that can be mistaken for another. What is
measured of an image then depends on itself and the gallery alone: not on its chunk, nor on any order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.metrics.common_component import ALIKE
from fidelity.comparison.metrics.correlation import correlation, norm
from fidelity.comparison.metrics.outcome import Measured, Outcome, Undefined, finite_pair
from fidelity.record import Record
from fidelity.sweeping.float_arrays import FloatArray

Array = NDArray[np.float64]

FEWEST = 3
"""Images without which nothing can be taken for another: as in nearest_neighbour, two others at least."""

ROUNDING = 1e-12
"""Cosines of unit vectors differ by n eps / 2 at most from one order of summation to another: 4.5e-13 for n = 4096."""


class StoredGallery(Record):
    """The gallery as stored: numbers of its images, references [G, D], and each device's outputs [G, D]."""

    key: str
    numbers: tuple[int, ...]
    sha256: tuple[str, ...]
    references: FloatArray
    outputs: dict[str, FloatArray]

    def digest(self) -> str:
        """One hash over all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@dataclass(frozen=True)
class Held:
    """What the gallery says of one image on one device: each metric's outcome, and whether its neighbour is kept."""

    outcomes: dict[str, Outcome]
    kept: bool | None


class Gallery:
    """References and one device's outputs, to be held against. An image without a finite output is no neighbour."""

    def __init__(self, stored: StoredGallery, device: str) -> None:
        self.sha256 = np.array(stored.sha256)
        self.references = stored.references.array()
        self.outputs = stored.outputs[device].array()
        self.centre: Array = self.references.mean(axis=0) if len(self.references) else np.zeros(0)

    def hold(self, actual: NDArray[np.floating], reference: Array, sha256: str) -> Held:
        """One image's output against its reference, [D] or [1, D] each, beside the gallery without that image itself.

        `sha256` is of its encoded bytes. Undefined for fewer than three others, and for what cannot be compared.
        """
        others = (self.sha256 != sha256) & np.isfinite(self.outputs).all(axis=-1)
        pair = finite_pair(actual.ravel(), reference.ravel())
        if isinstance(pair, Undefined):
            return _nothing(pair)
        if np.count_nonzero(others) < FEWEST:
            return _nothing(Undefined(cause="too_few_inputs", why=f"a gallery of {np.count_nonzero(others)} others"))
        if not np.any(pair[0]) or not np.any(pair[1]):
            side = "actual" if np.any(pair[1]) else "reference"
            return _nothing(Undefined(cause=f"zero_{side}", why="every element is zero"))
        regret = _regret(pair[0], pair[1], self.outputs[others], self.references[others])
        outcomes: dict[str, Outcome] = {
            "centred_correlation": self._centred(*pair),
            "misplacement": _misplacement(pair[0], pair[1], self.references[others]),
            "nearest_neighbour_regret": Measured(regret),
        }
        return Held(outcomes, kept=regret == 0)

    def _centred(self, actual: Array, reference: Array) -> Outcome:
        """Correlation, the gallery's mean reference subtracted on both sides."""
        if norm(reference - self.centre) ** 2 <= ALIKE * norm(reference) ** 2:
            return Undefined(cause="inputs_alike", why="the reference equals the gallery's mean")
        return correlation(actual - self.centre, reference - self.centre)


def _nothing(reason: Undefined) -> Held:
    names = ("centred_correlation", "misplacement", "nearest_neighbour_regret")
    return Held(dict.fromkeys(names, reason), kept=None)


def _unit(rows: Array) -> Array:
    """Rows divided by their norms; a row of zeros stays one."""
    norms: Array = np.sqrt(np.sum(np.square(rows), axis=-1, keepdims=True))
    unit: Array = rows / np.where(norms == 0, 1, norms)
    return unit


def _cosines(one: Array, many: Array) -> Array:
    """Cosines of one vector with each row. No BLAS: its order of summation is the machine's and the thread count's."""
    found: Array = np.sum(_unit(many) * _unit(one), axis=-1)
    return found


def _regret(actual: Array, reference: Array, outputs: Array, references: Array) -> float:
    """Reference cosine given away by the nearest neighbour among the outputs, the worst of those that tie."""
    among_outputs, among_references = _cosines(actual, outputs), _cosines(reference, references)
    chosen = among_references[among_outputs >= among_outputs.max() - ROUNDING].min()
    regret = float(among_references.max() - chosen)
    return regret if regret > ROUNDING else 0.0


def _misplacement(actual: Array, reference: Array, references: Array) -> Outcome:
    """Cosine of the output with the nearest wrong reference, less that with its own; negative is right."""
    own = _cosines(actual, reference[None])[0]
    return Measured(float(_cosines(actual, references).max() - own))
