"""Operators that the GPU delegate has no kernel for: Flex, custom, and built-in ones it names.

The two lists were measured: a graph of that one operator, float32 of rank 4 or below, given to
ML Drift's WebGPU delegate of ai-edge-litert 2.3.0, which logs what it does not take.
"""

from __future__ import annotations

from collections.abc import Iterator

from fidelity.tflite.finding import AuditFinding, Place, found
from fidelity.tflite.structure import Graph, Subgraph

REFUSED = frozenset(
    [
        *("EXPAND_DIMS", "GATHER_ND", "L2_NORMALIZATION", "LOG_SOFTMAX", "RELU_0_TO_1", "SQUEEZE"),
        "ZEROS_LIKE",
    ]
)
TAKEN = frozenset(
    [
        *("ABS", "ADD", "ARG_MAX", "ATAN2", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CAST", "CEIL"),
        *("CONCATENATION", "CONV_2D", "COS", "CUMSUM", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE"),
        *("DIV", "ELU", "EMBEDDING_LOOKUP", "EQUAL", "EXP", "FLOOR", "FLOOR_DIV", "FLOOR_MOD"),
        *("FULLY_CONNECTED", "GATHER", "GELU", "GREATER", "HARD_SWISH", "LEAKY_RELU", "LESS", "LOG"),
        *("LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN"),
        *("MINIMUM", "MIRROR_PAD", "MUL", "NEG", "NOT_EQUAL", "PACK", "PAD", "POW", "PRELU"),
        *("REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE"),
        *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "ROUND", "RSQRT", "SELECT"),
        *("SELECT_V2", "SIGN", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SQRT", "SQUARE"),
        *("SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TILE", "TOPK_V2", "TRANSPOSE"),
        *("TRANSPOSE_CONV", "UNPACK"),
    ]
)


def custom_operators(_: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """Flex (`FlexErf` ...) and other custom operators, which exist only where someone linked them in."""
    for op in subgraph.operators:
        if op.is_custom:
            kind = "a TensorFlow (Flex)" if op.name.startswith("Flex") else "a custom"
            reason = f"{op.name} is {kind} operator: the GPU delegate has no kernel for it"
            yield found(Place(subgraph, op, subgraph.output(op)), "custom_op", "refused", reason)


def missing_kernels(_: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """Built-in operators that the delegate was seen to refuse, or never seen to take.

    GATHER_ND is left to the rule on gathers, which knows its cure.
    """
    for op in subgraph.operators:
        if op.is_custom or op.name in TAKEN or op.name == "GATHER_ND":
            continue
        place = Place(subgraph, op, subgraph.output(op))
        if op.name in REFUSED:
            yield found(place, "unsupported_op", "refused", f"the GPU delegate has no kernel for {op.name}")
        else:
            reason = f"{op.name} is not among the operators that the GPU delegate was seen to take"
            yield found(place, "untested_op", "warning", reason)
