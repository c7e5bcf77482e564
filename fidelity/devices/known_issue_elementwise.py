"""Reported bugs of sums, additions, padding and clipping, each as the smallest graph that its report gives."""

from __future__ import annotations

import numpy as np

from fidelity.devices.known_issue_sketch import Sketch, options, whole_numbers

_LARGEST = 65504.0


def sum_past_the_largest_number(sketch: Sketch) -> None:
    """#9249: squeeze-and-excite pooling, a SUM over height and width and a scale; 64 x 2048 is 131,072."""
    x = np.ones((1, 8, 8, 4), np.float32)
    x[..., 0] = 2048
    reduced = sketch.op(
        "SUM",
        [sketch.input(x), sketch.constant([1, 2], "int32")],
        (1, 1, 1, 4),
        options("Reducer", keepDims=True),
    )
    scaled = sketch.op("MUL", [reduced, sketch.constant(1 / 64)], (1, 1, 1, 4), options("Mul"))
    right = x.mean(axis=(1, 2), keepdims=True)
    symptoms = {}
    for told, wrong in {"infinity": np.inf, "NaN": np.nan, "clipped at 65,504": _LARGEST / 64}.items():
        symptoms[told] = right.copy()
        symptoms[told][..., 0] = wrong
    sketch.output(scaled, "a SUM of 131,072, scaled by 1/64", right, symptoms=symptoms)


def add_both_output_and_consumed(sketch: Sketch) -> None:
    """#8599: `acc = x + state; return acc.sum(), acc`; the ADD's own output holds one of its operands."""
    x, state = whole_numbers(1, 1, 8, 8, low=1), whole_numbers(1, 1, 8, 8, low=4, high=7)
    added = sketch.op("ADD", [sketch.input(x), sketch.input(state)], x.shape, options("Add"))
    every = sketch.constant([0, 1, 2, 3], "int32")
    total = sketch.op("SUM", [added, every], (1, 1, 1, 1), options("Reducer", keepDims=True))
    sketch.output(total, "the SUM that reads it", np.full((1, 1, 1, 1), (x + state).sum()))
    operands = {"its first operand": x, "its second operand": state}
    sketch.output(added, "an ADD that is read and is an output", x + state, symptoms=operands)


def pad_the_middle_axis(sketch: Sketch) -> None:
    """#9272: rank 3, [16, 32, 1] to [16, 64, 1]; the shift is along the outermost axis."""
    x = whole_numbers(16, 32, 1, low=1, high=999)
    _pad(sketch, x, ((0, 0), (0, 32), (0, 0)), "PAD behind the middle of three axes")


def pad_the_outermost_axis(sketch: Sketch) -> None:
    """#9272: rank 3, [16, 32, 8] to [20, 32, 8]."""
    x = whole_numbers(16, 32, 8, low=1, high=999)
    _pad(sketch, x, ((0, 4), (0, 0), (0, 0)), "PAD behind the outermost of three axes")


def _pad(sketch: Sketch, x: np.ndarray, by: tuple[tuple[int, int], ...], what: str) -> None:
    right = np.pad(x, by)
    shifted = np.concatenate([np.zeros_like(right[:1]), right[:-1]])
    padded = sketch.op("PAD", [sketch.input(x), sketch.constant(by, "int32")], right.shape, options("Pad"))
    sketch.output(padded, what, right, symptoms={"rows shifted by one": shifted})


def clip_to_one(sketch: Sketch) -> None:
    """#8598: RELU_0_TO_1; taken by 2.1.3, refused by 2.1.5 and 2.1.6.

    Behind an ADD that every delegate takes: of a graph that it refuses whole, ai-edge-litert 2.3.0's log
    does not say how many nodes ran where.
    """
    x = np.array([-3, -1, -0.5, 2], np.float32).reshape(1, 1, 1, 4)
    shifted = sketch.op("ADD", [sketch.input(x), sketch.constant(1)], x.shape, options("Add"))
    sketch.output(sketch.op("RELU_0_TO_1", [shifted], x.shape), "RELU_0_TO_1", np.clip(x + 1, 0, 1))


def add_of_two_ranks(sketch: Sketch) -> None:
    """#8980: attention scores [heads, queries, keys] + a mask [1, 1, queries, keys], both at run time."""
    _two_ranks(sketch, "ADD")


def mul_of_two_ranks(sketch: Sketch) -> None:
    """#8980: the same with MUL."""
    _two_ranks(sketch, "MUL")


def _two_ranks(sketch: Sketch, kind: str) -> None:
    scores, mask = whole_numbers(4, 8, 8, low=-9, high=9), whole_numbers(1, 1, 8, 8, low=-9, high=9)
    right = scores + mask if kind == "ADD" else scores * mask
    for what, operands in (("rank 3", (scores, mask)), ("rank 4", (mask, scores))):
        y = sketch.op(kind, [sketch.input(x) for x in operands], right.shape, options(kind.capitalize()))
        sketch.output(y, f"{kind} of rank 3 and rank 4, {what} first", right)
