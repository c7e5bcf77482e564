"""The fixed masks that every shape of so many terms is asked, and what a known order answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.masks import Mask
from fidelity.arithmetic.reveal.orders import SMALL, dealing, matrix_of
from fidelity.arithmetic.reveal.sites import Shape
from fidelity.arithmetic.reveal.tree import Counts, outside

_PAIRS = 48


@lru_cache(maxsize=1 << 15)
def expected(order: Order, terms: int, most: int) -> Counts:
    return outside(matrix_of(order, terms), battery(terms, most))


@lru_cache(maxsize=512)
def battery(terms: int, most: int) -> tuple[Mask, ...]:
    """The questions that every shape of so many terms is asked, each watching up to `most`."""
    generator = np.random.Generator(np.random.Philox(terms))
    pairs = [(0, int(j)) for j in generator.permutation(np.arange(1, terms))[:_PAIRS]]
    pairs += [(int(i), int(j)) for i, j in (generator.permutation(terms)[:2] for _ in range(_PAIRS))]
    masks = []
    for i, j in pairs:
        others = generator.permutation(terms)
        masks.append(Mask(i, j, tuple(others[(others != i) & (others != j)][:most].tolist())))
    return tuple(masks)


def apart(orders: Sequence[Order], terms: int) -> bool:
    """Whether the orders do not all add so many terms alike; many terms that are dealt alike are taken to."""
    if terms > SMALL and len({dealing(order, terms) for order in orders}) < 2:
        return False
    return len({matrix_of(order, terms).tobytes() for order in orders}) > 1


def words(shape: Shape) -> str:
    return f"{shape.rows} rows, {shape.columns} columns, {shape.terms} terms"
