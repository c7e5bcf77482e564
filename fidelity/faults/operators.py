"""Faults of an operator itself: its constants, operands, options and axis are other than they should be.

Each takes the editor, the operator and a drawn number, and gives False for an operator that has no such thing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fidelity.faults.editor import Editor

_EPS = 1e-2
"""What eps and epsilon-like additions are at most: a larger single-element ADD is something else."""

_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D")


def dropped_bias(edit: Editor, op: Any, drawn: int) -> bool:
    """A product without its bias."""
    if edit.kind(op) not in _PRODUCTS or len(op.inputs) < 3 or op.inputs[2] < 0:
        return False
    bias = edit.value(op.inputs[2])
    if bias is None or not np.any(bias):
        return False
    op.inputs = [*op.inputs[:2], edit.constant(np.zeros_like(bias))]
    return True


def swapped_operands(edit: Editor, op: Any, drawn: int) -> bool:
    """b - a for a - b, b / a for a / b, and the product of matrices the other way round where the shapes allow it."""
    first, second = (*op.inputs, -1, -1)[:2]
    if edit.kind(op) not in ("SUB", "DIV", "BATCH_MATMUL") or edit.shape(first) != edit.shape(second):
        return False
    if edit.kind(op) == "BATCH_MATMUL" and edit.shape(first)[-1] != edit.shape(first)[-2]:
        return False
    op.inputs = [second, first]
    return True


def ignored_adj(edit: Editor, op: Any, drawn: int) -> bool:
    """The second matrix read as if it were not to be transposed: its memory in the transposed one's shape (#8913)."""
    if edit.kind(op) != "BATCH_MATMUL":
        return False
    second = op.inputs[1]
    shape = edit.shape(second)
    turned = edit.new((*shape[:-2], shape[-1], shape[-2]))
    read = edit.like(second)
    axes = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    edit.operator(
        "TRANSPOSE", [second, edit.constant(np.array(axes, np.int32))], turned, schema.TransposeOptionsT(), op
    )
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    edit.operator("RESHAPE", [turned, edit.constant(np.array(shape, np.int32))], read, options, op)
    op.inputs = [op.inputs[0], read]
    return True


def wrong_softmax_axis(edit: Editor, op: Any, drawn: int) -> bool:
    """Over the last axis but one."""
    shape = edit.shape(op.outputs[0])
    if edit.kind(op) != "SOFTMAX" or len(shape) < 3 or shape[-2] < 2:
        return False
    axes = edit.constant(np.array([*range(len(shape) - 2), len(shape) - 1, len(shape) - 2], np.int32))
    other = (*shape[:-2], shape[-1], shape[-2])
    (written,) = op.outputs
    turned, over = edit.new(other), edit.new(other)
    follower = edit.after(op)
    edit.operator("TRANSPOSE", [op.inputs[0], axes], turned, schema.TransposeOptionsT(), op)
    op.inputs, op.outputs = [turned], [over]
    edit.operator("TRANSPOSE", [over, axes], int(written), schema.TransposeOptionsT(), follower)
    return True


def wrong_eps(edit: Editor, op: Any, drawn: int) -> bool:
    """A LayerNorm's eps of 10: far above any variance of its rows."""
    if edit.kind(op) != "ADD":
        return False
    for place, index in enumerate(op.inputs):
        value = edit.value(index)
        if value is not None and value.size == 1 and 0 < float(value.reshape(-1)[0]) <= _EPS:
            inputs = list(op.inputs)
            inputs[place] = edit.constant(np.full(value.shape, 10.0, np.float32))
            op.inputs = inputs
            return True
    return False


def rounded_twice(edit: Editor, op: Any, drawn: int) -> bool:
    """Weights that were rounded to bfloat16 before they were what they are."""
    if edit.kind(op) not in _PRODUCTS:
        return False
    index, holder = _weights(edit, op)
    value = None if index is None else edit.value(index)
    if value is None or holder is None:
        return False
    other = _bfloat16(value.astype(np.float32)).astype(value.dtype)
    inputs = list(holder.inputs)
    inputs[inputs.index(index)] = edit.constant(other)
    holder.inputs = inputs
    return True


def _weights(edit: Editor, op: Any) -> tuple[int | None, Any]:
    """The constant of a product's weights and the operator that reads it: itself, or the DEQUANTIZE before it."""
    index = int(op.inputs[1])
    if edit.value(index) is not None:
        return index, op
    producer = edit.producer(index)
    if producer is None or edit.kind(producer) != "DEQUANTIZE":
        return None, None
    return int(producer.inputs[0]), producer


def _bfloat16(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest bfloat16, ties to even."""
    bits = value.view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (nearest & np.uint32(0xFFFF0000)).view(np.float32)
