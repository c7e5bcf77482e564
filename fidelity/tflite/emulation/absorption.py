"""Which operators a delegate computes together with a sum, so that a rounding falls away or moves."""

from __future__ import annotations

from dataclasses import dataclass

from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import BINARY, POWER, SUMS, UNARY, Reduction
from fidelity.tflite.structure import Operator, Subgraph
from fidelity.tflite.walk import static_tensors


@dataclass(frozen=True)
class Absorption:
    """`inside`: operators computed in the accumulator's format within the sum that alone reads them.
    `followed`: sums whose only reader is an elementwise operator of the same shape."""

    inside: frozenset[int]
    followed: frozenset[int]


def absorption(subgraph: Subgraph, profile: Profile) -> Absorption:
    """What the profile's sums take in, before and behind them."""
    static = static_tensors(subgraph)
    inside, followed = set(), set()
    for op in subgraph.operators:
        rule = profile.rules.get(op.name) if op.name in SUMS else None
        if not isinstance(rule, Reduction):
            continue
        before = subgraph.producers.get(op.inputs[0])
        runtime = before is not None and not any(index in static for index in before.inputs)
        if before is not None and runtime and before.name in rule.absorbs and _alone(subgraph, before, op):
            inside.add(before.index)
        if rule.stored_absorbed is not None and op.options.get("keep_dims") and _elementwise_behind(subgraph, op):
            followed.add(op.index)
    return Absorption(frozenset(inside), frozenset(followed))


def _alone(subgraph: Subgraph, op: Operator, reader: Operator) -> bool:
    return subgraph.consumers[op.outputs[0]] == (reader,) and op.outputs[0] not in subgraph.outputs


def _elementwise_behind(subgraph: Subgraph, op: Operator) -> bool:
    readers = subgraph.consumers[op.outputs[0]]
    if len(readers) != 1 or op.outputs[0] in subgraph.outputs:
        return False
    (reader,) = readers
    same = subgraph.tensors[reader.outputs[0]].shape == subgraph.tensors[op.outputs[0]].shape
    return same and reader.name in (*BINARY, *UNARY, POWER)
