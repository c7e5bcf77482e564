"""Operands the other way round where one of them is broadcast: a LayerNorm's mean - x for x - mean.

Apart from `plant`, whose faults are drawn over every operator by the trial of locate: a longer list would draw others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fidelity.faults.editor import Editor
from fidelity.faults.plant import planted


def planted_anywhere(model: bytes, tensor: str, fault: str, drawn: int) -> bytes | None:
    """As `planted`; and operands are swapped also where their shapes differ."""
    found = planted(model, tensor, fault, drawn)
    if found is not None or fault != "swapped_operands":
        return found
    edit = Editor(model)
    index = edit.index(tensor)
    op = None if index is None else edit.producer(index)
    return edit.bytes() if op is not None and _swapped(edit, op) else None


def _swapped(edit: Editor, op: Any) -> bool:
    """b - a for a - b and b / a for a / b, where the result has the same shape either way."""
    if edit.kind(op) not in ("SUB", "DIV"):
        return False
    first, second = (int(index) for index in op.inputs)
    if np.broadcast_shapes(edit.shape(first), edit.shape(second)) != edit.shape(op.outputs[0]):
        return False
    op.inputs = [second, first]
    return True
