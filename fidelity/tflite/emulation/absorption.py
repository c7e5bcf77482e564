"""Which operators a delegate computes together, so that roundings fall away or move."""

from __future__ import annotations

from dataclasses import dataclass

from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import BINARY, LAYER_NORM, POWER, SOFTMAX, SUMS, UNARY, LayerNorm, Reduction
from fidelity.tflite.structure import Operator, Subgraph
from fidelity.tflite.walk import static_tensors

_LINKED = (*BINARY, *UNARY, POWER)
_COMMUTING = ("ADD", "MUL")  # the delegate exchanges their operands, and MAXIMUM's not


@dataclass(frozen=True)
class Norm:
    """A LayerNorm computed as one operation: the tensor that it reads, its eps, and the operators that
    make it up, the last of which gives the result."""

    source: int
    eps: int
    members: tuple[int, ...]


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


def absorption(subgraph: Subgraph, profile: Profile, merged: frozenset[int]) -> Absorption:
    """What the profile's rules take together in this graph, once products have taken in the operators `merged`."""
    static = static_tensors(subgraph)
    has_norm = isinstance(profile.rules.get(LAYER_NORM), LayerNorm)
    found = (_norm(subgraph, op, static) for op in subgraph.operators if has_norm and op.name == "MUL")
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
    sums = [op for op in subgraph.operators if op.name in SUMS and op.options.get("keep_dims")]
    others = [op for op in subgraph.operators if op.name == SOFTMAX or op.index in norms]
    followed = {op.index for op in (*sums, *others) if _elementwise_behind(subgraph, op, merged)}
    return Absorption(frozenset(inside), frozenset(followed), norms)


def _norm(subgraph: Subgraph, last: Operator, static: frozenset[int]) -> Norm | None:
    """The LayerNorm that ends with `last`, the product of difference and reciprocal root; None when it is none."""
    difference, root = (_maker(subgraph, index) for index in last.inputs)
    if difference is None or root is None or difference.name != "SUB" or root.name != "RSQRT":
        return None
    shift = _maker(subgraph, root.inputs[0], "ADD")
    variance = _maker(subgraph, shift.inputs[0], "MEAN") if shift else None
    square = _maker(subgraph, variance.inputs[0], "MUL") if variance else None
    mean = _maker(subgraph, difference.inputs[1], "MEAN")
    if shift is None or variance is None or square is None or mean is None:
        return None
    fits = (
        square.inputs == (difference.outputs[0], difference.outputs[0])
        and mean.inputs[0] == difference.inputs[0]
        and shift.inputs[1] in static
        and subgraph.tensors[shift.inputs[1]].elements == 1
        and all(_over_last_axis(subgraph, op) for op in (mean, variance))
        and subgraph.consumers[difference.outputs[0]] == (square, last)
        and all(len(subgraph.consumers[op.outputs[0]]) == 1 for op in (mean, square, variance, shift, root))
    )
    members = (mean, difference, square, variance, shift, root)
    if not fits or any(op.outputs[0] in subgraph.outputs for op in members):
        return None
    return Norm(mean.inputs[0], shift.inputs[1], (*(op.index for op in members), last.index))


def _maker(subgraph: Subgraph, tensor: int, name: str | None = None) -> Operator | None:
    """The operator that writes a tensor, if it is of that name."""
    op = subgraph.producers.get(tensor)
    return op if op is not None and name in (None, op.name) else None


def _over_last_axis(subgraph: Subgraph, op: Operator) -> bool:
    """A reduction that keeps its dimensions and reduces the last alone, as the shapes tell."""
    before, after = subgraph.tensors[op.inputs[0]].shape, subgraph.tensors[op.outputs[0]].shape
    return bool(op.options.get("keep_dims")) and after == (*before[:-1], 1)


def _alone(subgraph: Subgraph, op: Operator, reader: Operator) -> bool:
    return subgraph.consumers[op.outputs[0]] == (reader,) and op.outputs[0] not in subgraph.outputs


def _elementwise_behind(subgraph: Subgraph, op: Operator, merged: frozenset[int]) -> bool:
    """Whether all that reads an operator is one elementwise operation of its shape, or two in a chain."""
    if op.outputs[0] in subgraph.outputs:
        return False
    readers = tuple(reader for reader in subgraph.consumers[op.outputs[0]] if reader.index not in merged)
    if len(readers) != len(subgraph.consumers[op.outputs[0]]):
        return False
    if len(readers) == 2 and _alone(subgraph, readers[0], readers[1]):
        readers = readers[:1] if readers[1].name in _LINKED else ()
    if len(readers) != 1:
        return False
    (reader,) = readers
    same = subgraph.tensors[reader.outputs[0]].shape == subgraph.tensors[op.outputs[0]].shape
    first = next((index for index in reader.inputs if not subgraph.tensors[index].is_constant), -1)
    return same and reader.name in _LINKED and (first == op.outputs[0] or reader.name in _COMMUTING)

