"""One result an element: float16 arithmetic of a device without fused multiply-add.

Operands are float32 arrays of float16 values; each operation is done in float32 and rounded to
float16, which equals rounding the exact result once, since 24 >= 2 * 11 + 2 (Figueroa 1995: sum,
difference, product, quotient, square root).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import round_to_float16

Single = NDArray[np.float32]
Binary = Callable[[Single, Single], Single]


def add(a: Single, b: Single) -> Single:
    """a + b, rounded to float16."""
    return _rounded(np.add, a, b)


def subtract(a: Single, b: Single) -> Single:
    """a - b, rounded to float16."""
    return _rounded(np.subtract, a, b)


def multiply(a: Single, b: Single) -> Single:
    """a * b, rounded to float16."""
    return _rounded(np.multiply, a, b)


def divide(a: Single, b: Single) -> Single:
    """a / b, rounded to float16."""
    return _rounded(np.divide, a, b)


def squared_difference(a: Single, b: Single) -> Single:
    """(a - b)^2 with the difference rounded first, then the square."""
    difference = subtract(a, b)
    return multiply(difference, difference)


def square_root(a: Single) -> Single:
    """The root of a, rounded to float16; NaN below zero."""
    with np.errstate(invalid="ignore"):
        return round_to_float16(np.sqrt(a))


def reciprocal_root(a: Single) -> Single:
    """1 / sqrt(a) in two steps, each rounded to float16."""
    return divide(np.ones_like(a), square_root(a))


def _rounded(operation: Callable[..., Single], a: Single, b: Single) -> Single:
    with np.errstate(all="ignore"):
        return round_to_float16(operation(a, b))
