"""Weights whose rows and columns a converter has scaled, and what that makes of the bias beside them.

W' = diag(r) W diag(s), b' = r (b + W t): a LayerNorm's gain s and bias t that stand before a product are taken into
it, and a factor of its results r behind it. Seen with litert-torch 0.10.0 on stock LayerNorms and on the pool's query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Double = NDArray[np.float64]
Single = NDArray[np.float32]

_ROUNDS = 12
_BIAS_SLACK = 2.0**-9
"""Of a scaled bias, in units of its rms: the factors are known from weights in float16 only, to half an ulp each."""


@dataclass(frozen=True)
class Scaling:
    """The weight that was scaled, [rows, columns] in float64, and its factors."""

    source: str
    weight: Double
    rows: Double
    columns: Double


def scaling_of(value: Array, weights: Mapping[str, Single]) -> Scaling | None:
    """The weight of which every element times its row's and its column's factor is this one, rounded once.

    Where every factor is 1, it was not scaled, and its bits have to be the weight's own.
    """
    if value.ndim < 2 or value.size == max(value.shape):
        return None
    found = value.reshape(value.shape[0], -1).astype(np.float64)
    for name, weight in weights.items():
        if weight.shape == value.shape:
            other = weight.reshape(found.shape).astype(np.float64)
            rows, columns = _factors(found, other)
            expected = rows[:, np.newaxis] * other * columns
            limits = np.finfo(value.dtype)
            slack = float(limits.eps) * np.maximum(np.abs(expected), float(limits.smallest_normal))
            scaled = max(np.abs(rows - 1).max(), np.abs(columns - 1).max()) > _BIAS_SLACK
            if scaled and np.all(np.abs(found - expected) <= slack):
                share = _share(rows, columns, weights)
                return Scaling(name, other, rows * share, columns / share)
    return None


def _share(rows: Double, columns: Double, weights: Mapping[str, Single]) -> float:
    """How much of the columns' factors is the rows': only their product is known.

    So that one of the two is 1 where it is constant; else, so that the columns' factors are a weight's own.
    """
    if _spread(rows) < _BIAS_SLACK:
        return float(1 / rows.mean())
    if _spread(columns) < _BIAS_SLACK:
        return float(columns.mean())
    for vector in _vectors(weights, columns.size).values():
        ratio = columns / np.where(vector == 0, np.nan, vector)
        if _spread(ratio) < _BIAS_SLACK:
            return float(ratio.mean())
    return 1.0


def _spread(values: Double) -> float:
    """Deviation in units of the mean; NaN, which is below nothing, where that is unknown."""
    return float(values.std() / abs(values.mean()))


def folded_bias(value: Double, scaling: Scaling, weights: Mapping[str, Single]) -> str | None:
    """The weights b and t with r (b + W t) = value, as text; None where there are none.

    b or t may be missing: a product without a bias, a factor alone.
    """
    outs = {"": np.zeros(value.size)} | _vectors(weights, value.size)
    ins = {"": np.zeros(scaling.columns.size)} | _vectors(weights, scaling.columns.size)
    targets = scaling.weight @ np.stack(list(ins.values()), axis=1)
    for out, bias in outs.items():
        made = scaling.rows[:, np.newaxis] * (bias[:, np.newaxis] + targets)
        errors = np.abs(made - value[:, np.newaxis]).max(axis=0)
        place = int(errors.argmin())
        if errors[place] <= _BIAS_SLACK * float(np.sqrt(np.mean(value**2))):
            return " and ".join(each for each in (out, list(ins)[place]) if each) or scaling.source
    return None


def _vectors(weights: Mapping[str, Single], size: int) -> dict[str, Double]:
    return {n: w.reshape(-1).astype(np.float64) for n, w in weights.items() if w.size == size == max(w.shape)}


def _factors(found: Double, other: Double) -> tuple[Double, Double]:
    """Row and column factors by least squares, each in turn."""
    columns = np.ones(found.shape[1])
    rows = np.ones(found.shape[0])
    for _ in range(_ROUNDS):
        rows = _fit(found, other * columns)
        columns = _fit(found.T, (other * rows[:, np.newaxis]).T)
    return rows, columns


def _fit(found: Double, other: Double) -> Double:
    energy = np.einsum("ij,ij->i", other, other)
    fitted: Double = np.einsum("ij,ij->i", found, other) / np.where(energy == 0, 1, energy)
    return fitted
