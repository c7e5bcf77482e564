"""Orders that stand for a revealed tree, told by what a tree looks like under each.

Every partial sum of an order is a chain: its terms one after the other, before anything else. So
the few ways of dealing terms whose chains are all in the tree are found first, and the ways of
combining are tried on those.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.order import Combining, Dealing, Order, combined_grid, tree
from fidelity.arithmetic.reveal.tree import Meeting, meeting

LANES = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
_PARTS = 32
_POWERS = (64, 128, 256, 512, 1024)


def matrix_of(order: Order, terms: int) -> Meeting:
    """The tree of `order` as a matrix; remembered, many small ones and a few large ones."""
    return (_small_matrix if terms <= SMALL else _large_matrix)(order, terms)


def _matrix(order: Order, terms: int) -> Meeting:
    return meeting(tree(order, terms), terms)


SMALL = 64
_small_matrix = lru_cache(maxsize=1 << 14)(_matrix)
_large_matrix = lru_cache(maxsize=128)(_matrix)


@lru_cache(maxsize=1 << 16)
def dealing(order: Order, terms: int) -> bytes:
    """Which terms share a partial sum: where a mean multiplies partial sums, or product and sum are fused."""
    first, _ = _places(Order(order.lanes, order.lanes_apart, order.parts, order.dealing), terms)
    return first.astype(np.int16).tobytes()


def dealt(order: Order, most: int) -> tuple[bytes, ...]:
    """`dealing` of every number of terms from 3 up to `most`."""
    return tuple(dealing(order, terms) for terms in range(3, most + 1))


def orders_of(seen: Meeting) -> list[Order]:
    """All orders with this tree, the plainest first; none when no order has it."""
    terms = seen.shape[0]
    found = []
    for lanes, apart, parts, deal in _dealings(terms):
        if not _second_is_next(seen, lanes, apart, parts, deal):
            continue
        dealt_so = Order(lanes, apart, parts, deal)
        first, rank = _places(dealt_so, terms)
        others = np.flatnonzero(rank)
        if np.array_equal(seen[first[others], others], rank[others] + 1):
            keys, heads, counts = np.unique(dealt_so.sums_of_terms(terms), return_index=True, return_counts=True)
            nodes = zip(heads.tolist(), counts.tolist(), strict=True)
            chains = dict(zip(keys.tolist(), nodes, strict=True))
            found += [order for order in _combinings(dealt_so, terms) if _combines(seen, order, chains)]
    return found


def _dealings(terms: int) -> Iterator[tuple[int, bool, int, Dealing]]:
    """Lanes, whether apart, parts and dealing. More parts than slices still show in how they are combined."""
    for lanes in LANES:
        slices = -(-terms // lanes)
        if lanes > 1 and lanes >= 2 * terms:
            continue
        counts = {*range(1, max(slices, _PARTS) + 1), *(power for power in _POWERS if power <= 4 * slices)}
        for parts, apart in product(sorted(counts), (False, True) if lanes > 1 else (False,)):
            ways: tuple[Dealing, ...] = get_args(Dealing) if 1 < parts < slices else ("stride",)
            for deal in ways:
                yield lanes, apart, parts, deal


def _combines(seen: Meeting, order: Order, chains: dict[int, _Node]) -> bool:
    """Whether the partial sums of `order`, chains of the tree by their keys, are combined as in the tree."""

    def add(left: _Node | None, right: _Node | None) -> _Node | None:
        if left is None or right is None:
            return left or right
        weight = left[1] + right[1]
        if seen[left[0], right[0]] != weight:
            raise _Elsewhere
        return left[0], weight

    lanes = order.lanes if order.lanes_apart else 1
    grid = [[chains.get(lane * order.parts + part) for part in range(order.parts)] for lane in range(lanes)]
    try:
        combined_grid(grid, order, add)
    except _Elsewhere:
        return False
    return True


class _Elsewhere(Exception):
    """Two partial sums meet at another node."""


_Node = tuple[int, int]
"""A term under a node, and how many terms that holds."""


def _second_is_next(seen: Meeting, lanes: int, apart: bool, parts: int, dealing: Dealing) -> bool:
    """Whether term 0 meets the next term of its own partial sum first. Cheap: most dealings end here."""
    terms = seen.shape[0]
    if not apart and lanes > 1:
        second = 1
    elif dealing == "stride":
        second = lanes * parts
    else:
        slices = Order(lanes).slices(terms)
        second = lanes if slices > parts else terms
    return bool(second >= terms or seen[0, second] == 2)


@lru_cache(maxsize=8192)
def _places(order: Order, terms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each term the first of its partial sum, and its place in that."""
    keys = order.sums_of_terms(terms)
    by_key = np.argsort(keys, kind="stable")
    ordered = keys[by_key]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.concatenate([starts, [terms]]))
    first, rank = np.empty(terms, np.int64), np.empty(terms, np.int64)
    first[by_key] = np.repeat(by_key[starts], lengths)
    rank[by_key] = np.arange(terms) - np.repeat(starts, lengths)
    return first, rank


def _combinings(dealt_so: Order, terms: int) -> Iterator[Order]:
    """Every way to combine; parts without a slice show in halves and fours alone."""
    slices = dealt_so.slices(terms)
    ways: tuple[Combining, ...] = get_args(Combining)
    if dealt_so.parts == 1:
        parts: tuple[Combining, ...] = ("running",)
    elif dealt_so.parts > slices:
        parts = ("halves", "fours") if slices > 1 else ()
    else:
        parts = ways
    lanes = ways if dealt_so.lanes_apart else ways[:1]
    firsts: tuple[Literal["parts", "lanes"], ...] = (
        ("parts", "lanes") if dealt_so.lanes_apart and dealt_so.parts > 1 else ("parts",)
    )
    for combine, combine_lanes, first in product(parts, lanes, firsts):
        yield Order(
            dealt_so.lanes, dealt_so.lanes_apart, dealt_so.parts, dealt_so.dealing, combine, combine_lanes, first
        )


@lru_cache(maxsize=8)
def families(terms: int) -> tuple[tuple[Order, ...], ...]:
    """Orders of few lanes and parts, those with one tree of `terms` terms together."""
    found: dict[bytes, list[Order]] = {}
    for lanes, parts, apart, deal in product(
        (1, 2, 4, 8), (1, 2, 3, 4, 6, 8, 12, 16), (False, True), get_args(Dealing)
    ):
        if (apart and lanes == 1) or (parts == 1 and deal == "block"):
            continue
        for order in _combinings(Order(lanes, apart, parts, deal), parts * lanes):
            found.setdefault(matrix_of(order, terms).tobytes(), []).append(order)
    return tuple(tuple(orders) for orders in found.values())
