"""The first operator whose inputs are right and whose result is wrong: from a trace, or by bisection of prefixes.

Right means: what the device's arithmetic must give. Under a measured profile that is a matter of
bits; under one that stands for it, of error within LIMIT times the expected one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fidelity.localisation.groups import sources
from fidelity.localisation.noise import worse
from fidelity.localisation.records import Trace, Traced
from fidelity.prediction.module_path import block_of
from fidelity.tflite.structure import Graph


def wrong(row: Traced, noise: float, *, measured: bool) -> bool:
    """Whether this result is another than the arithmetic gives.

    Under a measured profile, other bits are wrong only where the error grows by them too: a result
    that is as near to the truth as the expected one is another rounding, not a fault.
    """
    return not (measured and row.identical_share == 1.0) and worse(row.error_actual, row.error_expected, noise)


def culprit(found: Trace, graph: Graph, noise: float, lying: frozenset[int] = frozenset()) -> Traced | None:
    """The first wrong operator in execution order whose traced inputs are all right; None when there is none.

    `lying` are tensors that are right where nothing else is shown: what a tap says of them does not count.
    """
    rows = [row for row in found.operators if row.tensor not in lying]
    bad = _bad(rows, found, noise)
    shown = {row.tensor for row in rows}
    return next(
        (row for row in rows if row.tensor in bad and bad.isdisjoint(sources(graph, row.tensor, shown)[0])), None
    )


def felt(found: Trace, graph: Graph, row: Traced, noise: float) -> bool:
    """Whether what reads this result is wrong too, or is the output: then the result is what a tap says."""
    outputs = {index for _, index in graph.signature().outputs}
    if any(outputs & set(reader.outputs) for reader in graph.main.consumers[row.tensor]):
        return True
    shown = {each.tensor for each in found.operators}
    return any(
        row.tensor in sources(graph, tensor, shown)[0]
        for tensor in _bad(found.operators, found, noise)
        if tensor != row.tensor
    )


def _bad(rows: list[Traced] | tuple[Traced, ...], found: Trace, noise: float) -> set[int]:
    return {row.tensor for row in rows if wrong(row, noise, measured=not found.stands_in)}


def first_wrong(tensors: tuple[int, ...], is_wrong: Callable[[int], bool]) -> tuple[int | None, int]:
    """By bisection, the first of `tensors` that is wrong, and how many were looked at.

    The error must be monotone for that: right at the first, wrong at the last, and still wrong right
    behind what was found. None when it is not: then only a trace tells.
    """
    looked: dict[int, bool] = {}

    def look(place: int) -> bool:
        if place not in looked:
            looked[place] = is_wrong(tensors[place])
        return looked[place]

    low, high = 0, len(tensors) - 1
    if not tensors or not look(high):
        return None, len(looked)
    if look(low):
        return tensors[low], len(looked)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if look(middle) else (middle, high)
    beyond = min(high + 1, len(tensors) - 1)
    before = max(low - 1, 0)
    if not look(beyond) or look(before):
        return None, len(looked)
    return tensors[high], len(looked)


def blocks(found: Trace) -> Mapping[str, Traced]:
    """The last operator of every block, by the block's name: how the error grows from block to block."""
    last: dict[str, Traced] = {}
    for row in found.operators:
        if row.module:
            last.pop(block_of(row.module), None)  # in the order of the last ones
            last[block_of(row.module)] = row
    return last
