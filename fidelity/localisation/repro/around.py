"""Sets of operators around those that are to blame, smaller ones first: where a failing piece is looked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from fidelity.tflite.structure import Graph

SMALL = 3
"""A piece that a person reads at a glance; of larger ones there are too many to try them all."""

MOST_SMALL = 40
"""Every piece is a run of the device. With the neighbours of an attention's operators there are at most about 30."""

WINDOWS = (5, 9, 17, 33)


def small_pieces(graph: Graph, blamed: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """One operator, then two, then three: those that are blamed, then grown by neighbours from the last of them.

    What reads a result comes before what makes an input: a delegate takes an operator into those that follow.
    """
    last, live = blamed[-1], set(live_operators(graph))
    level: list[tuple[int, ...]] = [(op,) for op in reversed(blamed)]
    seen: set[tuple[int, ...]] = set()
    for size in range(1, SMALL + 1):
        if len(blamed) == size:
            level.insert(0, tuple(blamed))
        for piece in dict.fromkeys(level):
            if piece not in seen and len(seen) < MOST_SMALL:
                seen.add(piece)
                yield piece
        grown = [piece for piece in level if last in piece]
        level = [tuple(sorted({*piece, o})) for piece in grown for o in _neighbours(graph, piece) if o in live]


def large_pieces(graph: Graph, blamed: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All that is blamed, where that is more than a small piece, then wider and wider windows in order of execution.

    A window that is the whole graph is none.
    """
    if len(blamed) > SMALL:
        yield tuple(blamed)
    live = live_operators(graph)
    first, last = bisect_left(live, blamed[0]), bisect_left(live, blamed[-1])
    for width in WINDOWS:
        window = live[max(0, first - width // 2) : last + width // 2 + 1]
        if len(window) < len(live):
            yield tuple(sorted({*window, *blamed}))


def without_an_end(
    graph: Graph, operators: Sequence[int], blamed: Sequence[int], step: int
) -> Iterator[tuple[int, ...]]:
    """The piece without its last `step` operators, and without its first, where none of those is blamed."""
    live = set(live_operators(graph))
    order = tuple(op for op in operators if op in live)
    for rest, off in ((order[:-step], order[-step:]), (order[step:], order[:step])):
        if rest and not set(off) & set(blamed):
            yield rest


def live_operators(graph: Graph) -> tuple[int, ...]:
    """The operators that compute something from an input, in order of execution.

    The others make constants (a DEQUANTIZE of weights): they are in every piece that needs them anyway.
    """
    return tuple(op.index for op in graph.main.operators if not graph.live.isdisjoint(op.inputs))


def _neighbours(graph: Graph, operators: Sequence[int]) -> list[int]:
    """Operators that read what these write, then those that write what these read."""
    main = graph.main
    after = [each.index for op in operators for out in main.operators[op].outputs for each in main.consumers[out]]
    before = [
        main.producers[index].index
        for op in operators
        for index in main.operators[op].inputs
        if index in main.producers
    ]
    return [each for each in dict.fromkeys([*after, *before]) if each not in operators]
