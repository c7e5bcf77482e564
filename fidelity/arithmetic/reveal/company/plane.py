"""What a device showed at shapes of rows and slices, and which orders explain it there.

A shape is asked once and kept as a few rows with their results: enough to cross out orders by, in
float32, where every bit of a sum shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.company.family import threads
from fidelity.arithmetic.reveal.company.graphs import Company, CompanyLaboratory, Single, numbers

_KEPT, _ENOUGH, _MOST = 16, 12, 400_000
Spot = tuple[int, int]
"""Rows, and slices in each."""


class Kernel(Protocol):
    """An operation of several threads: its graph in float32 precision, and its definition."""

    @property
    def flavour(self) -> Order:
        """Lanes and dealing that all its orders have in common."""
        ...

    @property
    def spread(self) -> float:
        """How far the sizes of numbers differ that it is asked with: powers of e. Sums want many, powers few."""
        ...

    def graph(self, x: Single) -> Company:
        """The operation on `x` [rows, terms], in float32 precision."""
        ...

    def explaining(self, orders: Sequence[Order], x: Single, seen: Single) -> list[Order]:
        """Those of the orders under which `x` [rows, terms] gives `seen`, to the bit."""
        ...


@dataclass
class Plane:
    """The shapes seen of one kernel. `known` are the orders that explained one, in the order found."""

    kernel: Kernel
    laboratory: CompanyLaboratory
    known: list[Order] = field(default_factory=list)
    _seen: dict[Spot, tuple[Single, Single]] = field(default_factory=dict)
    _explained: dict[tuple[Order, Spot], bool] = field(default_factory=dict)
    _searched: dict[Spot, list[Order]] = field(default_factory=dict)

    def look(self, spots: Iterable[Spot]) -> None:
        """Ask the device about those not seen yet, all at once. Raises NotTold where it refuses one."""
        new = sorted({spot for spot in spots if spot not in self._seen})
        lanes = self.kernel.flavour.lanes
        asked = [
            (spot, rows_of(*spot, lanes, seed, self.kernel.spread)) for spot in new for seed in range(repeats(spot[0]))
        ]
        answers = numbers(self.laboratory, [self.kernel.graph(x) for _, x in asked])
        for spot in new:
            pairs = [(x, y) for (at, x), y in zip(asked, answers, strict=True) if at == spot]
            x = np.concatenate([x for x, _ in pairs])[:_KEPT]
            y = np.concatenate([y.reshape(-1, y.shape[-1]) for _, y in pairs])[:_KEPT]
            self._seen[spot] = x, y

    @property
    def shapes(self) -> int:
        """How many were seen."""
        return len(self._seen)

    def explains(self, order: Order, spot: Spot) -> bool:
        """Whether `order` explains what was seen there."""
        return bool(self._those([order], spot))

    def explaining(self, spot: Spot) -> frozenset[Order]:
        """The known orders that explain what was seen there; where none does, those of the whole family."""
        found = self._those(self.known, spot)
        if not found and spot not in self._searched:
            self._searched[spot] = self._those(threads(self.kernel.flavour, max(2 * spot[1], 16)), spot)
            self.known += self._searched[spot]
        return frozenset(found or self._searched.get(spot, []))

    def _those(self, orders: Sequence[Order], spot: Spot) -> list[Order]:
        new = [order for order in orders if (order, spot) not in self._explained]
        if new:
            x, seen = self._seen[spot]
            right = {*self.kernel.explaining(new, x, seen)} if np.isfinite(seen).all() else set()
            self._explained |= {(order, spot): order in right for order in new}
        return [order for order in orders if self._explained[order, spot]]


def repeats(rows: int) -> int:
    """How often a shape of few rows is asked, so that enough rows are seen."""
    return max(1, _ENOUGH // rows)


def fits(spot: Spot, lanes: int) -> bool:
    """Whether the shape is small enough to be asked."""
    return spot[0] * spot[1] * lanes <= _MOST


def rows_of(rows: int, slices: int, lanes: int, seed: int, spread: float = 1) -> Single:
    """[rows, slices * lanes] of numbers of many sizes and all bits, so that every addition rounds;
    beyond the rows that are kept, the same again."""
    generator = np.random.Generator(np.random.Philox(key=[rows * 4096 + slices, seed]))
    few = generator.standard_normal((min(rows, _KEPT), slices * lanes))
    few *= np.exp(spread * generator.standard_normal(few.shape))
    return np.resize(few.astype(np.float32), (rows, slices * lanes))


def plainest(orders: Iterable[Order], known: Sequence[Order]) -> Order | None:
    """The order of fewest threads among them, the first found of these; None of none."""
    left = sorted(orders, key=lambda order: (order.parts, known.index(order)))
    return left[0] if left else None
