"""Which orders explain a site at given shapes: masks asked once a shape, trees revealed where none is known.

Every lattice shape is asked a fixed set of masks. An order that is known already either explains
the answers or not; a shape that none explains has its whole tree revealed, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.accumulator import MEANS, rule_of
from fidelity.arithmetic.reveal.canonical import Kept
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, ask, same
from fidelity.arithmetic.reveal.masks import Mask, Masks, masks_for
from fidelity.arithmetic.reveal.orders import SMALL, dealing, dealt, matrix_of, orders_of
from fidelity.arithmetic.reveal.questions import battery, expected, words
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.reveal.tree import Counts, meeting, reveal_tree

_VARIED = 256


@dataclass(frozen=True)
class Lattice:
    """The numbers of rows, columns and terms at which a site is looked at, each ascending."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    terms: tuple[int, ...]


class Sight:
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
        self.seen: dict[Shape, Single] = {}
        self.varied: set[bytes] = set()

    def look(self, shapes: Iterable[Shape]) -> Inquiry[None]:
        """See the masks' answers at `shapes`; those seen before are not asked again."""
        new = sorted({shape for shape in shapes if shape not in self.seen})
        requests = [(shape, self._battery(shape.terms)) for shape in new]
        for shape, values in zip(new, (yield from self._measured(requests)), strict=True):
            self.seen[shape] = values

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
        if shape not in self.seen:
            return frozenset()
        if not self._countable(shape):
            return frozenset(number for number in tried if self._predicted(shape, self.known[number]))
        masks, most = self._battery(shape.terms), self._masks(shape.terms).most
        try:
            counts = self._counts(shape, masks, self.seen[shape])
        except NotTold:
            return frozenset()
        return frozenset(
            number for number in tried if np.array_equal(expected(self.known[number], shape.terms, most), counts)
        )

    def variants(self, labels: frozenset[int], terms: int) -> frozenset[int]:
        """Orders with the tree that `labels` have for so many terms, one for each dealing; known from now on."""
        if not labels or terms > _VARIED:
            return frozenset()
        unique: dict[bytes, Order] = {}
        for order in orders_of(matrix_of(self.known[min(labels)], terms)):
            unique.setdefault(dealing(order, terms), order)
        self.known += [order for order in unique.values() if order not in self.known]
        return frozenset(self.known.index(order) for order in unique.values())

    def likely(self, line: tuple[int, int], terms: int) -> frozenset[int]:
        """The known orders that explain the line's next lattice number from `terms` on."""
        return self.explained(Shape(*line, min(it for it in self.ladder if it >= terms)))

    def _predicted(self, shape: Shape, order: Order) -> bool:
        """Whether the order explains a mean whose division rounds, so that its value is no count."""
        terms = self._masks(shape.terms).terms(self._battery(shape.terms), shape.terms)
        experiment = Experiment("MEAN", (terms[np.newaxis, np.newaxis],), axis=3)
        for mean in MEANS:
            rule = rule_of(Site("MEAN"), self._kept, order, mean)
            if same(self.seen[shape], predict(self.arithmetic.with_rule("MEAN", rule), experiment).reshape(-1)):
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
            self.findings.gap(f"{self.site.name} at {words(shape)}: {reason}")
            return False
        revealed = meeting(tree, shape.terms)
        self.varied.add(revealed.tobytes())
        orders = self.distinct(orders_of(revealed), shape.terms)
        if not orders:
            self.findings.gap(f"{self.site.name} at {words(shape)}: the tree is that of no known order")
        before = len(self.known)
        self.known += [order for order in orders if order not in self.known]
        if len(self.known) == before:
            return False
        return bool(self.explained(shape))

    def distinct(self, orders: Sequence[Order], terms: int) -> list[Order]:
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
