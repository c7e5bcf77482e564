"""Which operators a delegate computes together, so that roundings fall away or move."""

from __future__ import annotations

from dataclasses import dataclass

from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import BINARY, LAYER_NORM, POWER, SOFTMAX, SUMS, UNARY, LayerNorm, Reduction
from fidelity.tflite.emulation.layernorm_group import Norm, norm_ending_with
from fidelity.tflite.emulation.layout import keeps_its_place, layout
from fidelity.tflite.structure import Graph, Operator, Subgraph
from fidelity.tflite.walk import static_tensors

_LINKED = (*BINARY, *UNARY, POWER)
_COMMUTING = ("ADD", "MUL")  # the delegate exchanges their operands, and MAXIMUM's not


@dataclass(frozen=True)
class Absorption:
    """`inside`: operators computed in the accumulator's format within the sum that alone reads them.
    `followed`: operators whose only reader is an elementwise one of the same shape. `norms`: by the
    index of their last operator."""

    inside: frozenset[int]
    followed: frozenset[int]
    norms: dict[int, Norm]

    @property
    def within_norms(self) -> frozenset[int]:
        """Operators that a LayerNorm has taken in: none of them is computed by itself."""
        return frozenset(index for norm in self.norms.values() for index in norm.members[:-1])


def absorption(graph: Graph, subgraph: Subgraph, profile: Profile, merged: frozenset[int]) -> Absorption:
    """What the profile's rules take together in this graph, once products have taken in the operators `merged`."""
    static = static_tensors(subgraph)
    norms: dict[int, Norm] = {}
    if isinstance(profile.rules.get(LAYER_NORM), LayerNorm):
        found = (norm_ending_with(graph, subgraph, op, static) for op in subgraph.operators)
        norms = {norm.members[-1]: norm for norm in found if norm is not None}
    inside = {
        before.index
        for op in subgraph.operators
        if isinstance(rule := profile.rules.get(op.name), Reduction)
        and (before := subgraph.producers.get(op.inputs[0])) is not None
        and before.name in rule.absorbs
        and _alone(subgraph, before, op)
        and not any(index in static for index in before.inputs)
    }
    sums = [op for op in subgraph.operators if op.name in SUMS and keeps_its_place(graph, subgraph, op)]
    others = [op for op in subgraph.operators if op.name == SOFTMAX or op.index in norms]
    followed = {op.index for op in (*sums, *others) if _elementwise_behind(subgraph, op, merged)}
    return Absorption(frozenset(inside), frozenset(followed), norms)


def _alone(subgraph: Subgraph, op: Operator, reader: Operator) -> bool:
    return subgraph.consumers[op.outputs[0]] == (reader,) and op.outputs[0] not in subgraph.outputs


def _elementwise_behind(subgraph: Subgraph, op: Operator, merged: frozenset[int]) -> bool:
    """Whether all that reads an operator is one elementwise operation of its shape, or two in a chain."""
    readers = subgraph.consumers[op.outputs[0]]
    if op.outputs[0] in subgraph.outputs or any(reader.index in merged for reader in readers):
        return False
    if len(readers) == 2 and _alone(subgraph, readers[0], readers[1]):
        readers = readers[:1] if readers[1].name in _LINKED else ()
    if len(readers) != 1:
        return False
    (reader,) = readers
    shapes = (layout(subgraph.tensors[index].shape) for index in (reader.outputs[0], op.outputs[0]))
    first = next((index for index in reader.inputs if not subgraph.tensors[index].is_constant), -1)
    return len(set(shapes)) == 1 and reader.name in _LINKED and (first == op.outputs[0] or reader.name in _COMMUTING)
