"""The faults of a graph by name, and planting one of them in a file: at the operator that writes a tensor of a name.

A device with a fault is the right device, given every file through `planted`. A piece of the graph that has the
operator has the fault; one that has not stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fidelity.faults import operators, results
from fidelity.faults.editor import Editor

Plant = Callable[[Editor, Any, int], bool]

RESULTS: dict[str, Plant] = {
    each.__name__: each
    for each in (
        results.wrong_scale,
        results.wrong_sign,
        results.swapped_halves,
        results.shifted_row,
        results.zeroed_token,
        results.dead_channel,
        results.saturated_channel,
        results.nan_element,
        results.aliased_output,
        results.stale_output,
    )
}
"""What becomes of an operator's right result."""

OPERATORS: dict[str, Plant] = {
    each.__name__: each
    for each in (
        operators.dropped_bias,
        operators.swapped_operands,
        operators.ignored_adj,
        operators.wrong_softmax_axis,
        operators.wrong_eps,
        operators.rounded_twice,
    )
}
"""What an operator itself has wrong."""

OVERFLOW: dict[str, Plant] = {"overflow": results.overflow}
"""Right in float32 and beyond fp16: a property of the graph and not of a device."""

FAULTS = {**RESULTS, **OPERATORS, **OVERFLOW}


def planted(model: bytes, tensor: str, fault: str, drawn: int) -> bytes | None:
    """The file with a fault in the operator that writes `tensor`; None where that cannot have it.

    A file without that operator comes back as it is. `drawn` chooses the channel, row or element. Operators of several
    results, and of integers, have no faults.
    """
    edit = Editor(model)
    index = edit.index(tensor)
    op = None if index is None else edit.producer(index)
    if index is None or op is None:
        return model
    if len(op.outputs) != 1 or not edit.is_float(index):
        return None
    return edit.bytes() if FAULTS[fault](edit, op, drawn) else None
