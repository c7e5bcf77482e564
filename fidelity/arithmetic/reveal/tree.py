"""The whole tree of a sum from masks, level by level, and the matrix that stands for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.order import Tree
from fidelity.arithmetic.reveal.experiment import Inquiry, NotTold
from fidelity.arithmetic.reveal.masks import Mask, split

Counts = NDArray[np.int64]
Measure = Callable[[list[Mask]], Inquiry[Counts]]
Meeting = NDArray[np.int16]
"""For terms i and j how many terms lie under the node where they meet: int16 [terms, terms], a tree for its own."""


def reveal_tree(measure: Measure, terms: int, most: int) -> Inquiry[Tree]:
    """The tree of `terms` terms, its pairs in no order. `measure` counts terms outside; one call a level.

    Term 0 of every subtree meets the others in some order: those that it meets at one node form the
    subtree on that node's other side, and are looked into next, all subtrees at once.
    Raises NotTold where counts fit no binary tree (a sum of more than two at once, or not the same every time).
    """
    chains: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    level = [tuple(range(terms))]
    while level:
        open_sets = [leaves for leaves in level if len(leaves) > 1]
        groups = yield from _measured(measure, open_sets, most)
        chains.update(zip(open_sets, groups, strict=True))
        level = [group for found in groups for group in found]
    return _grown(tuple(range(terms)), chains)


def _measured(measure: Measure, sets: Sequence[tuple[int, ...]], most: int) -> Inquiry[list[list[tuple[int, ...]]]]:
    asked = [[split(leaves[0], other, leaves, most) for other in leaves[1:]] for leaves in sets]
    flat = [mask for of_set in asked for of_pair in of_set for mask in of_pair]
    if not flat:
        return []
    counts = iter((yield from measure(flat)))
    found = []
    for leaves, of_set in zip(sets, asked, strict=True):
        under = [len(leaves) - sum(int(next(counts)) for _ in of_pair) for of_pair in of_set]
        found.append(_groups(leaves, under))
    return found


def _groups(leaves: tuple[int, ...], under: Sequence[int]) -> list[tuple[int, ...]]:
    """The other terms by where they meet the first, nearest first."""
    groups: list[tuple[int, ...]] = []
    size = 1
    for count in sorted(set(under)):
        group = tuple(leaf for leaf, here in zip(leaves[1:], under, strict=True) if here == count)
        size += len(group)
        if size != count:
            raise NotTold(f"{len(group)} terms meet term {leaves[0]} at a node of {count}, {size} were expected")
        groups.append(group)
    return groups


def _grown(leaves: tuple[int, ...], chains: dict[tuple[int, ...], list[tuple[int, ...]]]) -> Tree:
    tree: Tree = leaves[0]
    for group in chains.get(leaves, []):
        tree = (tree, _grown(group, chains))
    return tree


def meeting(tree: Tree, terms: int) -> Meeting:
    """The tree as a matrix: equal for equal trees, however their pairs are written."""
    matrix = np.ones((terms, terms), np.int16)
    done: list[list[int]] = []
    stack: list[tuple[Tree, bool]] = [(tree, False)]
    while stack:
        node, opened = stack.pop()
        if isinstance(node, int):
            done.append([node])
        elif opened:
            right, left = done.pop(), done.pop()
            here = len(left) + len(right)
            rows, columns = np.array(left)[:, np.newaxis], np.array(right)
            matrix[rows, columns] = here
            matrix[columns, rows] = here
            done.append(left + right)
        else:
            stack += [(node, True), (node[1], False), (node[0], False)]
    return matrix


def outside(matrix: Meeting, masks: Sequence[Mask]) -> Counts:
    """How many watched terms lie outside, for each mask, in a known tree."""
    i, j = np.array([(mask.i, mask.j) for mask in masks]).T
    watched = np.zeros((len(masks), matrix.shape[0]), np.bool_)
    for row, mask in zip(watched, masks, strict=True):
        row[list(mask.watched)] = True
    return np.asarray(((matrix[i] > matrix[i, j][:, np.newaxis]) & watched).sum(axis=1), np.int64)
