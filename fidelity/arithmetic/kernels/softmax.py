"""SOFTMAX over the last axis, in one pass with a running maximum or in two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import IEEE, rounded
from fidelity.arithmetic.kernels.softmax_statistics import statistics
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.rules import Share, Softmax, chosen
from fidelity.arithmetic.running import running_sums
from fidelity.arithmetic.special import exp2_gallivm, exponential
from fidelity.arithmetic.summation import combine_partial

Single = NDArray[np.float32]
_LOG2_E = np.float32(1.442695040888963)


def softmax(x: Single, rule: Softmax, *, absorbed: bool = False, observe: Observer = unobserved) -> Single:
    """e^(x - max) / sum of them over the last axis of float32 x [..., K]; rows are all leading axes.

    NaN where a row holds NaN or +infinity. `absorbed`: an elementwise operation is computed together
    with this one, as its only reader.
    """
    rows = x.reshape(-1, x.shape[-1])
    share = chosen(rule.shares, rows=rows.shape[0], columns=1, terms=rows.shape[1])
    if absorbed and share.stored_absorbed is not None:
        share = share.model_copy(update={"stored": share.stored_absorbed})
    with np.errstate(all="ignore"):
        whole = (_online if rule.passes == "online" else _two_pass)(rows, rule, share, observe)
    return whole.reshape(x.shape)


def _two_pass(rows: Single, rule: Softmax, share: Share, observe: Observer) -> Single:
    difference = rounded(rows - rows.max(axis=1, keepdims=True), rule.steps)
    observe("difference", difference)
    power = rounded(_power(difference, rule), rule.steps)
    observe("power", power)
    partial = running_sums(power, rule.order, rule.accumulator, observe)
    sums = combine_partial(partial, rule.order, rule.accumulator)[:, np.newaxis]
    observe("sum", sums)
    if share.quotient is None:
        return rounded(power / sums, share.stored)
    return rounded(power * rounded(np.float32(1) / sums, share.quotient), share.stored)


def _online(rows: Single, rule: Softmax, share: Share, observe: Observer) -> Single:
    greatest, sums = statistics(rows, rule, lambda x: _power(x, rule))
    observe("greatest", greatest)
    observe("sum", sums)
    reciprocal = (np.float32(1) / sums)[:, np.newaxis]
    if share.quotient is None:
        return rounded(_power(rows - greatest[:, np.newaxis], rule) * reciprocal, share.stored)
    power = exponential(rounded(rows - rounded(greatest, IEEE)[:, np.newaxis], IEEE))
    observe("power", power)
    return rounded(power * rounded(reciprocal, share.quotient), share.stored)


def _power(x: Single, rule: Softmax) -> Single:
    """e^x in float32."""
    if rule.exponential == "exp2_gallivm":
        return exp2_gallivm(x * _LOG2_E)
    return np.exp(x.astype(np.float64)).astype(np.float32)
