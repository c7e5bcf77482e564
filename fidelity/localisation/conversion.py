"""The first operator of an artefact that gives something else than PyTorch does, before any device computes it.

The artefact in float32 is held against every value that PyTorch computes. An operator is right when its value is one of
those, and comes from those of its inputs; one that has no counterpart (the converter splits and merges) is right when
everything that is computed from it is. One right result would prove nothing: the mean of exchanged halves is the mean.
An output must be the model's output of that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fidelity.arithmetic.profile import load_profile
from fidelity.localisation.counterparts import Counterparts
from fidelity.localisation.emulations import TRUTH, emulated
from fidelity.localisation.groups import sources
from fidelity.localisation.noise import NOISE
from fidelity.localisation.on_device import Array, Arrays
from fidelity.localisation.records import Trace, Traced
from fidelity.localisation.reference import Matched, Reference, matched
from fidelity.localisation.taps import tappable
from fidelity.localisation.trace import row_of
from fidelity.prediction.expected import profile_id
from fidelity.tflite.emulation.movement import MOVES
from fidelity.tflite.structure import Graph

_NOTHING = "nothing that PyTorch computes"


def beside_pytorch(graph: Graph, inputs: Arrays, reference: Reference) -> tuple[Matched, dict[int, Array]]:
    """The tensors of a graph with their counterparts in PyTorch, and what the graph gives at each in float32."""
    if reference.tower is None:
        raise ValueError(f"{reference.name} has outputs only")
    found = emulated(graph, tappable(graph), inputs, load_profile(TRUTH))
    outputs = {index: found.outputs[name] for name, index in graph.signature().outputs}
    entered = {index: inputs[name] for name, index in graph.signature().inputs}
    values = {**entered, **found.values, **outputs}
    return matched(graph, values, reference.tower, inputs), values


def misconverted(
    graph: Graph, beside: Matched, values: Mapping[int, Array]
) -> tuple[Traced | None, Trace, tuple[str, ...]]:
    """The culprit, every operator that has a counterpart, and what speaks for it.

    None where every operator's value is PyTorch's to within half a unit of fp16: the fault is smaller than that.
    """
    entered = {index for _, index in graph.signature().inputs}
    computed = [index for index in values if index not in entered]
    comes_from = {index: sources(graph, index, values)[0] for index in computed}
    right = entered | {index for index in computed if _is_right(graph, index, comes_from[index], beside.counterparts)}
    excused = _excused(graph, right, computed)
    rows = {index: _row(graph, index, values[index], beside.counterparts) for index in computed}
    trace = Trace(
        profile=profile_id(load_profile(TRUTH)),
        stands_in=False,
        operators=tuple(
            row for index, row in rows.items() if index in beside.counterparts.values or index not in excused
        ),
        changed=False,
        refused={},
        runs=0,
    )
    for index in computed:
        if index not in right and index not in excused and comes_from[index] <= right | excused:
            row = rows[index]
            return row, trace, (_told(row, beside.counterparts), *_strange(graph, beside, row.members))
    every = tuple(range(len(graph.main.operators)))
    return None, trace, ("every operator's value is one that PyTorch computes", *_strange(graph, beside, every))


def _is_right(graph: Graph, tensor: int, comes_from: set[int], known: Counterparts) -> bool:
    """Whether a node with the tensor's value comes from nodes with the values of what the tensor comes from.

    Of an operator that computes and does not only move, the value must not be one of its inputs' own, unless a
    later node has it too: x * 1 is a node of its own. An output's must be the model's output of that name.
    """
    names = {name for name, index in graph.signature().outputs if index == tensor}
    moves = graph.main.producers[tensor].name in MOVES
    inputs = [known.of(each) for each in comes_from if known.of(each)]
    for node in known.of(tensor):
        origins = [{other.node for other in each if node.ancestors >> other.node & 1} for each in inputs]
        if names <= set(node.outputs) and all(origins) and (moves or all(each - {node.node} for each in origins)):
            return True
    return False


def _excused(graph: Graph, right: set[int], computed: Sequence[int]) -> set[int]:
    """Tensors all of whose readers give right results, or results that are excused themselves; no output is."""
    fine, outputs = set(right), {index for _, index in graph.signature().outputs}
    for index in (each for each in reversed(computed) if each not in outputs):
        results = {out for reader in graph.main.consumers[index] for out in reader.outputs}
        if results and results <= fine:
            fine.add(index)
    return fine - right


def _row(graph: Graph, index: int, actual: Array, known: Counterparts) -> Traced:
    right = known.values.get(index)
    row = row_of(graph, index, (actual, actual, actual), right, (graph.main.producers[index].index,), {})
    if right is None:
        nearest = known.nearest.get(index, np.inf)
        return row.model_copy(update={"error_actual": nearest, "error_expected": 0.0, "correlation": float("nan")})
    return row.model_copy(update={"error_actual": min(each.error for each in known.of(index))})


def _told(row: Traced, known: Counterparts) -> str:
    if row.tensor in known.values:
        which = known.of(row.tensor)[0].name
        return f"{row.place}: its inputs are PyTorch's, and its result is another of PyTorch's values, {which!r}"
    near = f", whose nearest value is {row.error_actual:.3g} away" if np.isfinite(row.error_actual) else ""
    return f"{row.place}: its inputs are PyTorch's, and its result is {_NOTHING}{near} (allowed {NOISE:.3g})"


def _strange(graph: Graph, beside: Matched, operators: tuple[int, ...]) -> list[str]:
    """Constants that these operators read, themselves or through a DEQUANTIZE, and that are no weight of the model."""
    told = []
    for index in beside.strangers:
        readers = _readers(graph, index)
        if readers & set(operators) and np.any(graph.constant(graph.main.tensors[index])):
            tensor = graph.main.tensors[index]
            told.append(
                f"op {min(readers)} {graph.main.operators[min(readers)].name}: its constant {tensor.name[-60:]!r} "
                f"{list(tensor.shape)} has not the bits of any weight, nor of what PyTorch computes from weights"
            )
    return told


def _readers(graph: Graph, constant: int) -> set[int]:
    found = set()
    for reader in graph.main.consumers[constant]:
        if reader.name == "DEQUANTIZE":
            found |= {each.index for each in graph.main.consumers[reader.outputs[0]]}
        found.add(reader.index)
    return found
