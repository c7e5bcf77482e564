"""Nearest neighbours over the photographs: what the embedding is used for.

Three figures of one table of cosines: how often the neighbour is kept, how much is given away
where it is not, and how close the reference itself came to a tie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fidelity.comparison.metrics.cosine import cosine_of
from fidelity.comparison.metrics.outcome import Array, Measured, Outcome, RealArray, Undefined, finite_set

FEWEST = 3  # with two, the other one is always the nearest


def nearest_neighbour_agreement(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """Share of inputs whose nearest other input, by cosine, is the reference's nearest, [0, 1]; 1 is best.

    Either of two references that tie is right. A tie among the actual outputs counts as the worst
    of the tied, since the device cannot tell them apart: a constant output agrees nowhere. A flip
    within rounding counts in full: `nearest_neighbour_regret` says what it cost. Undefined for
    fewer than three inputs or a zero vector. Blind to any change that keeps the order.
    """
    neighbours = _neighbours(actual, reference)
    if isinstance(neighbours, Undefined):
        return neighbours
    flips = [n.name for n in neighbours if n.regret > 0]
    return Measured(1 - len(flips) / len(neighbours), inputs=tuple(flips[:1]))


def nearest_neighbour_regret(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """Largest reference cosine given away by a changed neighbour, [0, 2]; 0 is best.

    The cosine, among references, to the right neighbour less that to the chosen one; `inputs` is
    the input and the one chosen. A flip between near ties costs next to nothing and is no fault.
    """
    neighbours = _neighbours(actual, reference)
    if isinstance(neighbours, Undefined):
        return neighbours
    worst = max(neighbours, key=lambda n: n.regret)
    return Measured(worst.regret, inputs=(worst.name, worst.chosen) if worst.regret > 0 else ())


def nearest_neighbour_margin(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """Smallest gap between best and second-best reference cosine, [0, 2]; a fact about the photographs.

    Says what agreement proves: noise below the margin cannot flip a neighbour. 0 is a tie. The
    actual outputs only say which inputs count.
    """
    neighbours = _neighbours(actual, reference)
    if isinstance(neighbours, Undefined):
        return neighbours
    closest = min(neighbours, key=lambda n: n.margin)
    return Measured(closest.margin, inputs=(closest.name,))


@dataclass(frozen=True)
class _Neighbour:
    """One input's neighbour among the actual outputs: the worst of those that tie for nearest."""

    name: str
    chosen: str
    regret: float
    margin: float


def _neighbours(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> list[_Neighbour] | Undefined:
    pair = finite_set(actual, {name: reference[name] for name in actual}, at_least=FEWEST)
    if isinstance(pair, Undefined):
        return pair
    outputs, references = pair
    for name in outputs:
        if not np.any(references[name]):
            return Undefined(cause="zero_reference", why=f"{name}: every element is zero")
        if not np.any(outputs[name]):
            return Undefined(cause="zero_actual", why=f"{name}: every element is zero")
    return [_neighbour(name, _cosines(name, outputs), _cosines(name, references)) for name in outputs]


def _cosines(name: str, arrays: Mapping[str, Array]) -> dict[str, float]:
    return {other: cosine_of(arrays[name], arrays[other]) for other in arrays if other != name}


def _neighbour(name: str, actual: Mapping[str, float], reference: Mapping[str, float]) -> _Neighbour:
    nearest = max(actual.values())
    chosen = min((other for other in actual if actual[other] == nearest), key=lambda other: reference[other])
    best, second = sorted(reference.values(), reverse=True)[:2]
    return _Neighbour(name, chosen, regret=best - reference[chosen], margin=best - second)
