"""Orders that a kernel of several threads may follow: the candidates that numbers seen cross out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Literal, get_args

from fidelity.arithmetic.order import Combining, Dealing, Groups, Order, combined

PARTS = (*range(1, 17), 32, 64, 128, 256, 512, 1024)
_WAYS: tuple[Combining | Groups, ...] = (
    *get_args(Combining),
    *((size,) for size in (4, 8, 16, 32)),
    *product((4, 8, 16), (4, 8)),
    (4, 4, 4),
    (8, 8, 8),
)
_SMALL = 64


def threads(flavour: Order, most: int) -> list[Order]:
    """Every number of threads up to `most` and way to combine them, otherwise as `flavour`; the plainest first."""
    return [
        replace(flavour, parts=parts, combine=way) for parts in PARTS if parts <= most for way in _different_ways(parts)
    ]


def flavours() -> Iterator[Order]:
    """Every way to arrange lanes within threads, and to deal slices to them."""
    dealings: tuple[Dealing, ...] = get_args(Dealing)
    firsts: tuple[Literal["parts", "lanes"], ...] = ("lanes", "parts")
    together: tuple[Combining, ...] = ("running", "halves", "neighbours")
    for dealing in dealings:
        yield Order(dealing=dealing)
        for lanes in (4, 2, 8):
            for first, way in product(firsts, together[: 2 if lanes == 2 else 3]):
                yield Order(lanes, True, dealing=dealing, combine_lanes=way, first=first)
            yield Order(lanes, dealing=dealing)
            yield Order(lanes, dealing=dealing, dotted=True)


@lru_cache(maxsize=64)
def _different_ways(parts: int) -> tuple[Combining | Groups, ...]:
    """Ways to combine so many partial sums that add them in different trees; the plainest of each."""
    if parts > _SMALL:
        return _WAYS
    trees: dict[str, Combining | Groups] = {}
    for way in _WAYS:
        trees.setdefault(combined([str(part) for part in range(parts)], way, lambda a, b: f"({a} {b})"), way)
    return tuple(trees.values())
