"""The maximum and the sum of powers of every row, in one pass: by one thread a row, or by several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.order import Order, combined
from fidelity.arithmetic.packed import softmax_statistics
from fidelity.arithmetic.rules import Softmax, chosen

Single = NDArray[np.float32]
Power = Callable[[Single], Single]
Statistics = tuple[Single, Single]
"""Greatest number and sum of e^(x - greatest), float32 of one shape."""


def statistics(rows: Single, rule: Softmax, power: Power) -> Statistics:
    """Of every row of float32 [rows, K], as the rule's `online` pass has them; [rows] each. `power` is e^x."""
    order = Order(lanes=rule.lanes)
    if rule.shared:
        order = chosen(rule.shared, rows=rows.shape[0], columns=1, terms=rows.shape[1]).order
    if order.parts == 1 and compiled.path() is not None and rule.exponential == "exp2_gallivm":
        return softmax_statistics(rows, rule.lanes)
    greatest, sums = running_statistics(rows, order, power)

    def merge(left: Statistics, right: Statistics) -> Statistics:
        most = np.maximum(left[0], right[0])
        return most, left[1] * power(left[0] - most) + right[1] * power(right[0] - most)

    threads = [(greatest[:, part], sums[:, part]) for part in range(order.parts)]
    return combined(threads, order.combine, merge)


def running_statistics(rows: Single, order: Order, power: Power) -> Statistics:
    """Of every thread of every row, [rows, parts] each.

    A slice at a time: when the maximum moves, the sum so far is rescaled; then the slice's own sum
    is added. All threads of a row start from its first number as their maximum, and from 0.
    """
    rounds = order.rounds(rows.shape[1])
    short = rounds * order.parts * order.lanes - rows.shape[1]
    filled = np.concatenate([rows, np.full((rows.shape[0], short), -np.inf, np.float32)], axis=1)
    greatest = np.repeat(rows[:, :1], order.parts, axis=1)
    sums = np.zeros_like(greatest)
    for slices in filled.reshape(rows.shape[0], rounds, order.parts, order.lanes).swapaxes(0, 1):
        moved = np.maximum(greatest, slices.max(axis=-1))
        powers = np.where(np.isneginf(slices), np.float32(0), power(slices - moved[..., np.newaxis]))
        here = powers[..., 0]
        for lane in range(1, order.lanes):
            here = here + powers[..., lane]
        sums = sums * power(greatest - moved) + here
        greatest = moved
    return greatest, sums
