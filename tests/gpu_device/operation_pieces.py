"""One operation with drawn operands, its exact result, and how far off a device may be, by its format.

`eps` is the format's distance from 1 to the next number: a rounding of the result is off by half of it
relative to the result, a truncation by all of it; the bounds here allow the truncation. Operands are
numbers that float16 holds, so that entering the device rounds nothing. What is below the smallest normal
number may be flushed to zero: every bound has that much beside it where the result is that small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from device_graphs import Cases, Shape, Single
from numpy.typing import NDArray

from fidelity.comparison.tolerance import EPS, Format

Wide = NDArray[np.float64]
TINY: dict[Format, float] = {"float16": 2.0**-14, "float32": 2.0**-126}
"""The smallest normal numbers."""


@dataclass(frozen=True)
class Piece:
    """`allowed` gives the greatest error of each element in a format; `faulty` is what a wrong device would give."""

    output: str
    exact: Wide
    allowed: Callable[[Format], Wide]
    faulty: Wide
    told: str


Draw = Callable[[Cases], Piece]


def piece(
    cases: Cases, output: str, exact: Wide, faulty: Wide, allowed: Callable[[float], Wide | float], told: str
) -> Piece:
    """A piece whose bound is a function of eps alone, but for what may be flushed."""
    cases.output(output, told)

    def of(stored: Format) -> Wide:
        flushed = np.where(np.abs(exact) < TINY[stored], TINY[stored], 0.0)
        return np.asarray(allowed(EPS[stored])) + flushed

    return Piece(output, np.asarray(exact, np.float64), of, np.asarray(faulty, np.float64), told)


def excess(got: NDArray[np.floating], one: Piece, stored: Format) -> float:
    """The worst error over what is allowed: 1 or less holds. NaN, infinity and another shape are infinitely far off."""
    if got.shape != one.exact.shape:
        return np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(got.astype(np.float64) - one.exact)
        ratio = np.where(error == 0, 0.0, error / np.maximum(one.allowed(stored), np.finfo(np.float64).tiny))
    return float(np.max(np.where(np.isfinite(ratio), ratio, np.inf)))


def drawn_shape(cases: Cases) -> Shape:
    """Rank 2 to 4, as the artefact has them; the leading axis is 1 but in rank 2."""
    rows, columns = cases.size(1, 60), cases.size(3, 90)
    return [(rows, columns), (1, rows, columns), (1, cases.size(2, 5), rows, columns)][cases.size(0, 2)]


def away_from_zero(cases: Cases, shape: Shape) -> Single:
    """Values of either sign whose magnitude is from 0.25 to 4."""
    values = cases.generator.uniform(0.25, 4, shape) * cases.generator.choice([-1, 1], shape)
    return values.astype(np.float16).astype(np.float32)
