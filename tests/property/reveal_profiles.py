"""Random devices: every field that reveal tells, over all that shows within the reach of the test.

Left out, because no experiment of reveal's tells it (docs/reveal.md says why): corrected sums that
saturate, corrected MEANs, two thresholds between neighbouring numbers of the lattice, thresholds on
terms that are not on it, more than 24 parts, conditions on slices and multiples, dotted slices and
groups by size, transposed and merged products, softmax sums shared between threads, LAYER_NORM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.conversions import ANY
from fidelity.arithmetic.reveal.functions import ALGORITHMS
from fidelity.arithmetic.reveal.orders import LANES, families
from fidelity.arithmetic.reveal.reveal import Reach
from fidelity.arithmetic.reveal.sight import Lattice
from fidelity.arithmetic.reveal.synthetic import Arithmetic
from fidelity.arithmetic.rules import (
    BINARY,
    POWER,
    PRODUCTS,
    SOFTMAX,
    SUMS,
    UNARY,
    Case,
    Elementwise,
    Function,
    MeanCase,
    Product,
    Range,
    Reduction,
    Rule,
    Share,
    Softmax,
)
from fidelity.arithmetic.summation import Accumulator

C = TypeVar("C", Case, MeanCase)
_PRODUCT = Lattice((2, 8), (12, 20), (4, 12, 24))
REACH = Reach(dict.fromkeys(PRODUCTS, _PRODUCT), Lattice((4, 12), (1,), (4, 8, 16, 32)), (8, 64))
_COMBINE = ("running", "halves", "neighbours", "fours")


class Draw:
    """One random device after another, from a seed."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.Generator(np.random.Philox(seed))

    def arithmetic(self) -> Arithmetic:
        """A device with a rule for every kind that reveal knows. Its storage is float16."""
        rules: dict[str, Rule] = {kind: self.elementwise(kind) for kind in BINARY}
        rules |= {kind: self.function() for kind in UNARY}
        rules[POWER] = Function(function=self.of(("exact", "exp2_of_log2")), stored=self.of(ANY))
        rules |= {kind: self.product() for kind in PRODUCTS}
        rules |= {kind: self.reduction(kind) for kind in SUMS}
        rules[SOFTMAX] = self.softmax()
        outputs = self.of(ANY) if self.coin() else None
        return Arithmetic(self.of(ANY[:-1]), self.of(ANY), outputs, rules)

    def of(self, values: Sequence[Any]) -> Any:
        return values[int(self.generator.integers(len(values)))]

    def coin(self) -> bool:
        return bool(self.generator.integers(2))

    def elementwise(self, kind: str) -> Elementwise:
        division = self.of(("quotient", "reciprocal")) if kind == "DIV" else "quotient"
        return Elementwise(steps=self.of(ANY), stored=self.of(ANY), division=division)

    def function(self) -> Function:
        bits = self.generator.choice(1 << 15, (int(self.generator.integers(0, 6)), 2), replace=False).tolist()
        return Function(function=self.of(ALGORITHMS), stored=self.of(ANY), exceptions=tuple(map(tuple, bits)))

    def accumulator(self, corrected: bool) -> Accumulator:
        form = self.of(("float32", "float16", "float16_corrected")[: 3 if corrected else 2])
        infinite = [each for each in ANY[:-1] if each is not None and each.overflow == "infinite"]
        return Accumulator(form, self.of(infinite if form == "float16_corrected" else ANY[:-1]))

    def order(self) -> Order:
        lanes = int(self.of((1, 2, 3, 4, 8)))
        apart = lanes > 1 and self.coin()
        lanes_by, first = (self.of(_COMBINE), self.of(("parts", "lanes"))) if apart else ("running", "parts")
        parts = int(self.generator.integers(1, 25))
        return Order(lanes, apart, parts, self.of(("stride", "block")), self.of(_COMBINE), lanes_by, first)

    def cases(self, lattice: Lattice, make: Callable[[dict[str, Range]], C]) -> tuple[C, ...]:
        """Up to three cases; at most one threshold between two numbers of the lattice, those of terms on it."""
        at: dict[tuple[str, int], int] = {}
        found = []
        for _ in range(int(self.generator.integers(0, 3))):
            names = [name for name in ("rows", "columns", "terms") if len(getattr(lattice, name)) > 1]
            chosen = self.generator.permutation(names)[: int(self.generator.integers(1, 3))]
            found.append(make({str(name): self._range(str(name), getattr(lattice, str(name)), at) for name in chosen}))
        return (*found, make({}))

    def _range(self, name: str, numbers: tuple[int, ...], at: dict[tuple[str, int], int]) -> Range:
        place = int(self.generator.integers(len(numbers) - 1))
        low, high = numbers[place], numbers[place + 1]
        most = at.setdefault((name, place), low if name == "terms" else int(self.generator.integers(low, high)))
        return Range(at_most=most) if self.coin() else Range(at_least=most + 1)

    def product(self) -> Product:
        accumulator = self.accumulator(corrected=True)
        return Product(
            accumulator=accumulator,
            fused=self.coin() and accumulator.format != "float16_corrected",
            cases=self.cases(_PRODUCT, lambda when: Case.model_validate({"when": when, "order": self.order()})),
            bias=self.of(("last", "first")),
            stored=self.of(ANY),
        )

    def reduction(self, kind: str) -> Reduction:
        def case(when: dict[str, Range]) -> MeanCase:
            mean = self.of(("total", "partials", "quotient"))
            return MeanCase.model_validate({"when": when, "order": self.order(), "mean": mean})

        return Reduction.model_validate(
            {
                "accumulator": self.accumulator(corrected=kind == "SUM"),
                "last_axis": self.cases(REACH.sums, case),
                "other_axis": self.cases(REACH.sums, case),
                "absorbs": [each for each in ("ADD", "SUB", "MUL") if self.coin()],
                "stored": self.of(ANY),
                "stored_absorbed": self.of(ANY),
            }
        )

    def softmax(self) -> Softmax:
        def share(when: dict[str, Range]) -> Share:
            return Share.model_validate({"when": when, "quotient": self.of(ANY), "stored": self.of(ANY)})

        shares = [share({})]
        if self.coin():
            shares.insert(0, share({"rows": Range(at_most=int(self.generator.integers(8, 64)))}))
        return Softmax(
            passes=self.of(("online", "two_pass")),
            lanes=self.of(LANES[:8]),
            exponential=self.of(("exact", "exp2_gallivm")),
            steps=self.of(ANY),
            accumulator=self.accumulator(corrected=True),
            order=self.of(self.of(families(12))),
            shares=tuple(shares),
        )
