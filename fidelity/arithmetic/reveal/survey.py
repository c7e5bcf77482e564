"""Which order a site takes for which shape: a lattice of shapes, and the thresholds between by bisection.

Every lattice shape is asked a fixed set of masks. An order that is known already either explains
the answers or not; a shape that none explains has its whole tree revealed, once. What lies between
two lattice numbers is resolved if it changes no more than once there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.accumulator import MEANS, rule_of
from fidelity.arithmetic.reveal.canonical import Kept
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, ask, same
from fidelity.arithmetic.reveal.masks import Mask, Masks, masks_for
from fidelity.arithmetic.reveal.orders import SMALL, dealing, dealt, matrix_of, orders_of
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.reveal.tree import Counts, meeting, outside, reveal_tree

_PAIRS = 48
_SHARPENINGS = 8
_SIZES, _AT_ONCE, _VARIED = 96, 3, 256


@dataclass(frozen=True)
class Lattice:
    """The numbers of rows, columns and terms at which a site is looked at, each ascending."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    terms: tuple[int, ...]


@dataclass(frozen=True)
class Region:
    """From `first` terms on, up to the next region, one of the known orders `labels`."""

    first: int
    labels: frozenset[int]


Line = tuple[int, int]
"""Rows and columns, the same for every number of terms."""
Chain = list[tuple[int, frozenset[int]]]
"""Regions by the lattice number of terms from which they hold at the latest."""


class Survey:
    """What has been seen of one site, and the orders known so far."""

    def __init__(
        self,
        site: Site,
        lattice: Lattice,
        kept: Kept,
        flushed: bool,
        arithmetic: Arithmetic,
        findings: Findings,
        likely: Sequence[Order] = (),
    ) -> None:
        """`likely` orders are tried before a tree is revealed: those of a site that may be the same."""
        self.site, self.lattice, self.findings = site, lattice, findings
        # each lattice number and the next, so that what begins right behind one is not passed over
        self.ladder = tuple(sorted({*lattice.terms, *(terms + 1 for terms in lattice.terms[:-1])}))
        self._kept, self._flushed, self.arithmetic = kept, flushed, arithmetic
        self.known: list[Order] = list(dict.fromkeys(likely))
        self._seen: dict[Shape, Single] = {}
        self._varied: set[bytes] = set()

    def look(self, shapes: Iterable[Shape]) -> Inquiry[None]:
        """See the masks' answers at `shapes`; those seen before are not asked again."""
        new = sorted({shape for shape in shapes if shape not in self._seen})
        requests = [(shape, self._battery(shape.terms)) for shape in new]
        for shape, values in zip(new, (yield from self._measured(requests)), strict=True):
            self._seen[shape] = values

    def label(self, shapes: Iterable[Shape]) -> Inquiry[dict[Shape, frozenset[int]]]:
        """The known orders that explain each shape, revealing new ones as needed; none where no order does."""
        wanted = list(shapes)
        yield from self.look(wanted)
        hopeless: set[Shape] = set()
        while True:
            labels = {shape: self.explained(shape) for shape in wanted}
            open_shapes = [it for it in wanted if not labels[it] and it not in hopeless and self._countable(it)]
            if not open_shapes:
                return labels
            shape = max(open_shapes, key=lambda it: (it.terms, max(it.rows, it.columns)))
            if not (yield from self._learn(shape)):
                hopeless.add(shape)

    def explained(self, shape: Shape, among: frozenset[int] | None = None) -> frozenset[int]:
        """The known orders, or those `among` them, that explain what was seen at `shape`."""
        tried = range(len(self.known)) if among is None else sorted(among)
        if shape not in self._seen:
            return frozenset()
        if not self._countable(shape):
            return frozenset(number for number in tried if self._predicted(shape, self.known[number]))
        masks, most = self._battery(shape.terms), self._masks(shape.terms).most
        try:
            counts = self._counts(shape, masks, self._seen[shape])
        except NotTold:
            return frozenset()
        return frozenset(
            number for number in tried if np.array_equal(_expected(self.known[number], shape.terms, most), counts)
        )

    def likely(self, line: Line, terms: int) -> frozenset[int]:
        """The known orders that explain the line's next lattice number from `terms` on."""
        return self.explained(Shape(*line, min(it for it in self.ladder if it >= terms)))

    def _predicted(self, shape: Shape, order: Order) -> bool:
        """Whether the order explains a mean whose division rounds, so that its value is no count."""
        terms = self._masks(shape.terms).terms(self._battery(shape.terms), shape.terms)
        experiment = Experiment("MEAN", (terms[np.newaxis, np.newaxis],), axis=3)
        for mean in MEANS:
            rule = rule_of(Site("MEAN"), self._kept, order, mean)
            if same(self._seen[shape], predict(self.arithmetic.with_rule("MEAN", rule), experiment).reshape(-1)):
                return True
        return False

    def _countable(self, shape: Shape) -> bool:
        """Whether masked sums are exact numbers of terms there: the division of a mean may round."""
        return self.site.kind != "MEAN" or shape.terms & (shape.terms - 1) == 0

    def _learn(self, shape: Shape) -> Inquiry[bool]:
        """Reveal the whole tree at `shape`; whether that explains it."""
        try:
            tree = yield from reveal_tree(
                lambda masks: self._counted(shape, masks), shape.terms, self._masks(shape.terms).most
            )
        except NotTold as reason:
            self.findings.gap(f"{self.site.name} at {_words(shape)}: {reason}")
            return False
        revealed = meeting(tree, shape.terms)
        self._varied.add(revealed.tobytes())
        orders = self._distinct(orders_of(revealed), shape.terms)
        if not orders:
            self.findings.gap(f"{self.site.name} at {_words(shape)}: the tree is that of no known order")
        before = len(self.known)
        self.known += [order for order in orders if order not in self.known]
        if len(self.known) == before:
            return False
        return bool(self.explained(shape))

    def _distinct(self, orders: Sequence[Order], terms: int) -> list[Order]:
        """One order of those that add and deal alike for every number of terms up to `terms`.

        Beyond a few dozen terms, additions are compared for the lattice's numbers alone.
        """
        unique: dict[tuple[bytes, ...], Order] = {}
        sizes = {*(size for size in self.ladder if size < terms), *range(3, min(terms, SMALL) + 1)}
        for order in orders:
            trees = (matrix_of(order, size).tobytes() for size in sorted(sizes))
            unique.setdefault((*trees, *dealt(order, terms)), order)
        return list(unique.values())

    def _masks(self, terms: int) -> Masks:
        return masks_for(self._kept.accumulator, mean=self.site.kind == "MEAN", flushed=self._flushed, terms=terms)

    def _battery(self, terms: int) -> tuple[Mask, ...]:
        return battery(terms, self._masks(terms).most)

    def _counted(self, shape: Shape, masks: Sequence[Mask]) -> Inquiry[Counts]:
        (values,) = yield from self._measured([(shape, masks)])
        return self._counts(shape, masks, values)

    def _counts(self, shape: Shape, masks: Sequence[Mask], values: Single) -> Counts:
        return self._masks(shape.terms).outside(masks, values, 1 / shape.terms if self.site.kind == "MEAN" else 1.0)

    def _measured(self, requests: Sequence[tuple[Shape, Sequence[Mask]]]) -> Inquiry[list[Single]]:
        """The masked sums of every request, all in one round."""
        asked = [
            self.site.experiments(shape, self._masks(shape.terms).terms(masks, shape.terms))
            for shape, masks in requests
        ]
        answers = iter((yield from ask([one for experiments in asked for one in experiments])))
        return [
            self.site.values(shape, [next(answers) for _ in experiments], len(masks))
            for (shape, masks), experiments in zip(requests, asked, strict=True)
        ]

    def regions(self, lines: Sequence[Line]) -> Inquiry[dict[Line, tuple[Region, ...]]]:
        """For each line its orders by terms, ascending."""
        shapes = [Shape(*line, terms) for line in lines for terms in self.ladder]
        labels = yield from self.label(shapes)
        found = {line: self._chain(line, labels) for line in lines}
        if self._vary(found):
            found = {line: self._chain(line, {shape: self.explained(shape) for shape in shapes}) for line in lines}
        starts = yield from self._starts(found)
        for _ in range(_SHARPENINGS):
            telling = [shape for line, chain in found.items() for shape in self._telling(line, chain, starts[line])]
            if not telling:
                break
            yield from self.look(telling)
            found = {line: self._sharpened(line, chain, starts[line]) for line, chain in found.items()}
            starts = yield from self._starts(found)
        return {
            line: tuple(Region(*pair) for pair in zip(starts[line], (labels for _, labels in chain), strict=True))
            for line, chain in found.items()
        }

    def _vary(self, chains: Mapping[Line, Chain]) -> bool:
        """Know every order with the tree of a region's last lattice shape, not only the one that was tried first."""
        before = len(self.known)
        for chain in chains.values():
            for place, (_, labels) in enumerate(chain):
                above = chain[place + 1][0] if place + 1 < len(chain) else self.ladder[-1] + 1
                last = max(terms for terms in self.ladder if terms < above)
                if labels and last <= _VARIED:
                    tree = matrix_of(self.known[min(labels)], last)
                    if tree.tobytes() not in self._varied:
                        self._varied.add(tree.tobytes())
                        self.known += [it for it in self._distinct(orders_of(tree), last) if it not in self.known]
        return len(self.known) > before

    def _chain(self, line: Line, labels: dict[Shape, frozenset[int]]) -> Chain:
        """Lattice terms where each region begins at the latest, with its labels, ascending."""
        chain: Chain = []
        for terms in reversed(self.ladder):
            here = labels[Shape(*line, terms)]
            common = chain[-1][1] & here if chain else frozenset()
            if common or (chain and not here and not chain[-1][1]):
                chain[-1] = (terms, common)
            else:
                chain.append((terms, here))
        return chain[::-1]

    def _telling(self, line: Line, chain: Chain, starts: Sequence[int]) -> list[Shape]:
        """For each region a shape, not yet seen, for which the orders that explain it differ most."""
        shapes = []
        for place, (_, labels) in enumerate(chain):
            orders = [self.known[label] for label in sorted(labels)]
            within = self._sizes(starts, place)
            sizes = [it for it in within[:: -(-len(within) // _SIZES) or 1] if Shape(*line, it) not in self._seen]
            ways = {terms: len({dealing(order, terms) for order in orders}) for terms in sizes}
            likely = [terms for terms in sorted(sizes, key=lambda terms: -ways[terms]) if _apart(orders, terms)]
            shapes += [Shape(*line, terms) for terms in likely[:_AT_ONCE]]
        return shapes

    def _sizes(self, starts: Sequence[int], place: int) -> range:
        """The numbers of terms of one region."""
        last = starts[place + 1] if place + 1 < len(starts) else self.ladder[-1] + 1
        return range(max(3, starts[place]), last)

    def _sharpened(self, line: Line, chain: Chain, starts: Sequence[int]) -> Chain:
        """The chain with each region's orders limited to those that explain all its shapes seen."""
        sharper: Chain = []
        for place, (begins, labels) in enumerate(chain):
            left = labels
            for terms in self._sizes(starts, place):
                shape = Shape(*line, terms)
                if shape in self._seen:
                    left = (left & self.explained(shape, left)) or left
            sharper.append((begins, left))
        return sharper

    def _starts(self, chains: dict[Line, Chain]) -> Inquiry[dict[Line, list[int]]]:
        """The first number of terms of each region: the fewest from which its own order explains on."""
        searches: dict[tuple[Line, int], tuple[int, int]] = {}
        for line, chain in chains.items():
            for place, (begins, _) in enumerate(chain):
                if place:
                    below = max(terms for terms in self.ladder if terms < begins)
                    searches[line, place] = (below, begins)
        while any(high - low > 1 for low, high in searches.values()):
            middles = {
                key: Shape(*key[0], (low + high) // 2) for key, (low, high) in searches.items() if high - low > 1
            }
            yield from self.look(middles.values())
            for key, shape in middles.items():
                low, high = searches[key]
                mine = self.explained(shape, chains[key[0]][key[1]][1])
                searches[key] = (low, shape.terms) if mine else (shape.terms, high)
        return {
            line: [searches[line, place][1] if place else 1 for place in range(len(chain))]
            for line, chain in chains.items()
        }


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


@lru_cache(maxsize=1 << 15)
def _expected(order: Order, terms: int, most: int) -> Counts:
    return outside(matrix_of(order, terms), battery(terms, most))


def _apart(orders: Sequence[Order], terms: int) -> bool:
    """Whether the orders do not all add so many terms alike; many terms that are dealt alike are taken to."""
    if terms > SMALL and len({dealing(order, terms) for order in orders}) < 2:
        return False
    return len({matrix_of(order, terms).tobytes() for order in orders}) > 1


def _words(shape: Shape) -> str:
    return f"{shape.rows} rows, {shape.columns} columns, {shape.terms} terms"
