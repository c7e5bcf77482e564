"""Functions of one number: exactly rounded, or by a device's own algorithm; and powers.

On a float16 device a function has 65,536 values, so it is tabulated once for each rule and looked
up: whatever its algorithm costs, and with the exceptions that the profile lists.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from fidelity.arithmetic import special
from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.rules import Function

Single = NDArray[np.float32]
Wide = NDArray[np.float64]
_EXACT: dict[str, Callable[[Wide], Any]] = {
    "ABS": np.abs,
    "NEG": np.negative,
    "SQRT": np.sqrt,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "EXP": np.exp,
    "GELU": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "TANH": np.tanh,
}
_BY_STEPS: dict[str, Callable[[Single], Single]] = {
    "reciprocal_of_root": special.reciprocal_of_root,
    "exp2_of_product": special.exponential,
    "abramowitz_stegun": special.gelu,
    "logistic": special.logistic,
}


def unary(kind: str, x: Single, rule: Function) -> Single:
    """The function `kind` (rules.UNARY) of a float32 array; float32, same shape.

    Where the rule stores float16, `x` must hold float16 values. KeyError for another kind.
    """
    if rule.stored is None:
        return _value(kind, x, rule)
    bits = x.astype(np.float16).view(np.uint16)
    return np.take(_table(kind, rule), bits)


def power(x: Single, exponent: Single, rule: Function) -> Single:
    """x to the exponent, float32 arrays that broadcast; NaN for a negative base and a fraction."""
    with np.errstate(all="ignore"):
        if rule.function == "exp2_of_log2":
            return rounded(special.power(x, exponent), rule.stored)
        return rounded(np.power(x.astype(np.float64), exponent.astype(np.float64)), rule.stored)


@lru_cache(maxsize=64)
def _table(kind: str, rule: Function) -> Single:
    """Every float16 argument's value, by its bits."""
    every = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
    table = _value(kind, every, rule)
    if rule.exceptions:
        arguments, results = np.asarray(rule.exceptions, np.uint16).T
        table[arguments] = np.ascontiguousarray(results).view(np.float16).astype(np.float32)
    return table


def _value(kind: str, x: Single, rule: Function) -> Single:
    with np.errstate(all="ignore"):
        if rule.function == "exact":
            exact = np.asarray(_EXACT[kind](x.astype(np.float64)))
            return rounded(exact, rule.stored)
        return rounded(_BY_STEPS[rule.function](x), rule.stored)
