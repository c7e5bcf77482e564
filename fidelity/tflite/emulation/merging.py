"""Constants that a delegate takes into the weights and bias of the product that they stand next to.

W (m x + a) + b = (W m) x + (W a + b): the same real numbers, other roundings, since the merged weights
are rounded to float16 instead of every activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import Product
from fidelity.tflite.structure import Operator, Subgraph
from fidelity.tflite.walk import static_tensors

Single = NDArray[np.float32]
WEIGHTED = ("FULLY_CONNECTED", "CONV_2D")
_NO_ACTIVATION = (None, "NONE")


@dataclass(frozen=True)
class Merging:
    """One product with what it has taken in.

    `source` is the tensor that it reads, `result` the one that it then writes. `before` and `after`
    are operators with the tensors of their constants, in the order in which they are taken in.
    """

    source: int
    result: int
    before: tuple[tuple[Operator, int], ...] = ()
    after: tuple[tuple[Operator, int], ...] = ()

    @property
    def members(self) -> frozenset[int]:
        """Operators that are not computed by themselves any more."""
        return frozenset(op.index for op, _ in (*self.before, *self.after))


def mergings(subgraph: Subgraph, profile: Profile) -> dict[int, Merging]:
    """What every product with static weights takes in, by the product's index; only those that take something.
    What stands between two products goes into the first of them."""
    static = static_tensors(subgraph)
    found: dict[int, Merging] = {}
    for op in subgraph.operators:
        rule = profile.rules.get(op.name)
        if op.name in WEIGHTED and isinstance(rule, Product) and op.inputs[1] in static:
            taken = frozenset(index for each in found.values() for index in each.members)
            merging = _merging(subgraph, op, rule, static, taken)
            if merging.members:
                found[op.index] = merging
    return found


def merged(
    merging: Merging, weights: Single, bias: Single | None, constant: Callable[[int], Single]
) -> tuple[Single, Single]:
    """Weights [N, ...] and bias [N] in float32 with everything taken in. `constant` gives a tensor's stored value."""
    w = weights.reshape(weights.shape[0], -1).astype(np.float32)
    b = np.zeros(w.shape[0], np.float32) if bias is None else bias.astype(np.float32)
    for op, tensor in merging.after:
        value = np.broadcast_to(constant(tensor).reshape(-1), w.shape[0])
        if op.name == "MUL":
            w, b = w * value[:, np.newaxis], b * value
        else:
            b = b + value
    for op, tensor in merging.before:
        value = np.broadcast_to(constant(tensor).reshape(-1), weights.shape[-1])
        every = np.tile(value, w.shape[1] // weights.shape[-1])
        if op.name == "MUL":
            w = w * every
        else:
            b = b + np.add.accumulate(w * every, axis=1, dtype=np.float32)[:, -1]  # one after the other
    return w.reshape(weights.shape), b


def _merging(subgraph: Subgraph, op: Operator, rule: Product, static: frozenset[int], taken: frozenset[int]) -> Merging:
    merging = Merging(op.inputs[0], op.outputs[0])
    positions = math.prod(subgraph.tensors[op.inputs[0]].shape[1:-1])
    for kind in rule.merges_before:
        if kind == "ADD" and positions == 1:
            continue  # a product of vectors takes in no sums, only one of an image does
        while (found := _taken_before(subgraph, merging, op, kind, static, taken)) is not None:
            merging = found
    if op.options.get("fused_activation_function") in _NO_ACTIVATION:
        for kind in rule.merges_after:
            while (found := _taken_after(subgraph, merging, kind, static)) is not None:
                merging = found
    return merging


def _taken_before(
    subgraph: Subgraph, merging: Merging, op: Operator, kind: str, static: frozenset[int], taken: frozenset[int]
) -> Merging | None:
    maker = subgraph.producers.get(merging.source)
    reader = merging.before[-1][0] if merging.before else op
    if (
        maker is None
        or maker.index in taken
        or subgraph.consumers[merging.source] != (reader,)
        or merging.source in subgraph.outputs
    ):
        return None
    if kind == "ADD" and op.name == "CONV_2D" and op.options.get("padding") != "VALID":
        return None  # the zeros around the image are not added to
    other = _other(subgraph, maker, kind, static)
    return None if other is None else replace(merging, source=other[0], before=(*merging.before, (maker, other[1])))


def _taken_after(subgraph: Subgraph, merging: Merging, kind: str, static: frozenset[int]) -> Merging | None:
    readers = subgraph.consumers[merging.result]
    if len(readers) != 1 or merging.result in subgraph.outputs:
        return None
    other = _other(subgraph, readers[0], kind, static)
    if other is None:
        return None
    return replace(merging, result=readers[0].outputs[0], after=(*merging.after, (readers[0], other[1])))


def _other(subgraph: Subgraph, op: Operator, kind: str, static: frozenset[int]) -> tuple[int, int] | None:
    """Runtime and constant input of an operator of this kind whose constant is one number, or one a channel."""
    if op.name != kind or op.options.get("fused_activation_function") not in _NO_ACTIVATION:
        return None
    runtime = [index for index in op.inputs if index not in static]
    constant = [index for index in op.inputs if index in static]
    if len(runtime) != 1 or len(constant) != 1:
        return None
    shape, channels = subgraph.tensors[constant[0]].shape, subgraph.tensors[op.outputs[0]].shape[-1]
    linear = math.prod(shape) == 1 or (math.prod(shape) == channels and shape[-1] == channels)
    return (runtime[0], constant[0]) if linear else None
