"""How far a single operation may be off: a bound from how often it rounds, instead of a number that fits.

An operation whose result is a sum of K terms t_i rounds K times as it multiplies and K times as it adds.
Each rounding to the nearest is off by at most u = eps / 2 of what it rounds: a product, or a running
sum, which S = sum |t_i| bounds. Worst case, all one way: 2 K u S, which nothing real reaches and
which hides a fault of the size of sqrt(K). Roundings of unlike numbers are as good as independent
with mean zero: Azuma's inequality for K steps of at most u S each (Higham and Mary 2019, SIAM J. Sci.
Comput. 41, A2815) gives

    P(|error| > lambda u sqrt(K) S) <= 2 exp(-lambda^2 / 2)

With lambda = 8 that is 2.5e-14: one in 10^7 tests of 10^6 outputs each. Products add K steps of at
most u |t_i|, whose squares sum to at most (u S)^2: sqrt(K + 1) in place of sqrt(K). So

    |error| <= C eps sqrt(K + 1) S,  C = lambda / 2 = 4

LiteRT's own suite has 10 eps sqrt(K) relative to the result; this is relative to S, so that a sum which
cancels is judged by what it added. It does not hold where roundings agree instead of cancelling:
accumulators that truncate (u K), and a running sum of alike terms past 1 / u of them, which stands
still (fp16: 2048 + 1 = 2048). Those are arithmetic profiles' business, bit for bit.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Format = Literal["float16", "float32"]
EPS: dict[Format, float] = {"float16": 2.0**-10, "float32": 2.0**-23}
"""Distance from 1 to the next number; rounding to the nearest is off by half of it at most."""

SAFETY = 4.0
SMALLEST: dict[Format, float] = {"float16": 2.0**-24, "float32": 2.0**-149}
"""Spacing of subnormals: no rounding is relative below the smallest normal."""


def accumulation_tolerance(terms: int, accumulator: Format, stored: Format, spec: float = 0.0) -> float:
    """The greatest error of a sum of `terms`, over the sum of their magnitudes.

    Accumulated in one format and stored in another, which rounds once more. An elementwise operation
    has one term. `spec` is what a specification allows anyway. Raises ValueError for no terms.
    """
    if terms < 1:
        raise ValueError(f"a sum of {terms} terms has no error")
    return max(spec, SAFETY * EPS[accumulator] * math.sqrt(terms + 1) + EPS[stored] / 2)


def excess(
    actual: NDArray[np.floating],
    exact: NDArray[np.float64],
    magnitude: NDArray[np.float64],
    tolerance: float,
    stored: Format,
    terms: int,
) -> float:
    """The worst error over what is allowed: 1 or less holds, and it is the factor that would make it hold.

    `magnitude` is the sum of the terms' magnitudes, elementwise. NaN and infinity are infinitely far off.
    """
    allowed = tolerance * magnitude + SMALLEST[stored] * terms
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(actual.astype(np.float64) - exact) / allowed
    return float(np.max(np.where(np.isfinite(error), error, np.inf), initial=0.0))
