"""Pearson correlation: the figure that conversions are usually quoted by, and its blind spots."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.metrics.outcome import Array, Measured, Outcome, RealArray, Undefined, finite_pair


def correlation(actual: RealArray, reference: RealArray) -> Outcome:
    """Pearson correlation of all elements, in [-1, 1]; 1 is best.

    Undefined for a constant on either side, where a quotient of two roundings would look like a
    figure. Blind to scale and offset (0.5 r + 3 has 1.0): `slope`, `offset` and `relative_l2` see
    those. Blind to whatever is small beside the largest elements (a zeroed class token in
    [197, 768] leaves 0.997; channels under one massive channel): `worst_row_error` and
    `median_error` see those. Blind to what all inputs share: `centred_correlation`.
    """
    pair = finite_pair(actual, reference)
    if isinstance(pair, Undefined):
        return pair
    if np.ptp(pair[1]) == 0:
        return Undefined(cause="constant_reference", why=f"every element is {pair[1].flat[0]:g}")
    if np.ptp(pair[0]) == 0:
        return Undefined(cause="constant_actual", why=f"every element is {pair[0].flat[0]:g}")
    a, r = centred(pair[0]), centred(pair[1])
    # each root apart: the product of two squared norms may leave float64, the norms cannot
    value = float(np.sum((a / norm(a)) * (r / norm(r))))
    return Measured(min(1.0, max(-1.0, value)))


def centred(array: Array) -> Array:
    """The array less its mean, twice: the second pass removes the rounding of the first mean."""
    once: Array = array - np.mean(array)
    twice: Array = once - np.mean(once)
    return twice


def norm(array: Array) -> float:
    """Euclidean norm by pairwise summation, whose result depends on no BLAS and no thread count."""
    return float(np.sqrt(np.sum(np.square(array))))
