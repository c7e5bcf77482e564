"""What a device's arithmetic makes of the rows of a LayerNorm or RMSNorm, at any scale: overflow, headroom, error.

The card's failure happens inside one operation, while every tensor of the graph is finite. Here its
steps are computed under a profile by the device's kernels, row by row, and once more in float32
without rounding, which tells how large each step would have become.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import LARGEST
from fidelity.arithmetic.layernorm_steps import ROOT, Steps
from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.errors import BadInput
from fidelity.record import Figure, Record

Single = NDArray[np.float32]
Wide = NDArray[np.float64]
_GREATEST_FACTOR = 128.0  # as rewrites/safe_layernorm.py, whose bits a test holds this against


class Scale(Record):
    """What a row is divided by before it is squared: nothing, a constant, or its own largest magnitude."""

    kind: Literal["none", "fixed", "row"]
    divisor: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`none`, `row`, or a positive number. Raises BadInput."""
        if text in ("none", "row"):
            return cls.model_validate({"kind": text})
        try:
            divisor = float(text)
        except ValueError:
            divisor = math.nan
        if not 0 < divisor < math.inf:
            raise BadInput(f"scale {text!r}: expected none, row or a positive number")
        return cls(kind="fixed", divisor=divisor)

    def __str__(self) -> str:
        return self.kind if self.kind != "fixed" else f"{self.divisor:g}"


STOCK, PER_ROW = Scale(kind="none"), Scale(kind="row")


@dataclass(frozen=True)
class NormRows:
    """Inputs of one norm: rows [R, K] float32, its eps, and whether it leaves the mean where it is."""

    rows: Single
    eps: float
    rms: bool = False

    def fewer(self, count: int) -> NormRows:
        """Every so many-th row, the first and the last among them."""
        picked = np.unique(np.linspace(0, len(self.rows) - 1, min(count, len(self.rows))).round().astype(np.int64))
        return NormRows(self.rows[picked], self.eps, self.rms)


@dataclass(frozen=True)
class RowOutcomes:
    """What became of each row, all [R].

    `errors`: relative L2 against float64, infinite where not finite. `overflowing`: a step passed its
    format's largest value. `underflowing`: the variance came below the smallest normal number of its
    format, where bits are lost. `headroom`: log2(largest value of the format / magnitude that would be
    reached), the least over steps, at the step `tightest`; negative where it overflows. `footroom`:
    log2(variance that would be reached / smallest normal number), negative where it underflows.
    """

    errors: Wide
    overflowing: NDArray[np.bool_]
    underflowing: NDArray[np.bool_]
    headroom: Wide
    footroom: Wide
    tightest: tuple[str, ...]


class NormOutcome(Record):
    """Shares of rows and the worst of `RowOutcomes`. Rows without variance have no footroom and count in no margin."""

    scale: str
    rows: int
    overflowing: Figure
    underflowing: Figure
    headroom: Figure
    tightest: str
    footroom: Figure
    worst_error: Figure
    median_error: Figure


def simulate(norm: NormRows, scale: Scale, profile: Profile) -> NormOutcome:
    """Normalise the rows under the profile and in float64. Raises BadInput where the profile lacks a rule."""
    return summary(scale, simulate_rows(norm, scale, profile))


def summary(scale: Scale, found: RowOutcomes) -> NormOutcome:
    """Shares and worst of the rows, at least one."""
    worst = int(found.headroom.argmin())
    varied = found.footroom[found.footroom > -np.inf]
    return NormOutcome(
        scale=str(scale),
        rows=len(found.errors),
        overflowing=float(found.overflowing.mean()),
        underflowing=float(found.underflowing.mean()),
        headroom=float(found.headroom[worst]),
        tightest=found.tightest[worst],
        footroom=float(varied.min()) if varied.size else math.inf,
        worst_error=float(found.errors.max()),
        median_error=float(np.median(found.errors)),
    )


def simulate_rows(norm: NormRows, scale: Scale, profile: Profile) -> RowOutcomes:
    """The same, row by row."""
    steps, wide = Steps(profile), Steps(load_profile("ieee-fp32"))
    y = normalise(norm, scale, steps)
    normalise(norm, scale, wide)
    with np.errstate(divide="ignore"):
        bits = {label: np.log2(steps.largest[label] / reached) for label, reached in wide.seen.items()}
        footroom = np.log2(wide.seen["variance"] / steps.smallest["variance"])
    labels, table = list(bits), np.stack(list(bits.values()))
    under = (footroom < 0) | (steps.seen[ROOT] < steps.smallest[ROOT])
    return RowOutcomes(
        errors=row_errors(y, truth(norm)),
        overflowing=steps.overflows(wide, excused=under),
        underflowing=under,
        headroom=table.min(axis=0),
        footroom=footroom,
        tightest=tuple(labels[index] for index in table.argmin(axis=0)),
    )


def normalise(norm: NormRows, scale: Scale, steps: Steps) -> Single:
    """The rows as the scaled or unscaled module computes them, without gain and bias."""
    with np.errstate(all="ignore"):
        x = steps.enter(norm.rows)
        if scale.kind == "none" and not norm.rms:
            return _as_converted(x, norm.eps, steps)
        eps = steps.constant(norm.eps / scale.divisor**2)
        if scale.kind == "fixed":
            x = steps.binary("scaled row", "MUL", x, steps.constant(1 / scale.divisor))
        elif scale.kind == "row":
            factor = _row_factor(x, steps)
            x = steps.binary("scaled row", "MUL", x, factor)
            square = steps.binary("square of the scale", "MUL", factor, factor)
            eps = steps.binary("scaled eps", "MUL", square, steps.constant(norm.eps))
        if not norm.rms:
            x = steps.binary("difference", "SUB", x, steps.mean("mean", x))
        variance = steps.mean("variance", steps.binary("square", "MUL", x, x))
        root = steps.rsqrt(steps.binary(ROOT, "ADD", variance, eps))
        return steps.binary("normalised row", "MUL", x, root)


def _as_converted(x: Single, eps: float, steps: Steps) -> Single:
    """nn.LayerNorm as a converted graph has it."""
    mean = steps.mean("mean", x)
    variance = steps.mean("variance", steps.binary("square", "SQUARED_DIFFERENCE", x, mean))
    root = steps.rsqrt(steps.binary(ROOT, "ADD", variance, steps.constant(eps)))
    shift = steps.binary("shift", "SUB", steps.constant(0.0), steps.binary("shift", "MUL", root, mean))
    return steps.binary("normalised row", "ADD", steps.binary("row by root", "MUL", x, root), shift)


def _row_factor(x: Single, steps: Steps) -> Single:
    amax = np.abs(x).max(axis=1, keepdims=True)
    target = row_target(x.shape[1])
    least = steps.binary("largest magnitude", "MAXIMUM", amax, steps.constant(target / _GREATEST_FACTOR))
    reciprocal = steps.binary("scale", "DIV", steps.constant(1.0), least)
    return steps.binary("scale", "MUL", reciprocal, steps.constant(target))


def row_target(width: int) -> float:
    """The greatest power of two whose square, summed over a row of `width`, stays finite in fp16."""
    return 2.0 ** math.floor(math.log2(math.sqrt(LARGEST / width)))


def truth(norm: NormRows) -> Wide:
    """The rows normalised in float64."""
    x = norm.rows.astype(np.float64)
    centred = x if norm.rms else x - x.mean(axis=1, keepdims=True)
    normal: Wide = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + norm.eps)
    return normal


def row_errors(y: Single, expected: Wide) -> Wide:
    """Relative L2 error of every row; a row that truth makes nothing of is measured against a whole one."""
    whole = math.sqrt(expected.shape[1])
    size = np.linalg.norm(expected, axis=1)
    with np.errstate(all="ignore"):
        gap = np.linalg.norm(y.astype(np.float64) - expected, axis=1) / np.where(size > 1e-6 * whole, size, whole)
    return np.where(np.isfinite(gap), gap, np.inf)


def rounding_error(width: int) -> float:
    """The greatest row error that rounding in a float16 sum explains; what is beyond it is over- or underflow.

    Rounding a sum of K terms is a random walk of K steps of at most u = 2^-11 of it (Higham and Mary
    2019), exceeded by three deviations in 0.3 % of cases; the root halves it. Ten more roundings of u
    at most, one a step, are added in full.
    """
    return (1.5 * math.sqrt(width) + 10) * 2.0**-11
