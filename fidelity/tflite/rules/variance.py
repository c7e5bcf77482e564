"""Sums of squares that pass fp16's largest number: LayerNorm's variance, and norms of vectors.

A delegate that reduces in fp16 gets infinity, or a clamped number, once the sum of squares passes
65,504: for rows of n elements, at a root mean square of sqrt(65504 / n). A row multiplied by a
constant below 1 before it is squared (`safe_layernorm`), or by a scale taken from its own largest
magnitude (`row_layernorm`), does not get there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fidelity.tflite.finding import AuditFinding, Place, found
from fidelity.tflite.structure import Graph, Operator, Subgraph, Tensor
from fidelity.tflite.walk import ancestors

FP16_LARGEST = 65504.0
_SAME_VALUES = ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "CAST", "SUB")
"""Operators whose first input carries the row on: a scale before the mean is subtracted counts too."""
_WALK_LIMIT = 12
_LARGEST_SCALE = 65_536  # elements; a scale is one number, or one a channel
_SCALE_ANCESTORS = 8  # amax, abs, clamp and division, with room


def unscaled_squares(graph: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """MEAN and SUM over the squares of values that nothing made smaller first."""
    for op in subgraph.operators:
        if op.name not in ("MEAN", "SUM"):
            continue
        squared = subgraph.input(op, 0)
        square = subgraph.producers.get(squared.index) if squared else None
        root = _squared_value(subgraph, square) if square else None
        if squared is None or square is None or root is None or _is_scaled(graph, subgraph, root):
            continue
        count = max(squared.elements // max(_elements(subgraph.output(op)), 1), 1)
        limit = math.sqrt(FP16_LARGEST / count)
        place = Place(subgraph, op, squared)
        reason = f"{count} squares, summed unscaled, pass fp16's 65504 at a root mean square of {limit:.3g}"
        if _is_deviation(subgraph, square):
            yield found(place, "unscaled_variance", "warning", reason, "safe_layernorm")
        else:
            yield found(place, "unscaled_sum_of_squares", "warning", reason)


def _elements(tensor: Tensor | None) -> int:
    return tensor.elements if tensor else 1


def _squared_value(subgraph: Subgraph, op: Operator) -> int | None:
    """The tensor that an operator squares, or None when it squares nothing."""
    if op.name in ("SQUARE", "SQUARED_DIFFERENCE"):
        return op.inputs[0] if op.inputs else None
    if op.name == "MUL" and len(op.inputs) == 2 and op.inputs[0] == op.inputs[1]:
        return op.inputs[0]
    return None


def _is_deviation(subgraph: Subgraph, square: Operator) -> bool:
    producer = subgraph.producers.get(square.inputs[0])
    return square.name == "SQUARED_DIFFERENCE" or (producer is not None and producer.name == "SUB")


def _is_scaled(graph: Graph, subgraph: Subgraph, tensor: int) -> bool:
    """True when the value was made smaller by a constant, or by its row's own largest magnitude."""
    for _ in range(_WALK_LIMIT):
        op = subgraph.producers.get(tensor)
        if op is None or not op.inputs:
            return False
        if op.name in ("MUL", "DIV") and len(op.inputs) == 2 and min(op.inputs) >= 0:
            return _makes_smaller(graph, subgraph, op)
        if op.name not in _SAME_VALUES:
            return False
        tensor = op.inputs[0]
    return False


def _makes_smaller(graph: Graph, subgraph: Subgraph, op: Operator) -> bool:
    factors = op.inputs if op.name == "MUL" else op.inputs[1:]
    return any(
        _is_small_constant(graph, subgraph.tensors[index], op.name) or _is_row_scale(subgraph, index)
        for index in factors
    )


def _is_small_constant(graph: Graph, tensor: Tensor, op_name: str) -> bool:
    """True for a factor below 1, or a divisor above 1, in every element."""
    if not tensor.is_constant or tensor.external or tensor.dtype not in ("float32", "float16"):
        return False
    if not 0 < tensor.elements <= _LARGEST_SCALE:
        return False
    magnitude = np.abs(graph.constant(tensor).astype(np.float64))
    return bool((magnitude < 1).all() if op_name == "MUL" else (magnitude > 1).all())


def _is_row_scale(subgraph: Subgraph, tensor: int) -> bool:
    """True for one number a row that was made from the row's largest."""
    one_a_row = subgraph.tensors[tensor].shape[-1:] == (1,)
    return one_a_row and "REDUCE_MAX" in ancestors(subgraph, tensor, _SCALE_ANCESTORS)
