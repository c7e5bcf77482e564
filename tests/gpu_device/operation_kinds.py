"""Every kind of operation that a converted PE-Core holds: movement, elementwise, exponentials; sums are next door.

Limits of functions are those of WGSL's table of accuracy, which the delegate's shaders are compiled
under (OpenCL's are no wider): division 2.5 ulp, inverse root 2 ulp, exp2 1 + 2 |x| ulp in f16 and
3 + 2 |x| in f32, log2 3 ulp, or 2^-7 (f16) and 2^-21 (f32) absolutely from 0.5 to 2.
"""

from __future__ import annotations

import numpy as np
from device_graphs import Cases, options
from operation_pieces import Draw, Piece, Wide, away_from_zero, drawn_shape, piece
from operation_sums import SUMS
from scipy.special import erf

from fidelity.comparison.tolerance import SAFETY

BINARY = {
    "ADD": (np.add, np.subtract),
    "SUB": (np.subtract, lambda a, b: b - a),
    "MUL": (np.multiply, lambda a, b: a + 0 * b),
    "DIV": (np.divide, lambda a, b: b / a),
    "MAXIMUM": (np.maximum, np.minimum),
}
ROUNDINGS = {"ADD": 1.0, "SUB": 1.0, "MUL": 1.0, "DIV": 3.5, "MAXIMUM": 0.0}
"""In eps of the result: one of the result, and a quotient's 2.5 ulp. The greater of two numbers is one of them."""


def binary(kind: str) -> Draw:
    """With a second tensor, a row, a column at run time, or a number: the forms that the artefact has."""
    right, wrong = BINARY[kind]

    def draw(cases: Cases) -> Piece:
        shape = drawn_shape(cases)
        a = away_from_zero(cases, shape)
        form = cases.size(0, 3)
        b = away_from_zero(cases, [shape, shape[-1:], (*shape[:-1], 1), (1,)][form])
        operands = [cases.input(a), cases.input(b) if form in (0, 2) else cases.constant(b)]
        table = "MaximumMinimum" if kind == "MAXIMUM" else kind.capitalize()
        y = cases.op(kind, operands, shape, options(table))
        wide = a.astype(np.float64), b.astype(np.float64)
        exact, faulty = right(*wide), wrong(*wide)
        return piece(
            cases,
            y,
            exact,
            np.broadcast_to(faulty, shape),
            lambda eps: ROUNDINGS[kind] * eps * np.abs(exact),
            f"{kind} of {shape} and {b.shape}",
        )

    return draw


def rsqrt(cases: Cases) -> Piece:
    """2 ulp and the result's rounding: 3 eps."""
    shape = drawn_shape(cases)
    x = np.abs(away_from_zero(cases, shape))
    y = cases.op("RSQRT", [cases.input(x)], shape)
    exact = 1 / np.sqrt(x.astype(np.float64))
    return piece(cases, y, exact, 1 / exact, lambda eps: 3 * eps * exact, f"RSQRT of {shape}")


def pow_(cases: Cases) -> Piece:
    """x^e = exp2(e log2 x): log2's error and the product's rounding times ln 2, exp2's own, and the result's.

    log2 near 1 is good to 2^-7 absolutely in f16: that is 8 eps, and 4 eps in f32 (2^-21).
    """
    shape = drawn_shape(cases)
    x = np.abs(away_from_zero(cases, shape))
    y = cases.op("POW", [cases.input(x), cases.constant(np.full((1,) * len(shape), 0.5))], shape, options("Pow"))
    log2 = np.abs(np.log2(x.astype(np.float64)))
    exact = np.sqrt(x.astype(np.float64))

    def allowed(eps: float) -> Wide:
        argument = 0.5 * np.maximum(8 * eps, 3 * eps * log2) + eps * 0.5 * log2
        return exact * (np.log(2) * argument + eps * (3 + log2) + eps)

    return piece(cases, y, exact, x.astype(np.float64) ** -0.5, allowed, f"POW 0.5 of {shape}")


def gelu(cases: Cases) -> Piece:
    """x/2 (1 + erf(x / sqrt 2)), all steps below 2 but the last: 16 roundings of |x|/2 x 2, and erf's 1.5e-7.

    No shading language has erf: a polynomial of five terms (10 roundings) and an exponential (3) stand for it
    (Abramowitz and Stegun 7.1.26, good to 1.5e-7), then a sum and two products.
    """
    shape = drawn_shape(cases)
    x = (cases.generator.standard_normal(shape) * 2).astype(np.float16).astype(np.float32)
    y = cases.op("GELU", [cases.input(x)], shape, options("Gelu"))
    wide = x.astype(np.float64)
    exact = wide / 2 * (1 + erf(wide / np.sqrt(2)))
    faulty = wide / 2 * (1 + erf(wide))
    return piece(
        cases, y, exact, faulty, lambda eps: (16 * eps + 1.5e-7) * np.abs(wide) + TINY_STEP, f"GELU of {shape}"
    )


TINY_STEP = 2.0**-24
"""float16's last place near zero: a step of GELU that falls below it is gone."""


def softmax(cases: Cases) -> Piece:
    """exp2((x - max) log2 e) over a sum of K such: the argument is rounded twice, which exp turns into a factor.

    The argument's 2 eps |x - max|, exp2's 2 |z| ulp with z = 1.44 |x - max|, together 5 |x - max| eps; exp2's
    3, the quotient's 3.5 and the result's 1; the sum of K positive terms SAFETY sqrt(K + 1) (tolerance.py).
    """
    shape = drawn_shape(cases)
    x = (cases.generator.standard_normal(shape) * 2).astype(np.float16).astype(np.float32)
    y = cases.op("SOFTMAX", [cases.input(x)], shape, options("Softmax", beta=1.0))
    below = x.astype(np.float64) - x.max(axis=-1, keepdims=True)

    def shares(power: Wide) -> Wide:
        return power / power.sum(axis=-1, keepdims=True)

    exact = shares(np.exp(below))
    terms = SAFETY * np.sqrt(shape[-1] + 1)
    return piece(
        cases,
        y,
        exact,
        shares(np.exp2(below)),
        lambda eps: exact * eps * (5 * np.abs(below) + 7.5 + terms) + TINY_STEP,
        f"SOFTMAX of {shape}",
    )


def reshape(cases: Cases) -> Piece:
    """The same numbers in the same order."""
    heads, rows, columns = cases.size(2, 6), cases.size(2, 30), 4 * cases.size(1, 8)
    x = cases.normal(1, heads, rows, columns)
    shape = [(heads, rows, columns), (1, rows, heads, columns), (1, heads * rows, columns)][cases.size(0, 2)]
    y = cases.op("RESHAPE", [cases.input(x), cases.constant(shape, "int32")], shape, options("Reshape"))
    wrong = np.roll(x.reshape(shape), 1, axis=-1)
    return piece(cases, y, x.reshape(shape), wrong, lambda _: 0.0, f"RESHAPE of {x.shape} to {shape}")


def transpose(cases: Cases) -> Piece:
    """The orders of the artefact, and others; a fault reshapes instead."""
    x = cases.normal(1, cases.size(2, 6), cases.size(2, 30), cases.size(3, 40))
    order = (0, *(1 + cases.generator.permutation(3)))
    if order == (0, 1, 2, 3):
        order = (0, 2, 1, 3)
    right = x.transpose(order)
    y = cases.op("TRANSPOSE", [cases.input(x), cases.constant(order, "int32")], right.shape, options("Transpose"))
    told = f"TRANSPOSE of {x.shape} by {tuple(int(i) for i in order)}"
    return piece(cases, y, right, x.reshape(right.shape), lambda _: 0.0, told)


def slice_(cases: Cases) -> Piece:
    """From anywhere, any size; a fault begins at zero."""
    x = cases.normal(1, 4, cases.size(4, 40), cases.size(8, 60))
    start = [0, cases.size(0, 2), cases.size(1, 2), cases.size(1, 5)]
    size = [1, 2, *(n - s - cases.size(0, 1) for n, s in zip(x.shape[2:], start[2:], strict=True))]
    where = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    ends = [cases.constant(start, "int32"), cases.constant(size, "int32")]
    y = cases.op("SLICE", [cases.input(x), *ends], tuple(size), options("Slice"))
    wrong = x[tuple(slice(0, n) for n in size)]
    return piece(cases, y, x[where], wrong, lambda _: 0.0, f"SLICE of {x.shape} from {start}, {size}")


def concatenation(cases: Cases) -> Piece:
    """Two tensors on one axis, the first a constant or not; a fault exchanges them."""
    axis = cases.size(1, 3)
    shape = [1, 3, cases.size(2, 20), cases.size(3, 40)]
    other = [cases.size(1, 9) if i == axis else n for i, n in enumerate(shape)]
    a, b = cases.normal(*shape), cases.normal(*other)
    first = cases.constant(a) if cases.size(0, 1) else cases.input(a)
    right = np.concatenate([a, b], axis)
    y = cases.op("CONCATENATION", [first, cases.input(b)], right.shape, options("Concatenation", axis=axis))
    wrong = np.concatenate([b, a], axis)
    return piece(cases, y, right, wrong, lambda _: 0.0, f"CONCATENATION of {a.shape}, {b.shape} on {axis}")


KINDS: dict[str, Draw] = {
    **{kind: binary(kind) for kind in BINARY},
    "RSQRT": rsqrt,
    "POW": pow_,
    "GELU": gelu,
    "SOFTMAX": softmax,
    "RESHAPE": reshape,
    "TRANSPOSE": transpose,
    "SLICE": slice_,
    "CONCATENATION": concatenation,
    **SUMS,
}
