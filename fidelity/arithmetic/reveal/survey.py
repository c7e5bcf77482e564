"""Which order a site takes for how many terms: regions of each line of shapes, thresholds by bisection.

What lies between two numbers of the lattice is resolved if it changes no more than once there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fidelity.arithmetic.reveal.experiment import Inquiry
from fidelity.arithmetic.reveal.orders import dealing, matrix_of, orders_of
from fidelity.arithmetic.reveal.questions import apart
from fidelity.arithmetic.reveal.sight import Sight
from fidelity.arithmetic.reveal.sites import Shape

_SHARPENINGS = 8
_SIZES, _AT_ONCE, _VARIED = 96, 3, 256


@dataclass(frozen=True)
class Region:
    """From `first` terms on, up to the next region, one of the known orders `labels`."""

    first: int
    labels: frozenset[int]


Line = tuple[int, int]
"""Rows and columns, the same for every number of terms."""
Chain = list[tuple[int, frozenset[int]]]
"""Regions by the lattice number of terms from which they hold at the latest."""


class Survey(Sight):
    """The regions of lines of one site's shapes."""

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
                    if tree.tobytes() not in self.varied:
                        self.varied.add(tree.tobytes())
                        self.known += [it for it in self.distinct(orders_of(tree), last) if it not in self.known]
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
            sizes = [it for it in within[:: -(-len(within) // _SIZES) or 1] if Shape(*line, it) not in self.seen]
            ways = {terms: len({dealing(order, terms) for order in orders}) for terms in sizes}
            likely = [terms for terms in sorted(sizes, key=lambda terms: -ways[terms]) if apart(orders, terms)]
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
                if shape in self.seen:
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
