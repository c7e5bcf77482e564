"""One number of rows: its slices in stretches of one order each; some multiples have stretches of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.company.plane import Plane, Spot, fits

_LARGEST_MULTIPLE = 1024


@dataclass(frozen=True)
class Stretch:
    """Neighbouring numbers of slices that one of `orders` explains; none where nothing does."""

    first: int
    last: int
    orders: frozenset[Order]


Line = dict[int, tuple[Stretch, ...]]
"""By the multiple that they are of, ascending from 1: numbers of slices belong to the largest that divides them."""


def line_of(plane: Plane, rows: int, slices: Sequence[int]) -> Line:
    """The line of `rows` over numbers of slices that were seen."""
    multiples = [1]
    for multiple in _conspicuous(plane, rows, slices):
        apart = walk(plane, rows, _members(slices, multiples[-1], multiple))
        own = walk(plane, rows, _members(slices, multiple, 0))
        mixed = walk(plane, rows, _members(slices, multiples[-1], 0))
        if len(mixed) > len(apart) + len(own) - 1:
            multiples.append(multiple)
    bounds = zip(multiples, [*multiples[1:], 0], strict=True)
    return {multiple: walk(plane, rows, _members(slices, multiple, beyond)) for multiple, beyond in bounds}


def walk(plane: Plane, rows: int, slices: Sequence[int]) -> tuple[Stretch, ...]:
    """Stretches, ascending, found from the most slices down: those tell most."""
    found: list[Stretch] = []
    for number in sorted(slices, reverse=True):
        if found and found[-1].orders:
            left = frozenset(order for order in found[-1].orders if plane.explains(order, (rows, number)))
            if left:
                found[-1] = Stretch(number, found[-1].last, left)
                continue
        orders = plane.explaining((rows, number))
        if found and not orders and not found[-1].orders:
            found[-1] = Stretch(number, found[-1].last, orders)
        else:
            found.append(Stretch(number, number, orders))
    return tuple(reversed(found))


def unsharp(line: Line) -> list[int]:
    """Numbers of slices to look at next: between two stretches with some of their kind between."""
    asked = []
    multiples = sorted(line)
    for multiple, stretches in line.items():
        beyond = next((other for other in multiples if other > multiple), 0)
        for low, high in pairwise(stretches):
            between = _members(range(low.last + 1, high.first), multiple, beyond)
            asked += between[len(between) // 2 : len(between) // 2 + 1]
    return asked


def sharpened(plane: Plane, lines: dict[int, list[int]]) -> dict[int, Line]:
    """The lines of several rows, over numbers of slices that grow until every threshold is between neighbours."""
    while True:
        found = {rows: line_of(plane, rows, slices) for rows, slices in lines.items()}
        lanes = plane.kernel.flavour.lanes
        more: list[Spot] = [
            (rows, number) for rows, line in found.items() for number in unsharp(line) if fits((rows, number), lanes)
        ]
        if not more:
            return found
        plane.look(more)
        for rows, number in more:
            lines[rows] = sorted({*lines[rows], number})


def at(line: Line, slices: int) -> Stretch:
    """The stretch that a number of slices falls into."""
    multiple = max(each for each in line if slices % each == 0)
    stretches = line[multiple]
    return next((each for each in reversed(stretches) if each.first <= slices), stretches[0])


def _conspicuous(plane: Plane, rows: int, slices: Sequence[int]) -> list[int]:
    """Powers of two whose odd multiples differ from both their neighbours, which agree; twice at least."""
    found: dict[int, int] = {}
    for stretch in walk(plane, rows, [number for number in slices if number % 2]):
        for number in slices:
            if number % 2 or not stretch.first < number < stretch.last or not stretch.orders:
                continue
            if not any(plane.explains(order, (rows, number)) for order in stretch.orders):
                power = gcd(number, _LARGEST_MULTIPLE)
                found[power] = found.get(power, 0) + 1
    return [power for power in sorted(found) if found[power] > 1]


def _members(slices: Sequence[int], multiple: int, beyond: int) -> list[int]:
    """Those that are multiples of one number and not of another; 0 has none."""
    return [number for number in slices if number % multiple == 0 and (beyond == 0 or number % beyond)]
