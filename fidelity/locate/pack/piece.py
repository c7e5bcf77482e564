"""The smallest piece of a graph that still shows a fault: cut out, run on right inputs, compared.

Pieces of one operator, of two and of three are tried, then wider windows, then the graph up to the fault. The first
that the device takes whole and that fails is it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fidelity.arithmetic.profile import load_profile
from fidelity.locate.emulations import TRUTH, emulated_piece, parsed
from fidelity.locate.groups import with_static
from fidelity.locate.noise import LIMIT, NOISE, error_of
from fidelity.locate.on_device import Array, Arrays
from fidelity.locate.pieces import Case, right_inputs
from fidelity.locate.records import Kind
from fidelity.tflite.edit import TAP, borders, cut, prefix
from fidelity.tflite.structure import Graph

_SMALL = 3
_WINDOWS = (5, 9, 17, 33)
_WITHOUT_OVERFLOW = 0.05
"""A hundred times half a unit of fp16: more than any of the 913 tensors of PE-Core B/16 is off without an overflow."""


@dataclass(frozen=True)
class Blame:
    """What a pack is made of: the case on its device, the operators that are to blame, the kind of failure, and right
    values of tensors: PyTorch's where the conversion is to blame."""

    case: Case
    operators: tuple[int, ...]
    kind: Kind
    truth: Mapping[int, Array]


@dataclass(frozen=True)
class Piece:
    """A model that fails by itself: its bytes, the operators of the whole graph in it, and arrays by signature name.

    `error` and `allowed` are of the worst output, relative L2 against `truth`; `expected` is what the device's
    arithmetic must give.
    """

    model: bytes
    operators: tuple[int, ...]
    inputs: Arrays
    truth: Arrays
    expected: Arrays
    actual: Arrays
    error: float
    allowed: float


def smallest(blame: Blame) -> Piece | None:
    """The smallest piece that fails as the whole does; None where no piece and no prefix does."""
    case = blame.case
    for operators in _candidates(case.graph, blame.operators):
        piece = with_static(case.graph, operators)
        inputs, _ = borders(case.graph.main, piece)
        found = _tried(blame, cut(case.graph, piece), piece, _inputs(blame, inputs))
        if found is not None:
            return found
    tensor = case.graph.main.operators[blame.operators[-1]].outputs[0]
    if tensor in {index for _, index in case.graph.signature().outputs}:
        return None
    model = prefix(case.graph, tensor)
    names = {name for name, _ in parsed(model).signature().inputs}
    given = {name: array for name, array in case.inputs.items() if name in names}
    return _tried(blame, model, tuple(range(blame.operators[-1] + 1)), given)


def _candidates(graph: Graph, blamed: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Sets of operators around those that are blamed, smaller ones first; each once."""
    seen: set[tuple[int, ...]] = set()
    start = (blamed[-1],)
    rings = [start, *([blamed] if len(blamed) > 1 else [])]
    for size in range(1, _SMALL + 1):
        level = [each for each in rings if len(each) == size]
        for each in level:
            if each not in seen:
                seen.add(each)
                yield each
            rings += [tuple(sorted({*each, other})) for other in _neighbours(graph, each)]
    for width in _WINDOWS:
        half = width // 2
        low, high = max(0, blamed[0] - half), min(len(graph.main.operators), blamed[-1] + half + 1)
        yield tuple(range(low, high))


def _neighbours(graph: Graph, operators: Sequence[int]) -> list[int]:
    """Operators that read what these write, then those that write what these read."""
    inside = set(operators)
    after = [
        reader.index
        for op in operators
        for index in graph.main.operators[op].outputs
        for reader in graph.main.consumers[index]
    ]
    before = [
        graph.main.producers[index].index
        for op in operators
        for index in graph.main.operators[op].inputs
        if index in graph.main.producers
    ]
    return [each for each in dict.fromkeys([*after, *before]) if each not in inside]


def _inputs(blame: Blame, tensors: tuple[int, ...]) -> Arrays:
    """Right inputs: what PyTorch has where the conversion is to blame, else what the arithmetic must give."""
    if blame.kind != "converter":
        return right_inputs(blame.case, tensors)
    known = {t: np.asarray(blame.truth[t], np.float32) for t in tensors if t in blame.truth}
    rest = right_inputs(blame.case, [t for t in tensors if t not in known])
    return {f"{TAP}{t}": known[t] if t in known else rest[f"{TAP}{t}"] for t in tensors}


def _tried(blame: Blame, model: bytes, operators: tuple[int, ...], inputs: Arrays) -> Piece | None:
    """The piece, if the device takes it and it fails."""
    case = blame.case
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in inputs.values()):
        return None
    graph = parsed(model)
    truth, expected = (emulated_piece(graph, inputs, each) for each in (load_profile(TRUTH), case.profile))
    if blame.kind == "converter":
        of_model = _by_name(graph, blame)
        if of_model is None:
            return None
        truth = of_model
    ran = case.on_device(model, inputs)
    if ran.error is not None or not ran.resident:
        return None
    found: tuple[float, float, float] | None = None
    for name, right in truth.items():
        error = error_of(ran.outputs[name], right)
        allowed = _allowed(blame, error_of(expected[name], right))
        found = max(found or (-np.inf, 0, 0), (error - allowed, error, allowed))
    if found is None or not found[0] > 0:
        return None
    return Piece(model, operators, inputs, truth, expected, ran.outputs, found[1], found[2])


def _allowed(blame: Blame, expected: float) -> float:
    """What a right piece's error is at most: what the arithmetic explains; of an overflow, which it does explain, what
    fp16 makes of a few operators without one; of a conversion, half a unit of fp16."""
    if blame.kind == "overflow":
        return _WITHOUT_OVERFLOW
    return NOISE if blame.kind == "converter" else max(LIMIT * expected, blame.case.noise)


def _by_name(graph: Graph, blame: Blame) -> Arrays | None:
    """PyTorch's values of a piece's outputs; None where one of them is not known."""
    found: Arrays = {}
    for name, _ in graph.signature().outputs:
        index = int(name.removeprefix(TAP))
        if index not in blame.truth:
            return None
        found[name] = np.asarray(blame.truth[index], np.float32)
    return found
