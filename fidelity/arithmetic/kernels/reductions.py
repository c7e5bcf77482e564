"""SUM and MEAN over one axis or several: an accumulator, an order, one conversion at the end."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.rules import MeanCase, Reduction, chosen
from fidelity.arithmetic.running import running_sums
from fidelity.arithmetic.summation import Accumulator, combine_partial

Single = NDArray[np.float32]


def reduce(
    kind: str,
    x: Single,
    axes: tuple[int, ...],
    rule: Reduction,
    *,
    absorbed: bool = False,
    observe: Observer = unobserved,
) -> Single:
    """SUM or MEAN of float32 `x` over `axes`, kept with length 1; float32.

    `absorbed`: an elementwise operation is computed together with this one, as its only reader.
    Raises ValueError for no axes, an axis out of range, or nothing to add.
    """
    if not axes or any(not -x.ndim <= axis < x.ndim for axis in axes):
        raise ValueError(f"axes {axes} of an array of rank {x.ndim}")
    over = tuple(sorted({axis % x.ndim for axis in axes}))
    kept = [axis for axis in range(x.ndim) if axis not in over]
    terms = x.transpose(*kept, *over).reshape(*(x.shape[axis] for axis in kept), -1)
    count, results = terms.shape[-1], math.prod(terms.shape[:-1])
    case = chosen(rule.last_axis if over[-1] == x.ndim - 1 else rule.other_axis, rows=results, columns=1, terms=count)
    whole = _sum(terms, case, rule.accumulator, observe) if kind == "SUM" else _mean(terms, case, rule, observe)
    shape = tuple(1 if axis in over else size for axis, size in enumerate(x.shape))
    stored = rule.stored_absorbed if absorbed and rule.stored_absorbed is not None else rule.stored
    return rounded(whole, stored).reshape(shape)


def _sum(terms: Single, case: MeanCase, accumulator: Accumulator, observe: Observer) -> Single:
    partial = running_sums(terms, case.order, accumulator, observe)
    whole = combine_partial(partial, case.order, accumulator)
    observe("sum", whole)
    return whole


def _mean(terms: Single, case: MeanCase, rule: Reduction, observe: Observer) -> Single:
    count = np.float32(terms.shape[-1])
    kept = None if rule.accumulator.format == "float32" else rule.accumulator.conversion
    with np.errstate(all="ignore"):
        if case.mean == "quotient":
            return rounded(_sum(terms, case, rule.accumulator, observe) / count, kept)
        share = rounded(np.asarray(1 / count), kept)
        if case.mean == "total":
            return rounded(_sum(terms, case, rule.accumulator, observe) * share, kept)
        partial = running_sums(terms, case.order, rule.accumulator, observe)
        whole = combine_partial(rounded(partial * share, kept), case.order, rule.accumulator)
        observe("mean", whole)
        return whole
