"""Reported bugs of matrix products and of attention, each as a tiny graph whose answer is a whole number."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np

from fidelity.devices.known_issue_sketch import Shape, Single, Sketch, Trial, options, whole_numbers

HEADS, DEPTH = 2, 8


def _turned(sketch: Sketch, x: bool, y: bool, constant: bool) -> None:
    a, b = whole_numbers(1, 2, 4, 4), whole_numbers(2, 1, 4, 4).reshape(1, 2, 4, 4)
    turned = (a.swapaxes(2, 3) if x else a) @ (b.swapaxes(2, 3) if y else b)
    other = sketch.constant(b) if constant else sketch.input(b)
    made = options("BatchMatMul", adjX=x, adjY=y)
    result = sketch.op("BATCH_MATMUL", [sketch.input(a), other], (1, 2, 4, 4), made)
    flags = " and ".join(name for name, on in (("adj_x", x), ("adj_y", y)) if on)
    what = f"BATCH_MATMUL with {flags}{', a constant right side' if constant else ''}"
    sketch.output(result, what, turned, symptoms={"the product without the flag": a @ b})


turned_products: tuple[Trial, ...] = tuple(
    partial(_turned, x=x, y=y, constant=constant)
    for x, y, constant in product((False, True), (False, True), (False, True))
    if x or y
)
"""#8913: square operands, so that an ignored flag gives a product of the same shape."""


def mask_on_a_product(sketch: Sketch) -> None:
    """#8593: attention scores [1, heads, queries, keys] and a mask broadcast over heads, or over another axis."""
    q, k = whole_numbers(1, 4, 8, 4), whole_numbers(1, 4, 4, 8, low=-2, high=4)
    scores = q @ k
    for shape in ((1, 1, 8, 8), (1, 4, 8, 1), (1, 4, 1, 8)):
        mask = whole_numbers(*shape, low=-99, high=99)
        for constant in (True, False):
            operands = [sketch.input(q), sketch.input(k)]
            made = sketch.op("BATCH_MATMUL", operands, scores.shape, options("BatchMatMul"))
            other = sketch.constant(mask) if constant else sketch.input(mask)
            added = sketch.op("ADD", [made, other], scores.shape, options("Add"))
            told = "constant" if constant else "runtime"
            sketch.output(added, f"BATCH_MATMUL + a {told} {list(shape)}", scores + mask, symptoms={"no ADD": scores})


def two_way_attention(sketch: Sketch) -> None:
    """#8619: as in SAM's mask decoder, heads as the batch of rank-3 products, both ways, then a rank-2 mask head.

    Keys are rows of a Hadamard matrix and their negatives, queries four times such a row: scores are 32
    for one key and 0 or less for others, exp(-32) is nothing in float16, and attention only selects rows.
    """
    codes = _codes()
    to_image, to_tokens = np.array([5, 0, 13, 2, 9, 7]), np.arange(16) * 5 % 6
    k_image = _beside(codes, np.roll(codes, 3, axis=0))
    k_tokens = _beside(codes[:6], codes[6:12])
    tokens, values = whole_numbers(6, 16), whole_numbers(16, 16)

    updated = _attention(sketch, 4 * k_image[to_image], k_image, sketch.input(values[np.newaxis]), values.shape)
    updated = sketch.op("ADD", [updated, sketch.input(tokens[np.newaxis])], (1, 6, 16), options("Add"))
    image = _attention(sketch, 4 * k_tokens[to_tokens], k_tokens, updated, tokens.shape)
    head = [sketch.reshape(updated, (6, 16)), sketch.transpose(sketch.reshape(image, (16, 16)), (1, 0), (16, 16))]
    mask = sketch.op("BATCH_MATMUL", head, (6, 16), options("BatchMatMul"))

    right_tokens = values[to_image] + tokens
    right_image = right_tokens[to_tokens]
    sketch.output(mask, "two rank-3 attentions and a rank-2 mask head", right_tokens @ right_image.T)


def _attention(sketch: Sketch, queries: Single, keys: Single, values: str, of: Shape) -> str:
    """softmax(q k') v with heads as the batch; `values` is [1, keys, channels], as the result is."""
    count, given = len(queries), of[0]
    q = _heads(sketch, sketch.input(queries[np.newaxis]), count)
    k = _heads(sketch, sketch.input(keys[np.newaxis]), given)
    k = sketch.transpose(k, (0, 2, 1), (HEADS, DEPTH, given))
    scores = sketch.op("BATCH_MATMUL", [q, k], (HEADS, count, given), options("BatchMatMul"))
    shares = sketch.op("SOFTMAX", [scores], (HEADS, count, given), options("Softmax", beta=1.0))
    mixed = [shares, _heads(sketch, values, given)]
    y = sketch.op("BATCH_MATMUL", mixed, (HEADS, count, DEPTH), options("BatchMatMul"))
    y = sketch.transpose(sketch.reshape(y, (1, HEADS, count, DEPTH)), (0, 2, 1, 3), (1, count, HEADS, DEPTH))
    return sketch.reshape(y, (1, count, HEADS * DEPTH))


def _heads(sketch: Sketch, x: str, count: int) -> str:
    """[1, count, channels] to [heads, count, depth], by the transpose that a converter writes."""
    x = sketch.transpose(sketch.reshape(x, (1, count, HEADS, DEPTH)), (0, 2, 1, 3), (1, HEADS, count, DEPTH))
    return sketch.reshape(x, (HEADS, count, DEPTH))


def _codes() -> Single:
    """Sixteen rows of eight: a product of 8 with itself, -8 with its negative, 0 with every other."""
    two = np.array([[1, 1], [1, -1]], np.float32)
    eight = np.kron(np.kron(two, two), two)
    return np.concatenate([eight, -eight])


def _beside(*per_head: Single) -> Single:
    return np.concatenate(per_head, axis=1)
