"""Products and reductions: a sum of K terms is off by at most what fidelity.comparison.tolerance derives from sqrt(K).

The fault of each is one that keeps the size of the numbers: outputs in each other's places, half of the terms
forgotten. Against the bound of float16, 4 eps sqrt(K + 1) of the magnitudes' sum, it has to show in the worst element.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from device_graphs import Cases, Single, options
from operation_pieces import Draw, Piece, Wide, piece

from fidelity.comparison.tolerance import EPS, SMALLEST, accumulation_tolerance


def _bound(magnitude: Wide, terms: int) -> Callable[[float], Wide]:
    """As a function of eps, which names the format."""
    formats = {eps: stored for stored, eps in EPS.items()}

    def allowed(eps: float) -> Wide:
        stored = formats[eps]
        return accumulation_tolerance(terms, stored, stored) * magnitude + SMALLEST[stored] * terms

    return allowed


def shifted(cases: Cases, *shape: int) -> Single:
    """Normal values about 0.25: their sums neither cancel nor only grow."""
    return (cases.generator.standard_normal(shape) + 0.25).astype(np.float16).astype(np.float32)


def fully_connected(cases: Cases) -> Piece:
    rows, terms, outputs = cases.size(1, 200), cases.size(3, 800), cases.size(4, 300)
    x, w, bias = shifted(cases, rows, terms), shifted(cases, outputs, terms), shifted(cases, outputs)
    made = options("FullyConnected", keepNumDims=True)
    y = cases.op("FULLY_CONNECTED", [cases.input(x), cases.constant(w), cases.constant(bias)], (rows, outputs), made)
    a, b = x.astype(np.float64), w.astype(np.float64).T
    exact, magnitude = a @ b + bias, np.abs(a) @ np.abs(b) + np.abs(bias)
    wrong = np.roll(exact, 1, axis=-1)
    told = f"FULLY_CONNECTED, {rows} rows, {terms} terms, {outputs} outputs"
    return piece(cases, y, exact, wrong, _bound(magnitude, terms + 1), told)


def dequantize(cases: Cases) -> Piece:
    """float16 weights of a FULLY_CONNECTED whose rows pick one of them each: zeros add nothing, the bits are kept."""
    terms, outputs = cases.size(4, 60), cases.size(4, 60)
    w = cases.normal(outputs, terms)
    stored = cases.constant(w, "float16")
    weights = cases.op("DEQUANTIZE", [stored], w.shape)
    made = options("FullyConnected", keepNumDims=True)
    y = cases.op("FULLY_CONNECTED", [cases.input(np.eye(terms)), weights, ""], (terms, outputs), made)
    wrong = np.roll(w.T, 1, axis=0)
    return piece(cases, y, w.T, wrong, lambda _: 0.0, f"DEQUANTIZE of {w.shape}")


def batch_matmul(cases: Cases) -> Piece:
    heads, rows, terms, columns = cases.size(1, 4), cases.size(1, 200), cases.size(4, 200), cases.size(4, 200)
    lead = (heads,) if cases.size(0, 1) else (1, heads)
    x, w = shifted(cases, *lead, rows, terms), shifted(cases, *lead, terms, columns)
    y = cases.op("BATCH_MATMUL", [cases.input(x), cases.input(w)], (*lead, rows, columns), options("BatchMatMul"))
    a, b = x.astype(np.float64), w.astype(np.float64)
    told = f"BATCH_MATMUL of {x.shape} and {w.shape}"
    bound = _bound(np.abs(a) @ np.abs(b), terms)
    return piece(cases, y, a @ b, np.roll(a @ b, 1, axis=-1), bound, told)


def conv_2d(cases: Cases) -> Piece:
    """Windows side by side, as patches are; a fault turns the window round."""
    window, channels, outputs = cases.size(2, 8), cases.size(1, 4), cases.size(4, 90)
    high, wide = cases.size(2, 9), cases.size(2, 9)
    x = shifted(cases, 1, high * window, wide * window, channels)
    w, bias = shifted(cases, outputs, window, window, channels), shifted(cases, outputs)
    made = options("Conv2D", strideH=window, strideW=window, padding=1, dilationHFactor=1, dilationWFactor=1)
    y = cases.op("CONV_2D", [cases.input(x), cases.constant(w), cases.constant(bias)], (1, high, wide, outputs), made)
    patches = x.astype(np.float64).reshape(1, high, window, wide, window, channels)

    def convolved(patches: Wide, weights: Wide, bias: Single) -> Wide:
        return np.einsum("bhiwjc,oijc->bhwo", patches, weights) + bias

    exact = convolved(patches, w.astype(np.float64), bias)
    wrong = convolved(patches, w.astype(np.float64)[:, ::-1, ::-1], bias)
    terms = window * window * channels + 1
    bound = _bound(convolved(np.abs(patches), np.abs(w.astype(np.float64)), np.abs(bias)), terms)
    return piece(cases, y, exact, wrong, bound, f"CONV_2D of {x.shape} with {w.shape}")


def reduction(kind: str) -> Draw:
    """Over the last axis or the one before it, kept or not; a fault forgets half of the terms."""

    def draw(cases: Cases) -> Piece:
        axis, keep = cases.size(2, 3), bool(cases.size(0, 1))
        rows, terms = cases.size(1, 60), cases.size(5, 600)
        shape = (1, cases.size(1, 4), rows, terms) if axis == 3 else (1, cases.size(1, 4), terms, rows)
        x = shifted(cases, *shape)
        reduced = tuple(1 if i == axis else n for i, n in enumerate(shape) if keep or i != axis)
        y = cases.op(
            kind, [cases.input(x), cases.constant([axis], "int32")], reduced, options("Reducer", keepDims=keep)
        )
        share = 1 / terms if kind == "MEAN" else 1.0
        wide = x.astype(np.float64)
        exact, magnitude, half = (
            np.sum(side, axis=axis).reshape(reduced) * share
            for side in (wide, np.abs(wide), wide.take(range(terms // 2), axis=axis))
        )
        told = f"{kind} of {shape} over {axis}, kept {keep}"
        return piece(cases, y, exact, half, _bound(magnitude, terms), told)

    return draw


SUMS: dict[str, Draw] = {
    "FULLY_CONNECTED": fully_connected,
    "DEQUANTIZE": dequantize,
    "BATCH_MATMUL": batch_matmul,
    "CONV_2D": conv_2d,
    "SUM": reduction("SUM"),
    "MEAN": reduction("MEAN"),
}
