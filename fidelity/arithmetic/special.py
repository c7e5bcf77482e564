"""Exponential, power and GELU as one GPU stack computes them, instruction by instruction.

Measured on ML Drift's WebGPU delegate (ai-edge-litert 2.3.0) on Mesa 25.0.7's lavapipe: on all
float16 values, not one differs. Its float16 exp2 is the real function rounded once; its float32 exp2,
which softmax uses, is a polynomial. tests/gpu_device/test_arithmetic.py holds all against the
device. Operands and results are float32 arrays of float16 values unless said otherwise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import Conversion, round_to_float16
from fidelity.arithmetic.summation import add_to_odd

Single = NDArray[np.float32]

# Mesa, src/gallium/auxiliary/gallivm/lp_bld_arit.c, lp_build_exp2_polynomial (degree 5)
_EXP2 = tuple(
    np.float32(c)
    for c in (
        1.0,
        0.693153073200168932794,
        0.240153617044375388211,
        0.0558263180532956664775,
        0.00898934009049466391101,
        0.00187757667519147912699,
    )
)
_TRUNCATED = Conversion("toward_zero")
_LOG2_E = round_to_float16(np.array(math.log2(math.e)))


def _constant(value: float) -> Single:
    return round_to_float16(np.array(value), _TRUNCATED)


# Abramowitz and Stegun, formula 7.1.26; the shader holds its constants truncated to float16
_P = _constant(0.3275911)
_A = tuple(_constant(a) for a in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592))
_ROOT_HALF = _constant(0.7071067811865476)


def exp2_gallivm(x: Single) -> Single:
    """2^x in float32 as Mesa's gallivm computes it: any float32 in, float32 out.

    2^floor(x) times a polynomial of the fraction, its even and odd halves by Horner with fused
    multiply-adds. Arguments are clamped to [-126.99999, 128].
    """
    if compiled.path() is not None:
        return compiled.exp2_gallivm(x)
    x = np.clip(x, np.float32(-126.99999), np.float32(128.0))
    with np.errstate(invalid="ignore", over="ignore"):
        whole = np.floor(x)
        part = x - whole
        square = part * part
        fused = fused_multiply_add
        even = fused(square, fused(square, np.full_like(x, _EXP2[4]), _EXP2[2]), _EXP2[0])
        odd = fused(square, fused(square, np.full_like(x, _EXP2[5]), _EXP2[3]), _EXP2[1])
        return np.asarray(np.ldexp(fused(odd, part, even), np.nan_to_num(whole).astype(np.int32)), np.float32)


def exponential(x: Single) -> Single:
    """e^x: x times log2(e), both float16, rounded; then 2 to that, rounded to float16."""
    return _exp2(round_to_float16(x * _LOG2_E))


def logistic(x: Single) -> Single:
    """1 / (1 + e^-x) by `exponential`, every step rounded to float16."""
    with np.errstate(over="ignore"):
        return round_to_float16(np.float32(1) / round_to_float16(np.float32(1) + exponential(-x)))


def reciprocal_of_root(x: Single) -> Single:
    """1 / sqrt(x) in two steps, each rounded to float16; NaN below zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return round_to_float16(np.float32(1) / round_to_float16(np.sqrt(x)))


def gelu(x: Single) -> Single:
    """x times the normal distribution function of x (erf form), every step rounded to float16.

    The error function is Abramowitz and Stegun's 7.1.26, by Horner, 1.5e-7 off in exact arithmetic.
    """
    half, one = round_to_float16, np.float32(1)
    with np.errstate(over="ignore", invalid="ignore"):
        z = half(x * _ROOT_HALF)
        t = half(one / half(one + half(np.abs(z) * _P)))
        horner = half(t * _A[0])
        for a in _A[1:]:
            horner = half(t * half(horner + a))
        decay = _exp2(half(z * half(z * -_LOG2_E)))
        erf = half(np.sign(z) * half(one - half(horner * decay)))
        return half(half(x * np.float32(0.5)) * half(one + erf))


def power(x: Single, exponent: Single) -> Single:
    """2 to the exponent times log2(x), each of the three rounded to float16: NaN below zero, zero for zero.

    One exponent of 2 or 3 for all is x x and (x x) x instead, each product rounded.
    """
    with np.errstate(all="ignore"):
        if exponent.size == 1 and float(exponent.reshape(-1)[0]) in (2.0, 3.0):
            square = round_to_float16(x * x)
            return square if float(exponent.reshape(-1)[0]) == 2.0 else round_to_float16(square * x)
        logarithm = round_to_float16(np.log2(x.astype(np.float64)))
        result = _exp2(round_to_float16(logarithm * exponent))
        return np.where(x == 0, np.float32(0), result)  # zero to any power, to the zeroth and below as well


def _exp2(x: Single) -> Single:
    with np.errstate(over="ignore", under="ignore"):
        return round_to_float16(np.exp2(x.astype(np.float64)).astype(np.float32))  # the driver rounds twice


def fused_multiply_add(a: Single, b: Single, c: Single | np.float32) -> Single:
    """a * b + c in float32, rounded once: float64 holds the product exactly."""
    product = a.astype(np.float64) * b.astype(np.float64)
    return add_to_odd(np.broadcast_to(np.float32(c), product.shape), product).astype(np.float32)
