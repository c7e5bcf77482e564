"""The order of a sum as data, and the tree of additions that it stands for.

Floating-point addition is not associative, so a kernel is known by the order of its sums. An
order is described as the kernels are built: neighbouring terms form slices (a vec4), slices are
dealt to threads, each thread keeps a running sum, the partial sums are combined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Dealing = Literal["stride", "block"]
Combining = Literal["running", "halves", "neighbours", "fours"]
Groups = tuple[Annotated[int, Field(ge=2)], ...]
Tree = int | tuple["Tree", "Tree"]
T = TypeVar("T")
_FOURS_UNTIL = 16


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Order:
    """How K terms are added; the default is one running sum from the first term to the last.

    `lanes` neighbouring terms form a slice; a last, shorter one is filled with zeros. Slice s goes
    to partial sum s mod `parts` (stride) or to s div ceil(slices / parts) (block). Within one
    partial sum the terms of a slice follow each other, unless they are `dotted`: then a slice's terms
    are summed by themselves before they are added; or `lanes_apart`: then every lane has a sum of
    its own to the end. What is combined `first` are the partial sums of each lane, or the
    lanes of each partial sum.

    Combining n values: `running` one after the other; `halves` the i-th with the i-th of the upper
    half; `neighbours` in pairs (with one partial sum a term, this is pairwise summation); `fours`
    in running groups of four neighbours while more than 16 are left, then running; sizes, (8, 4), in
    running groups of 8 neighbours, then of 4, then running. What has no partner passes unchanged.
    Lanes are combined by `combine_lanes`.

    Raises ValueError for counts below 1, or lanes apart with a single lane.
    """

    lanes: int = 1
    lanes_apart: bool = False
    parts: int = 1
    dealing: Dealing = "stride"
    combine: Combining | Groups = "running"
    combine_lanes: Combining = "running"
    first: Literal["parts", "lanes"] = "parts"
    dotted: bool = False

    def __post_init__(self) -> None:
        if self.lanes < 1 or self.parts < 1:
            raise ValueError(f"lanes and parts are counts from 1 on, not {self.lanes} and {self.parts}")
        if self.lanes_apart and self.lanes == 1:
            raise ValueError("a single lane cannot be kept apart; give lanes, or leave lanes_apart out")
        if self.dotted and (self.lanes == 1 or self.lanes_apart):
            raise ValueError("dotted slices have several lanes, which are not apart")
        if self.first == "lanes" and not self.lanes_apart:
            raise ValueError("lanes that are not apart cannot be combined first")

    def slices(self, terms: int) -> int:
        """Number of slices, the last one filled up."""
        return -(-terms // self.lanes)

    def sums_of_terms(self, terms: int) -> NDArray[np.int32]:
        """Which running sum each term goes to, int32 [terms]: lane * parts + part, lanes counted where apart."""
        place, lane = np.divmod(np.arange(terms), self.lanes)
        part = place % self.parts if self.dealing == "stride" else place // self.rounds(terms)
        return np.asarray((lane * self.parts if self.lanes_apart else 0) + part, np.int32)

    def rounds(self, terms: int) -> int:
        """Most slices that one partial sum takes."""
        return -(-self.slices(terms) // self.parts)


def combined_grid(lanes: Sequence[Sequence[T]], order: Order, add: Callable[[T, T], T]) -> T:
    """Partial sums by lane and part, at least one, added as `order` combines them."""
    if order.first == "lanes":
        parts: list[tuple[T, ...]] = list(zip(*lanes, strict=True))
        return combined([combined(part, order.combine_lanes, add) for part in parts], order.combine, add)
    by_lane = [combined(lane, order.combine, add) for lane in lanes]
    return combined(by_lane, order.combine_lanes, add)


def combined(values: Sequence[T], how: Combining | Groups, add: Callable[[T, T], T]) -> T:
    """`values` (at least one) added in the order `how`."""
    left = list(values)
    for size in how if isinstance(how, tuple) else ():
        left = [_running(left[i : i + size], add) for i in range(0, len(left), size)]
    while how == "halves" and len(left) > 1:
        half = (len(left) + 1) // 2
        left = [add(a, b) for a, b in zip(left, left[half:], strict=False)] + left[len(left) - half : half]
    while how == "neighbours" and len(left) > 1:
        left = [_running(left[i : i + 2], add) for i in range(0, len(left), 2)]
    while how == "fours" and len(left) > _FOURS_UNTIL:
        left = [_running(left[i : i + 4], add) for i in range(0, len(left), 4)]
    return _running(left, add)


def tree(order: Order, terms: int) -> Tree:
    """The additions of `terms` numbers as nested pairs of term indices, filling zeros left out.

    Equal trees, equal bits, for terms that the accumulator holds exactly: what experiments with such
    terms can tell of a device, and no more, is here.
    Raises ValueError for no terms.
    """
    if terms < 1:
        raise ValueError("a sum of no terms has no tree")
    dealt: dict[int, Tree] = {}
    keys = order.sums_of_terms(terms).tolist()
    width = order.lanes if order.dotted else 1
    for first in range(0, terms, width):
        numbers: list[Tree] = list(range(first, min(first + width, terms)))
        slice_ = _running(numbers, lambda left, right: (left, right))
        dealt[keys[first]] = (dealt[keys[first]], slice_) if keys[first] in dealt else slice_
    lanes = order.lanes if order.lanes_apart else 1
    partial = [[dealt.get(lane * order.parts + part) for part in range(order.parts)] for lane in range(lanes)]
    whole = combined_grid(partial, order, _join)
    if whole is None:
        raise AssertionError(f"{order} dealt none of {terms} terms")
    return whole


def _join(left: Tree | None, right: Tree | None) -> Tree | None:
    """A pair, where both exist; adding a filling zero changes nothing."""
    if left is None or right is None:
        return right if left is None else left
    return (left, right)


def _running(values: Sequence[T], add: Callable[[T, T], T]) -> T:
    """The values added one after the other."""
    total = values[0]
    for value in values[1:]:
        total = add(total, value)
    return total
