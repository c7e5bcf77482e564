"""Groups, dotted slices and lanes combined first: trees by hand, and sums by loops of NumPy's scalars."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import Conversion
from fidelity.arithmetic.matmul import matmul, right_side
from fidelity.arithmetic.order import Order, Tree, tree
from fidelity.arithmetic.running import running_sums
from fidelity.arithmetic.summation import Accumulator, combine_partial, total

Single = NDArray[np.float32]
HALF = Accumulator("float16")
PATHS = pytest.mark.parametrize("path", [None, *compiled.paths()])


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order(parts=6, combine=(3,)), (((0, 1), 2), ((3, 4), 5))),
        (Order(parts=6, combine=(2,)), (((0, 1), (2, 3)), (4, 5))),
        (Order(parts=6, combine=(2, 2)), (((0, 1), (2, 3)), (4, 5))),
        (Order(parts=6, combine=(4, 2)), ((((0, 1), 2), 3), (4, 5))),
        (Order(parts=6, combine=(2, 3)), (((0, 1), (2, 3)), (4, 5))),
        (Order(lanes=2, dotted=True), (((0, 1), (2, 3)), (4, 5))),
        (Order(lanes=2, parts=2, dotted=True), (((0, 1), (4, 5)), (2, 3))),
        (Order(lanes=4, dotted=True), ((((0, 1), 2), 3), (4, 5))),
        (Order(lanes=2, lanes_apart=True, parts=3), (((0, 2), 4), ((1, 3), 5))),
        (Order(lanes=2, lanes_apart=True, parts=3, first="lanes"), (((0, 1), (2, 3)), (4, 5))),
        (Order(lanes=2, lanes_apart=True, parts=3, first="lanes", combine="halves"), (((0, 1), (4, 5)), (2, 3))),
    ],
)
def test_six_terms_by_hand(order: Order, expected: Tree) -> None:
    assert tree(order, 6) == expected


def test_groups_are_taken_in_the_order_in_which_they_are_written() -> None:
    def running(*nodes: Tree) -> Tree:
        whole = nodes[0]
        for node in nodes[1:]:
            whole = (whole, node)
        return whole

    threes = [running(i, i + 1, i + 2) for i in range(0, 12, 3)]
    assert tree(Order(parts=12, combine=(3, 2)), 12) == (running(*threes[:2]), running(*threes[2:]))
    pairs = [running(i, i + 1) for i in range(0, 12, 2)]
    assert tree(Order(parts=12, combine=(2, 3)), 12) == (running(*pairs[:3]), running(*pairs[3:]))


def test_lanes_first_combines_lanes_by_their_word_and_parts_by_theirs() -> None:
    order = Order(lanes=4, lanes_apart=True, parts=4, first="lanes", combine="halves", combine_lanes="neighbours")
    lanes = [((4 * p, 4 * p + 1), (4 * p + 2, 4 * p + 3)) for p in range(4)]
    assert tree(order, 16) == ((lanes[0], lanes[2]), (lanes[1], lanes[3]))


def uneven(seed: int, *shape: int) -> Single:
    """float16 values of such different sizes that every order of their sum shows."""
    generator = np.random.Generator(np.random.Philox(seed))
    wide = generator.standard_normal(shape) * 2.0 ** generator.integers(-4, 5, shape)
    return wide.astype(np.float16).astype(np.float32)


def dotted(terms: NDArray[np.float16], lanes: int, parts: int) -> np.float16:
    """Each slice summed by itself from zero, then added to its part; parts by halves. NumPy's float16 adds in
    float32 and rounds, which is the sum rounded once."""
    sums = [np.float16(0)] * parts
    for place, first in enumerate(range(0, len(terms), lanes)):
        here = np.float16(0)
        for term in terms[first : first + lanes]:
            here = np.float16(here + term)
        sums[place % parts] = np.float16(sums[place % parts] + here)
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [np.float16(a + b) for a, b in zip(sums[:half], sums[half:], strict=True)]
    return sums[0]


@PATHS
@pytest.mark.parametrize("count", [7, 64, 70])
def test_dotted_sums_by_every_path(path: str | None, count: int) -> None:
    order = Order(lanes=4, parts=4, dotted=True, combine="halves")
    a, b = uneven(1, 5, count), uneven(2, count, 3)
    products = (a[:, :, None] * b).astype(np.float16)
    expected = [[dotted(products[row, :, column], 4, 4) for column in range(3)] for row in range(5)]
    plain = [dotted(row, 4, 4) for row in a.astype(np.float16)]
    with compiled.on_path(path):
        assert matmul(a, right_side(b), order, HALF).tolist() == np.float32(expected).tolist()
        sums = combine_partial(running_sums(a, order, HALF), order, HALF)
        assert sums.tolist() == np.float32(plain).tolist()
    undotted = total(a, Order(lanes=4, parts=4, combine="halves"), HALF)
    assert count < 64 or undotted.tolist() != np.float32(plain).tolist()


@PATHS
def test_terms_that_are_no_float16_values_are_rounded_with_the_sum_and_not_before(path: str | None) -> None:
    """Each second term is just off a float16 value that would make the sum a tie, or a float16 itself."""
    truncating = Accumulator("float16", Conversion("toward_zero"))
    cases = [
        (HALF, [1.0, 2.0**-11 + 2.0**-26], 1 + 2.0**-10),  # rounded first it is a tie, to 1
        (HALF, [1 + 2.0**-10, 2.0**-11 - 2.0**-26], 1 + 2.0**-10),  # a tie, to 1 + 2^-9
        (truncating, [1.0, 2.0**-10 - 2.0**-26, 2.0**-10], 1 + 2.0**-10),
    ]
    for accumulator, terms, expected in cases:
        with compiled.on_path(path):
            sums = running_sums(np.float32([terms]), Order(), accumulator)
        assert sums.reshape(-1).tolist() == [expected]


def test_what_a_large_term_swallows_of_a_small_sum_is_kept_by_the_correction() -> None:
    """2^-12 less 8192 needs 25 bits: what is lost must be found by subtracting the larger of the two."""
    corrected = Accumulator("float16_corrected")
    for terms in ([2.0**-12, 8192.0, -8192.0], [8192.0, 2.0**-12, -8192.0], [-(2.0**-12), 3.0, 8192.0, -8192.0, -3.0]):
        assert total(np.float32(terms), Order(), corrected) == sum(terms)
