"""How often a graph rounds on the way to each output: what tolerances are derived from.

Two right implementations of one graph round at the same places and not alike. Of each operator we
count the roundings of one result: K + 1 for a sum of K products, 1 otherwise; and whether its result
is rounded to the steps of a quantised tensor. Along the longest path they add like a random walk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fidelity.tflite.emulation.movement import MOVES, MOVES_TO_MANY
from fidelity.tflite.emulation.stored_integers import quantization_of
from fidelity.tflite.structure import Graph, Operator, Signature, Subgraph

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_SUMS = ("MEAN", "SUM", "AVERAGE_POOL_2D")


@dataclass(frozen=True)
class Depth:
    """On the longest path to a tensor: roundings to float32, roundings to quantised steps, and products that
    quantise their own activations as they run (hybrid: float in and out, integer weights)."""

    float_roundings: int = 0
    step_roundings: int = 0
    hybrid: int = 0


def depths(graph: Graph, entry: Signature) -> dict[str, Depth]:
    """By output name."""
    subgraph = graph.subgraphs[entry.subgraph]
    found: dict[int, Depth] = {}
    for op in subgraph.operators:
        before = [found[index] for index in op.inputs if index in found]
        if not before and all(index < 0 or subgraph.tensors[index].is_constant for index in op.inputs):
            continue  # made of constants alone: the same on both sides
        here = depth_of(subgraph, op)
        for index in op.outputs:
            found[index] = Depth(
                here.float_roundings + max((each.float_roundings for each in before), default=0),
                here.step_roundings + max((each.step_roundings for each in before), default=0),
                here.hybrid + max((each.hybrid for each in before), default=0),
            )
    return {name: found.get(index, Depth()) for name, index in entry.outputs}


def depth_of(subgraph: Subgraph, op: Operator) -> Depth:
    """Of one operator by itself."""
    return Depth(_roundings(subgraph, op), int(_steps(subgraph, op)), int(_hybrid(subgraph, op)))


def _roundings(subgraph: Subgraph, op: Operator) -> int:
    """Of one number of the result."""
    if op.name in MOVES or op.name in MOVES_TO_MANY or op.name in ("DEQUANTIZE", "QUANTIZE", "DENSIFY"):
        return 0
    shapes = [subgraph.tensors[index].shape if index >= 0 else () for index in op.inputs]
    if op.name in _WEIGHTED and len(shapes) > 1 and shapes[1]:
        by_channel = shapes[1][1:3] if op.name == "DEPTHWISE_CONV_2D" else shapes[1][1:]
        return math.prod(by_channel) + 1
    if op.name == "BATCH_MATMUL" and shapes[0]:
        return shapes[0][-2 if op.options.get("adj_x") else -1] + 1
    if op.name in _SUMS and op.outputs:
        given = math.prod(shapes[0])
        return given // max(1, subgraph.tensors[op.outputs[0]].elements) + 1
    if op.name in ("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION") and shapes[0]:
        return shapes[0][-1] + 1
    return 1


def _steps(subgraph: Subgraph, op: Operator) -> bool:
    """Whether the result is rounded to steps: a quantised tensor that more than a move has made."""
    if op.name in MOVES and op.name not in ("CONCATENATION", "PAD", "PADV2"):
        return False
    return any(quantization_of(subgraph.tensors[index]) is not None for index in op.outputs)


def _hybrid(subgraph: Subgraph, op: Operator) -> bool:
    if op.name not in _WEIGHTED or len(op.inputs) < 2 or not op.outputs:
        return False
    weights = subgraph.tensors[op.inputs[1]]
    return weights.dtype in ("int8", "uint8", "int4") and subgraph.tensors[op.outputs[0]].dtype == "float32"
