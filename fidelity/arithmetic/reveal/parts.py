"""The options left for a site's orders, by line and number of terms, and what they agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.survey import Line, Region

ABSORBABLE: tuple[Literal["ADD", "SUB", "MUL"], ...] = ("ADD", "SUB", "MUL")


@dataclass(frozen=True)
class Option:
    """One way to compute a region's sums."""

    order: Order
    mean: str = "total"


Place = tuple[Line, Region, int]
"""A number of terms of a region of a line."""
Taken = tuple[str, bool]
"""A kind of operation, and whether it is computed inside the sum that reads it."""
Options = Mapping[Option, frozenset[Taken]]
"""What explains sums, each with what it takes to be inside the sum, or not to be."""


@dataclass(frozen=True)
class Part:
    """From `first` terms on, up to the next part; no options where nothing explains what was seen."""

    first: int
    options: Options


Parts = Mapping[Line, tuple[Part, ...]]


def divided(line: Line, regions: Sequence[Region], found: Mapping[Place, Options]) -> tuple[Part, ...]:
    """A line's regions, each divided where its numbers of terms have no option in common; ascending."""
    parts: list[Part] = []
    for region in regions:
        here = sorted(
            ((terms, it) for (at, of, terms), it in found.items() if (at, of) == (line, region)), reverse=True
        )
        inside: list[Part] = []
        current: Options = {}
        for terms, options in here:
            common = _common(current, options)
            if current and options and not common:
                inside.append(Part(terms + 1, current))
            current = common or options or current
        parts += [*[Part(region.first, current), *reversed(inside)]]
    return tuple(parts)


def _common(one: Options, other: Options) -> Options:
    """Options that explain both, and agree on what is inside the sum."""
    both = {option: one[option] & other[option] for option in one if option in other}
    return {option: taken for option, taken in both.items() if complete(taken)}


def complete(taken: frozenset[Taken]) -> bool:
    """Whether every kind has a way left, inside the sum or not."""
    return len({kind for kind, _ in taken}) == len(ABSORBABLE)


def agreed(found: Sequence[Parts]) -> tuple[list[Parts], tuple[Literal["ADD", "SUB", "MUL"], ...]]:
    """The parts with the options left where all agree on which kinds the sum absorbs, and those kinds."""
    left = list(found)
    absorbs: list[Literal["ADD", "SUB", "MUL"]] = []
    for kind in ABSORBABLE:
        for inside in (False, True):
            fitting = [
                {line: tuple(_limited(part, (kind, inside)) for part in parts) for line, parts in each.items()}
                for each in left
            ]
            pairs_of = [
                (part, limited)
                for each, other in zip(left, fitting, strict=True)
                for line in each
                for part, limited in zip(each[line], other[line], strict=True)
            ]
            if all(limited.options or not part.options for part, limited in pairs_of):
                left = list(fitting)
                absorbs += [kind] if inside else []
                break
    return left, tuple(absorbs)


def _limited(part: Part, taken: Taken) -> Part:
    return Part(part.first, {option: all_taken for option, all_taken in part.options.items() if taken in all_taken})
