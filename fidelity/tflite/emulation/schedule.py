"""What a delegate really computes of a graph, in order: operators, some of which have taken in others."""

from __future__ import annotations

from dataclasses import dataclass

from fidelity.arithmetic.profile import Profile
from fidelity.tflite.emulation.absorption import absorption
from fidelity.tflite.emulation.layernorm_group import Norm
from fidelity.tflite.emulation.merging import Merging, mergings
from fidelity.tflite.structure import Graph, Operator, Subgraph


@dataclass(frozen=True)
class Step:
    """One operator as it is computed: the tensors that it reads, by the operator's input positions, and
    the one that it writes; `also` are the further ones of an operator with several.

    `inside`: within the sum that reads it, in float32. `followed`: together with its elementwise
    reader. `norm`: the LayerNorm that ends here, `merging`: what a product has taken in.
    """

    op: Operator
    reads: tuple[int, ...]
    writes: int
    also: tuple[int, ...] = ()
    inside: bool = False
    followed: bool = False
    norm: Norm | None = None
    merging: Merging | None = None


def schedule(graph: Graph, subgraph: Subgraph, profile: Profile) -> tuple[Step, ...]:
    """The steps of a graph under a profile, in execution order; operators that another has taken in are not there."""
    merging = mergings(subgraph, profile)
    merged = frozenset(index for each in merging.values() for index in each.members)
    absorbed = absorption(graph, subgraph, profile, merged)
    return tuple(
        _step(op, absorbed.norms.get(op.index), merging.get(op.index), op.index in absorbed.inside, absorbed.followed)
        for op in subgraph.operators
        if op.index not in merged and op.index not in absorbed.within_norms
    )


def _step(op: Operator, norm: Norm | None, merging: Merging | None, inside: bool, followed: frozenset[int]) -> Step:
    reads, writes = op.inputs, op.outputs[0] if op.outputs else -1
    if norm is not None:
        reads = (norm.source, norm.eps)
    elif merging is not None:
        reads, writes = (merging.source, *op.inputs[1:]), merging.result
    return Step(op, reads, writes, op.outputs[1:], inside, op.index in followed, norm, merging)
