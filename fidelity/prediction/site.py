"""A site: one number-bearing place of a graph, inside operations too, and how near it came to overflow."""

from __future__ import annotations

import math
from collections.abc import Iterable

from fidelity.arithmetic.observe import Part
from fidelity.record import Figure, Record


class Site(Record):
    """One part of one operator, over every input. `operator` is None for an input of the graph.

    `magnitude` is the largest that was reached there, infinite where it overflows, and `input` where;
    `headroom` is what is left in bits, 1 for a factor of two, -inf where it overflows.
    Numbers that are not finite because an operand was not are passed over: they are another site's.
    `non_finite` counts those that appear here first, `saturated` those at the largest finite value of
    a format that saturates.
    """

    operator: int | None
    name: str
    tensor: str
    module: str | None
    part: Part
    largest_finite: Figure
    magnitude: Figure
    headroom: Figure
    input: str
    non_finite: int = 0
    saturated: int = 0

    @property
    def overflows(self) -> bool:
        """Whether an overflow begins here."""
        return self.non_finite > 0 or self.saturated > 0

    @property
    def place(self) -> str:
        """The site by name, in a few words."""
        where = f"op {self.operator} {self.name}" if self.operator is not None else "input"
        return f"{where} {self.part}{f' in {self.module}' if self.module else f' ({self.tensor})'}"

    def told(self) -> str:
        """What happens here, in a line for a person."""
        if self.non_finite:
            return f"{self.place}: {self.non_finite} values are not finite first there, at {self.input}"
        if self.saturated:
            return f"{self.place}: {self.saturated} values saturate at {self.largest_finite:g}, at {self.input}"
        return f"{self.place}: {self.magnitude:.4g} of {self.largest_finite:g}, at {self.input}"


def headroom(largest_finite: float, magnitude: float) -> float:
    """log2(largest finite / magnitude): infinite for zero, -infinite for what is not finite."""
    if not math.isfinite(magnitude):
        return -math.inf
    return math.inf if magnitude == 0 else math.log2(largest_finite / magnitude)


def by_danger(sites: Iterable[Site]) -> tuple[Site, ...]:
    """Where an overflow begins, in execution order; then the least headroom first."""
    return tuple(sorted(sites, key=lambda site: (not site.overflows, 0.0 if site.overflows else site.headroom)))


def first_overflow(sites: Iterable[Site]) -> Site | None:
    """The first site, in the order given, at which an overflow begins: that of execution gives the cause."""
    return next((site for site in sites if site.overflows), None)
