"""Cases of a kernel's orders by rows and slices: lines of rows, thresholds between them, conditions.

Wherever two neighbouring lines differ, the number of rows at which that changes is found by
bisection, in both halves where the middle is like neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.company.lines import Line, at, line_of, sharpened
from fidelity.arithmetic.reveal.company.plane import Plane, fits, plainest
from fidelity.arithmetic.reveal.experiment import NotTold
from fidelity.arithmetic.rules import Case, Range, Variable

_MOST_LINES, _HANDY, _BEYOND = 40, 64, 1 << 30
ROWS = (1, 4, 8, 16, 32, 64, 100, 128, 200, 256, 400, 512, 800, 1024)
_CENTRES = (32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 512, 1024)
SLICES = (*range(1, 30), *(number + step for number in _CENTRES for step in (-1, 0, 1)))

WITNESSES = (2, 5, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 96, 128, 129, 257)


@dataclass(frozen=True, order=True)
class Search:
    """Two numbers of rows that differ at a number of slices: the threshold lies between."""

    low: int
    high: int
    slices: int


def cases_of(plane: Plane, gaps: list[str]) -> tuple[Case, ...]:
    """The kernel's orders by rows and slices. `gaps` receives shapes that no order explains.

    Raises NotTold where the device refuses, or where so many thresholds show that the orders tried are not its own.
    """
    seen = {rows: _asked(plane, rows, WITNESSES) for rows in ROWS}
    firsts: set[int] = {1}
    tried: set[Search] = set()
    while True:
        plane.look((rows, number) for rows, slices in seen.items() for number in slices)
        lines = {rows: line_of(plane, rows, slices) for rows, slices in seen.items()}
        whole = {rows: line for rows, line in lines.items() if len(seen[rows]) > len(WITNESSES)}
        searches = {*_differing(plane, lines, seen), *_differing(plane, whole, seen)} - tried
        tried |= searches
        firsts |= _thresholds(plane, sorted(searches))
        intervals = pairwise([*sorted(firsts), _BEYOND])
        inside = {low: [rows for rows in seen if low <= rows < high] for low, high in intervals}
        chosen = {low: _representative(rows) if rows else low for low, rows in inside.items()}
        more = {rows: SLICES if rows in seen else WITNESSES for rows in chosen.values()}
        missing = {rows: _asked(plane, rows, slices) for rows, slices in more.items()}
        if all(seen.get(rows) == slices for rows, slices in missing.items()):
            return _cases(plane, chosen, seen, gaps)
        seen |= missing
        if len(seen) > _MOST_LINES:
            raise NotTold(f"more than {_MOST_LINES - len(ROWS)} thresholds on rows: the orders tried explain little")


def _asked(plane: Plane, rows: int, slices: Sequence[int]) -> list[int]:
    """Those of the numbers of slices that so many rows are asked with."""
    return [number for number in slices if fits((rows, number), plane.kernel.flavour.lanes)]


def _representative(rows: Sequence[int]) -> int:
    """The rows that stand for an interval: few, so that many slices fit, but enough to tell at once."""
    return max((each for each in rows if each <= _HANDY), default=min(rows))


def _differing(plane: Plane, lines: dict[int, Line], seen: dict[int, list[int]]) -> list[Search]:
    """One search for each pair of orders that neighbouring lines differ by, where that shows with fewest slices."""
    found: list[Search] = []
    for low, high in pairwise(sorted(lines)):
        pairs: dict[tuple[frozenset[Order], frozenset[Order]], Search] = {}
        for slices in sorted({*seen[low]} & {*seen[high]}):
            one, other = at(lines[low], slices).orders, at(lines[high], slices).orders
            alike = any(plane.explains(order, (high, slices)) for order in one) if one else not other
            if not alike:
                pairs.setdefault((one, other), Search(low, high, slices))
        found += pairs.values()
    return found


def _thresholds(plane: Plane, searches: Sequence[Search]) -> set[int]:
    """For each search, the first numbers of rows that are not like the one before."""
    firsts, left = set(), list(searches)
    while left:
        firsts |= {search.high for search in left if search.high - search.low == 1}
        left = [search for search in left if search.high - search.low > 1]
        plane.look(((search.low + search.high) // 2, search.slices) for search in left)
        left = [half for search in left for half in _halves(plane, search)]
    return firsts


def _halves(plane: Plane, search: Search) -> list[Search]:
    middle = (search.low + search.high) // 2
    low, high, slices = search.low, search.high, search.slices
    halves = []
    if not _alike(plane, low, middle, slices):
        halves.append(Search(low, middle, slices))
    if not _alike(plane, middle, high, slices):
        halves.append(Search(middle, high, slices))
    return halves


def _alike(plane: Plane, one: int, other: int, slices: int) -> bool:
    """Whether one order explains both, or nothing either."""
    orders = plane.explaining((one, slices))
    if not orders:
        return not plane.explaining((other, slices))
    return any(plane.explains(order, (other, slices)) for order in orders)


def _cases(plane: Plane, chosen: dict[int, int], seen: dict[int, list[int]], gaps: list[str]) -> tuple[Case, ...]:
    """All cases. `chosen` has for the first number of rows of every interval those that stand for it."""
    lines = sharpened(plane, {rows: seen[rows] for rows in chosen.values()})
    firsts = sorted(chosen)
    ends: list[int | None] = [*(first - 1 for first in firsts[1:]), None]
    blocks: list[tuple[int | None, list[Case]]] = []
    for end, first in zip(ends, firsts, strict=True):
        block = _block(plane, chosen[first], lines[chosen[first]], gaps)
        if blocks and blocks[-1][1] == block:
            blocks.pop()
        blocks.append((end, block))
    return _closed(blocks)


def _block(plane: Plane, rows: int, line: Line, gaps: list[str]) -> list[Case]:
    """Cases of one interval of rows without the condition on rows: the largest multiples and most slices first."""
    block = []
    for multiple, stretches in sorted(line.items(), reverse=True):
        for place, stretch in reversed(list(enumerate(stretches))):
            order = plainest(stretch.orders, plane.known)
            if order is None:
                gaps.append(f"{stretch.first} to {stretch.last} slices of {rows} rows follow none of the orders tried")
                continue
            low = stretch.first if place else None
            bounds = (
                Range(at_least=low, multiple_of=multiple if multiple > 1 else None) if low or multiple > 1 else None
            )
            block.append(Case(when={} if bounds is None else {"slices": bounds}, order=order))
    return block


def _closed(blocks: Sequence[tuple[int | None, list[Case]]]) -> tuple[Case, ...]:
    """All intervals of rows; each case after the first without a condition is for none."""
    cases: list[Case] = []
    for end, block in blocks:
        rows: dict[Variable, Range] = {} if end is None else {"rows": Range(at_most=end)}
        cases += [case.model_copy(update={"when": {**rows, **case.when}}) for case in block]
    if not cases:
        raise NotTold("no order explains any shape")
    return (*cases[:-1], cases[-1].model_copy(update={"when": {}}))
