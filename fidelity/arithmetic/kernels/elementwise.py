"""One result an element, of two operands: rounded once, or step by step.

Each operation is done in float32 and rounded to float16, which equals rounding the exact result
once, since 24 >= 2 * 11 + 2 (Figueroa 1995: sum, difference, product, quotient, square root).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.rules import Elementwise

Single = NDArray[np.float32]
_ONE_STEP: dict[str, Callable[[Single, Single], Single]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
}


def binary(kind: str, a: Single, b: Single, rule: Elementwise, observe: Observer = unobserved) -> Single:
    """The operation `kind` (rules.BINARY) on float32 arrays that broadcast; float32. KeyError for another kind."""
    with np.errstate(all="ignore"):
        if kind == "SQUARED_DIFFERENCE":
            difference = rounded(a - b, rule.steps)
            observe("difference", difference)
            return rounded(difference * difference, rule.stored)
        if kind == "DIV":
            if rule.division == "reciprocal":
                return rounded(a * rounded(np.float32(1) / b, rule.steps), rule.stored)
            return rounded(a / b, rule.stored)
        return rounded(_ONE_STEP[kind](a, b), rule.stored)
