"""From what lines of shapes showed to the cases of a rule: thresholds on rows and columns, boxes, `when`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.canonical import Kept
from fidelity.arithmetic.reveal.experiment import Inquiry, NotTold
from fidelity.arithmetic.reveal.orders import matrix_of
from fidelity.arithmetic.reveal.parts import Option, Part, Parts
from fidelity.arithmetic.reveal.refine import explained_at, refine
from fidelity.arithmetic.reveal.sites import Shape
from fidelity.arithmetic.reveal.survey import Line, Region, Survey
from fidelity.arithmetic.reveal.synthetic import Arithmetic
from fidelity.arithmetic.rules import Range, Variable

Regions = Mapping[Line, tuple[Region, ...]]
Grid = Mapping[tuple[int, int, int], int]
Breaks = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The first numbers of every interval of rows, columns and terms; each begins with 1."""
_VARIABLES: tuple[Variable, ...] = ("rows", "columns", "terms")


@dataclass(frozen=True)
class Territory:
    """Which options a site has where: for each cell of rows and columns a line, and that line's parts."""

    kept: list[Kept]
    lines: Mapping[tuple[int, int], Line]
    parts: Parts
    rows: tuple[int, ...]
    columns: tuple[int, ...]


def explore(survey: Survey, kept: Sequence[Kept], arithmetic: Arithmetic) -> Inquiry[Territory]:
    """All that can be told of a site's orders. Raises NotTold when no shape's order could be."""
    lattice = survey.lattice
    regions = dict((yield from survey.regions(list(product(lattice.rows, lattice.columns)))))
    breaks = yield from _breaks(survey, regions)
    lines = _representatives(breaks, regions)
    missing = [line for line in lines.values() if line not in regions]
    if missing:
        regions.update((yield from survey.regions(missing)))
    chosen = dict(regions) if not survey.site.is_product else {line: regions[line] for line in lines.values()}
    left, parts = yield from refine(survey, kept, chosen, arithmetic)
    if not survey.site.is_product:
        hidden = yield from _hidden_breaks(survey, left[0], regions, parts, arithmetic)
        breaks = (tuple(sorted({*breaks[0], *hidden})), breaks[1])
        lines = _representatives(breaks, regions)
        parts = {**parts, **(yield from _new_lines(survey, left[0], [it for it in lines.values() if it not in parts]))}
    return Territory(left, lines, parts, *breaks)


def _new_lines(survey: Survey, kept: Kept, lines: Sequence[Line]) -> Inquiry[Parts]:
    """The parts of lines that lie between two thresholds, where the lattice has none."""
    if not lines:
        return {}
    regions = yield from survey.regions(lines)
    try:
        return (yield from refine(survey, [kept], regions, survey.arithmetic))[1]
    except NotTold:
        return {line: (Part(1, {}),) for line in lines}


def _hidden_breaks(
    survey: Survey, kept: Kept, regions: Regions, parts: Parts, arithmetic: Arithmetic
) -> Inquiry[set[int]]:
    """Thresholds on rows between lines that add alike, and yet divide or deal otherwise."""
    bounds: dict[tuple[Line, int], tuple[int, int]] = {}
    for low, high in pairwise(sorted(parts)):
        for terms in survey.ladder:
            one, other = (_part(parts[line], terms).options for line in (low, high))
            alike = _at(regions[low], terms).labels & _at(regions[high], terms).labels
            if one and other and alike and not set(one) & set(other):
                bounds[low, terms] = (low[0], high[0])
                break
    while any(high - low > 1 for low, high in bounds.values()):
        middles = {key: sum(both) // 2 for key, both in bounds.items() if both[1] - both[0] > 1}
        places = {key: ((rows, 1), _at(regions[key[0]], key[1]), key[1]) for key, rows in middles.items()}
        found = yield from explained_at(survey, kept, list(places.values()), arithmetic)
        for key, rows in middles.items():
            same = set(found[places[key]]) & set(_part(parts[key[0]], key[1]).options)
            bounds[key] = (rows, bounds[key][1]) if same else (bounds[key][0], rows)
    return {high for _, high in bounds.values()}


def _part(parts: Sequence[Part], terms: int) -> Part:
    return [part for part in parts if part.first <= terms][-1]


def cases_of(territory: Territory) -> list[tuple[dict[Variable, Range], Option]]:
    """Conditions and the option that each chooses, the widest last and without a condition."""
    parts = {cell: territory.parts[line] for cell, line in territory.lines.items()}
    starts = tuple(sorted({1} | {part.first for each in parts.values() for part in each[1:]}))
    votes = Counter(option for each in parts.values() for part in each for option in part.options)
    order = {option: place for place, (option, _) in enumerate(votes.most_common())}
    names = list(order)
    grid = {}
    for (row, column), each in parts.items():
        for place, first in enumerate(starts):
            options = [part.options for part in each if part.first <= first][-1]
            grid[row, column, place] = min((order[option] for option in options), default=-1)
    breaks = (territory.rows, territory.columns, starts)
    return [(_when(box, breaks), names[name]) for box, name in boxes(grid, breaks)]


def _at(regions: Sequence[Region], terms: int) -> Region:
    return [region for region in regions if region.first <= terms][-1]


def _differ(a: Region, b: Region, known: Sequence[Order], terms: int) -> bool:
    """Whether the two explain different trees of so many terms."""
    if a.labels & b.labels or not a.labels or not b.labels:
        return False
    one, other = known[min(a.labels)], known[min(b.labels)]
    return not np.array_equal(matrix_of(one, terms), matrix_of(other, terms))


def _breaks(survey: Survey, regions: Regions) -> Inquiry[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Thresholds on rows and on columns, wherever neighbouring lines of the lattice differ."""
    found: list[tuple[int, ...]] = []
    for axis, numbers in enumerate((survey.lattice.rows, survey.lattice.columns)):
        searches = []
        for line in regions:
            place = numbers.index(line[axis])
            if place + 1 < len(numbers):
                other = (numbers[place + 1], line[1]) if axis == 0 else (line[0], numbers[place + 1])
                searches += [(line, other, terms) for terms in _witnesses(survey, regions[line], regions[other])]
        firsts = yield from _bisected(survey, regions, axis, searches)
        found.append(tuple(sorted({1, *firsts})))
    return found[0], found[1]


def _witnesses(survey: Survey, a: Sequence[Region], b: Sequence[Region]) -> list[int]:
    """Numbers of terms at which two lines differ, one for each pair of regions that does."""
    numbers = {*survey.lattice.terms, *(it.first for it in (*a, *b)), *(it.first - 1 for it in (*a, *b))}
    pairs: dict[tuple[Region, Region], int] = {}
    for terms in sorted(number for number in numbers if number > 1):
        one, other = _at(a, terms), _at(b, terms)
        if _differ(one, other, survey.known, terms):
            pairs[one, other] = terms
    return list(pairs.values())


def _bisected(
    survey: Survey, regions: Regions, axis: int, searches: Sequence[tuple[Line, Line, int]]
) -> Inquiry[set[int]]:
    """For each pair of lines the first number on the axis that is not explained as the lower line is."""
    bounds = {search: (search[0][axis], search[1][axis]) for search in searches}
    while any(high - low > 1 for low, high in bounds.values()):
        middles = {}
        for search, (low, high) in bounds.items():
            if high - low > 1:
                line, middle = search[0], (low + high) // 2
                rows, columns = (middle, line[1]) if axis == 0 else (line[0], middle)
                middles[search] = (middle, Shape(rows, columns, search[2]))
        yield from survey.look(shape for _, shape in middles.values())
        for search, (middle, shape) in middles.items():
            low, high = bounds[search]
            same = survey.explained(shape, _at(regions[search[0]], search[2]).labels)
            bounds[search] = (middle, high) if same else (low, middle)
    return {high for _, high in bounds.values()}


def _representatives(breaks: tuple[tuple[int, ...], ...], regions: Regions) -> dict[tuple[int, int], Line]:
    """A line for each cell of rows and columns: one of the lattice where one lies in it, else its first."""
    lines: dict[tuple[int, int], Line] = {}
    for cell in product(*(range(len(numbers)) for numbers in breaks[:2])):
        inside = [
            line for line in regions if all(_interval(breaks[axis], line[axis]) == cell[axis] for axis in range(2))
        ]
        lines[cell[0], cell[1]] = max(inside) if inside else (breaks[0][cell[0]], breaks[1][cell[1]])
    return lines


def _interval(firsts: Sequence[int], number: int) -> int:
    return max(place for place, first in enumerate(firsts) if first <= number)


def boxes(grid: Grid, breaks: Breaks) -> list[tuple[tuple[range, range, range], int]]:
    """The grid as boxes of one name each, every cell in one; the last is the name of most cells, everywhere."""
    sizes = tuple(len(numbers) for numbers in breaks)
    names = Counter(name for name in grid.values() if name >= 0)
    rest = max(names, key=lambda name: (names[name], name == grid[sizes[0] - 1, sizes[1] - 1, sizes[2] - 1]))
    left = {cell for cell, name in grid.items() if name not in (rest, -1)}
    found = []
    while left:
        cell = min(left)
        box = _grown(cell, grid, sizes)
        left -= set(product(*box))
        found.append((box, grid[cell]))
    everywhere = (range(sizes[0]), range(sizes[1]), range(sizes[2]))
    return [*found, (everywhere, rest)]


def _grown(cell: tuple[int, int, int], grid: Grid, sizes: tuple[int, ...]) -> tuple[range, range, range]:
    """The widest box from `cell` on that holds its name alone (or what could not be told), axis by axis."""
    box = [range(place, place + 1) for place in cell]
    for axis in range(3):
        while box[axis].stop < sizes[axis]:
            wider = [*box]
            wider[axis] = range(box[axis].start, box[axis].stop + 1)
            if any(grid[inside[0], inside[1], inside[2]] not in (grid[cell], -1) for inside in product(*wider)):
                break
            box = wider
    return box[0], box[1], box[2]


def _when(box: tuple[range, range, range], breaks: Breaks) -> dict[Variable, Range]:
    when: dict[Variable, Range] = {}
    for variable, places, firsts in zip(_VARIABLES, box, breaks, strict=True):
        low = firsts[places.start] if places.start > 0 else None
        high = firsts[places.stop] - 1 if places.stop < len(firsts) else None
        if low is not None or high is not None:
            when[variable] = Range(at_least=low, at_most=high)
    return when
