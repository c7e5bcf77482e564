"""LayerNorm where a delegate computes it as one operation: float32 throughout, one conversion at the end."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.rules import LayerNorm, chosen
from fidelity.arithmetic.summation import Accumulator, combine_partial, partial_sums

Single = NDArray[np.float32]
_WIDE = Accumulator("float32")


def layer_norm(
    x: Single, eps: np.float32, rule: LayerNorm, *, absorbed: bool = False, observe: Observer = unobserved
) -> Single:
    """x [..., K] normalised over its last axis, without gain and bias; float32, same shape.

    `absorbed`: an elementwise operation is computed together with this one, as its only reader.
    """
    count = x.shape[-1]
    order = chosen(rule.cases, rows=math.prod(x.shape[:-1]), columns=1, terms=count).order
    with np.errstate(all="ignore"):
        share = np.float32(1) / np.float32(count)
        mean = (_sum(x, order, observe) * share)[..., np.newaxis]
        observe("mean", mean)
        difference = x - mean
        if rule.variance == "squares":
            variance = (_sum(x * x, order, observe) * share)[..., np.newaxis] - mean * mean
        else:
            variance = (_sum(difference * difference, order, observe) * share)[..., np.newaxis]
        observe("mean", variance)
        normal = difference * (np.float32(1) / np.sqrt(variance + eps))
    return rounded(normal, rule.stored_absorbed if absorbed and rule.stored_absorbed is not None else rule.stored)


def _sum(terms: Single, order: Order, observe: Observer) -> Single:
    partial = partial_sums(terms, order, _WIDE)
    observe("sum", partial)
    whole = combine_partial(partial, order, _WIDE)
    observe("sum", whole)
    return whole
