"""Faults of an operator's result: right numbers that are scaled, moved, replaced or lost behind the operator.

Each takes the editor, the operator and a drawn number that chooses the channel, row or element. It gives False where
the operator's shape has no room for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fidelity.faults.editor import Editor

SCALE = 1.5
SATURATED = 65504.0


def wrong_scale(edit: Editor, op: Any, drawn: int) -> bool:
    """All of it 1.5 times as large."""
    return _computed(edit, op, "MUL", np.full((), SCALE, np.float32))


def wrong_sign(edit: Editor, op: Any, drawn: int) -> bool:
    """All of it negated."""
    return _computed(edit, op, "MUL", np.full((), -1, np.float32))


def dead_channel(edit: Editor, op: Any, drawn: int) -> bool:
    """One channel of the last axis is zero."""
    mask = np.ones(edit.shape(op.outputs[0])[-1:], np.float32)
    if mask.size < 2:
        return False
    mask[drawn % mask.size] = 0
    return _computed(edit, op, "MUL", mask)


def saturated_channel(edit: Editor, op: Any, drawn: int) -> bool:
    """One channel of the last axis is at fp16's largest number."""
    mask = np.ones(edit.shape(op.outputs[0])[-1:], np.float32)
    if mask.size < 2:
        return False
    place, at = drawn % mask.size, np.zeros_like(mask)
    mask[place], at[place] = 0, SATURATED
    wrong = _behind(edit, op)
    cleared = edit.like(wrong)
    follower = edit.after(op)
    edit.operator("MUL", [op.outputs[0], edit.constant(mask)], cleared, schema.MulOptionsT(), follower)
    edit.operator("ADD", [cleared, edit.constant(at)], wrong, schema.AddOptionsT(), follower)
    return True


def zeroed_token(edit: Editor, op: Any, drawn: int) -> bool:
    """One row of the last axis but one is zero."""
    shape = edit.shape(op.outputs[0])
    if len(shape) < 2 or shape[-2] < 3:
        return False
    place = 1 + drawn % (shape[-2] - 2)
    wrong = _behind(edit, op)
    follower = edit.after(op)
    before = slice_of(edit, op.outputs[0], -2, 0, place, follower)
    row = slice_of(edit, op.outputs[0], -2, place, 1, follower)
    after = slice_of(edit, op.outputs[0], -2, place + 1, shape[-2] - place - 1, follower)
    nothing = edit.like(row)
    edit.operator("MUL", [row, edit.constant(np.zeros((), np.float32))], nothing, schema.MulOptionsT(), follower)
    edit.operator("CONCATENATION", [before, nothing, after], wrong, _joined(len(shape) - 2), follower)
    return True


def shifted_row(edit: Editor, op: Any, drawn: int) -> bool:
    """Every row is its neighbour's: the last becomes the first."""
    return _sliced(edit, op, axis=-2, at=-1)


def swapped_halves(edit: Editor, op: Any, drawn: int) -> bool:
    """The halves of the last axis are exchanged."""
    return _sliced(edit, op, axis=-1, at=None)


def nan_element(edit: Editor, op: Any, drawn: int) -> bool:
    """One element is NaN."""
    shape = edit.shape(op.outputs[0])
    if len(shape) < 3:  # LiteRT 2.3.0's delegate takes a rank-2 constant's first row for all of them
        return False
    poison = np.zeros(shape, np.float32)
    poison.reshape(-1)[drawn % poison.size] = np.nan
    return _computed(edit, op, "ADD", poison)


def aliased_output(edit: Editor, op: Any, drawn: int) -> bool:
    """One of its operands, as LiteRT #8599 returns it."""
    shape = edit.shape(op.outputs[0])
    same = [index for index in op.inputs if index >= 0 and edit.shape(index) == shape and edit.is_float(index)]
    same = [index for index in same if edit.value(index) is None]
    return bool(same) and _replaced(edit, op, same[drawn % len(same)])


def stale_output(edit: Editor, op: Any, drawn: int) -> bool:
    """What another operator of the same shape wrote before: memory that was not written again."""
    shape = edit.shape(op.outputs[0])
    earlier = [index for index in edit.written_before(op) if edit.shape(index) == shape and edit.is_float(index)]
    earlier = [index for index in earlier if index not in op.inputs]
    return bool(earlier) and _replaced(edit, op, earlier[drawn % len(earlier)])


def overflow(edit: Editor, op: Any, drawn: int) -> bool:
    """The same numbers by way of 2^13 times as large ones: right in float32, beyond fp16's largest from 8 on."""
    wrong = _behind(edit, op)
    large = edit.like(wrong)
    follower = edit.after(op)
    up, down = (edit.constant(np.full((), factor, np.float32)) for factor in (2.0**13, 2.0**-13))
    edit.operator("MUL", [op.outputs[0], up], large, schema.MulOptionsT(), follower)
    edit.operator("MUL", [large, down], wrong, schema.MulOptionsT(), follower)
    return True


def _behind(edit: Editor, op: Any) -> int:
    """Gives the operator another tensor to write; the one that it wrote is to be written behind it."""
    (written,) = op.outputs
    op.outputs = [edit.like(written)]
    return int(written)


def _computed(edit: Editor, op: Any, kind: str, constant: NDArray[np.float32]) -> bool:
    wrong = _behind(edit, op)
    options = schema.MulOptionsT() if kind == "MUL" else schema.AddOptionsT()
    edit.operator(kind, [op.outputs[0], edit.constant(constant)], wrong, options, edit.after(op))
    return True


def _replaced(edit: Editor, op: Any, other: int) -> bool:
    """Something else of the same shape in its place; the operator still runs, and nobody reads it."""
    wrong = _behind(edit, op)
    shape = edit.constant(np.array(edit.shape(wrong), np.int32))
    edit.operator("RESHAPE", [other, shape], wrong, _reshape(edit.shape(wrong)), edit.after(op))
    return True


def _sliced(edit: Editor, op: Any, axis: int, at: int | None) -> bool:
    """Cut in two along an axis, and put together the other way round; in the middle, or `at` from the end."""
    shape = edit.shape(op.outputs[0])
    if len(shape) < -axis or shape[axis] < 2:
        return False
    cut = shape[axis] // 2 if at is None else shape[axis] + at
    wrong = _behind(edit, op)
    follower = edit.after(op)
    first = slice_of(edit, op.outputs[0], axis, 0, cut, follower)
    second = slice_of(edit, op.outputs[0], axis, cut, shape[axis] - cut, follower)
    edit.operator("CONCATENATION", [second, first], wrong, _joined(len(shape) + axis), follower)
    return True


def slice_of(edit: Editor, tensor: int, axis: int, start: int, size: int, before: Any | None) -> int:
    """A part of a tensor along one axis, as a new tensor."""
    shape = edit.shape(tensor)
    begin, extent = [0] * len(shape), list(shape)
    begin[axis], extent[axis] = start, size
    part = edit.new(tuple(extent))
    inputs = [tensor, *(edit.constant(np.array(each, np.int32)) for each in (begin, extent))]
    edit.operator("SLICE", inputs, part, schema.SliceOptionsT(), before)
    return part


def _joined(axis: int) -> Any:
    options = schema.ConcatenationOptionsT()
    options.axis = axis
    return options


def _reshape(shape: tuple[int, ...]) -> Any:
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    return options
