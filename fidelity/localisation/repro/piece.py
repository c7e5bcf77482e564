"""The smallest piece of a graph that still shows a fault: cut out, run on right inputs, compared.

Pieces of one operator, of two and of three are tried, then wider windows, then the graph up to the fault, then all of
it. The first that the device takes whole and that fails is it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fidelity.arithmetic.profile import load_profile
from fidelity.localisation.emulations import TRUTH, emulated_piece, parsed
from fidelity.localisation.groups import with_static
from fidelity.localisation.noise import LIMIT, NOISE, error_of
from fidelity.localisation.on_device import Array, Arrays, Ran
from fidelity.localisation.pieces import Case, right_inputs
from fidelity.localisation.records import Kind
from fidelity.localisation.repro.around import SMALL, large_pieces, live_operators, small_pieces, without_an_end
from fidelity.tflite.edit import TAP, borders, cut, needed, prefix
from fidelity.tflite.structure import Graph

Extent = Literal["piece", "prefix", "graph"]

WITHOUT_OVERFLOW = 0.05
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
class Off:
    """How far one output is off: relative L2 against the truth, of the device and of what its arithmetic must give, and
    how much a right one is off at most."""

    error: float
    expected: float
    allowed: float

    @property
    def wrong(self) -> bool:
        """Whether it is off by more than a right one may be."""
        return self.error > self.allowed


@dataclass(frozen=True)
class Piece:
    """A model that fails by itself: its bytes, the operators and tensors of the whole graph in it, and arrays by
    signature name.

    `tensors` are indices in the whole graph by signature name. `expected` is what the device's arithmetic must give.
    `told` says what smaller pieces did.
    """

    model: bytes
    extent: Extent
    operators: tuple[int, ...]
    tensors: Mapping[str, int]
    inputs: Arrays
    truth: Arrays
    expected: Arrays
    actual: Arrays
    off: Mapping[str, Off]
    told: tuple[str, ...]

    @property
    def worst(self) -> str:
        """The output that is furthest beyond what is allowed."""
        return max(self.off, key=lambda name: self.off[name].error - self.off[name].allowed)

    @property
    def error(self) -> float:
        """The worst output's relative L2 against the truth."""
        return self.off[self.worst].error

    @property
    def allowed(self) -> float:
        """What a right one's is at most."""
        return self.off[self.worst].allowed


@dataclass(frozen=True)
class _Candidate:
    extent: Extent
    model: bytes
    operators: tuple[int, ...]
    tensors: Mapping[str, int]
    inputs: Arrays


_Failure = tuple[Arrays, Arrays, Arrays, dict[str, Off]]
"""Truth, expected, actual and how far off: of a candidate that fails."""


def smallest(blame: Blame) -> Piece | None:
    """The smallest piece that fails as the whole does; None where not even the whole graph fails again.

    Raises BadInput for an operation that the emulator lacks, EnvironmentMissing where the device is lost.
    """
    tried: Counter[str] = Counter()
    right: dict[int, Array] = {}
    for candidate in _candidates(blame, right):
        failure = _tried(blame, candidate)
        if not isinstance(failure, str):
            found, arrays = _shrunk(blame, candidate, failure, right, tried)
            told = (f"{count} smaller piece{'s' if count > 1 else ''}: {why}" for why, count in tried.items())
            operators, tensors, inputs = found.operators, found.tensors, found.inputs
            return Piece(found.model, found.extent, operators, tensors, inputs, *arrays, told=tuple(told))
        tried[failure] += 1
    return None


def _shrunk(
    blame: Blame, candidate: _Candidate, found: _Failure, right: dict[int, Array], tried: Counter[str]
) -> tuple[_Candidate, _Failure]:
    """A large piece without what it does not need at its ends: half of it, a quarter, down to one operator."""
    graph = blame.case.graph
    computing = len(set(live_operators(graph)) & set(candidate.operators))
    step = computing // 2 if computing > SMALL and candidate.extent == "piece" else 0
    while step:
        for operators in without_an_end(graph, candidate.operators, blame.operators, step):
            less = _cut(blame, with_static(graph, operators), right)
            again = _tried(blame, less)
            if not isinstance(again, str):
                candidate, found = less, again
                break
            tried[again] += 1
        else:
            step //= 2
    return candidate, found


def _candidates(blame: Blame, right: dict[int, Array]) -> Iterator[_Candidate]:
    """Pieces, the graph up to the last operator that is to blame, the whole graph: cut as each is asked for."""
    case, main = blame.case, blame.case.graph.main
    seen: set[tuple[int, ...]] = set()
    for pieces in (small_pieces(case.graph, blame.operators), large_pieces(case.graph, blame.operators)):
        for operators in (with_static(case.graph, each) for each in pieces):
            if operators not in seen:
                seen.add(operators)
                yield _cut(blame, operators, right)
    signature = case.graph.signature()
    last = main.operators[blame.operators[-1]].outputs[0]
    upto = tuple(sorted(needed(main, [last])))
    if len(upto) < len(main.operators):
        model = prefix(case.graph, last)
        names = {name for name, _ in parsed(model).signature().inputs}
        tensors = {**{name: index for name, index in signature.inputs if name in names}, f"{TAP}{last}": last}
        given = {name: array for name, array in case.inputs.items() if name in names}
        yield _Candidate("prefix", model, upto, tensors, given)
    every = tuple(range(len(main.operators)))
    tensors = {**dict(signature.inputs), **dict(signature.outputs)}
    yield _Candidate("graph", bytes(case.graph.data), every, tensors, dict(case.inputs))


def _cut(blame: Blame, operators: tuple[int, ...], right: dict[int, Array]) -> _Candidate:
    """These operators by themselves; `right` are the values that were computed before, and takes the new ones."""
    graph = blame.case.graph
    inputs, outputs = borders(graph.main, operators)
    right |= _inputs(blame, [index for index in inputs if index not in right])
    tensors = {f"{TAP}{index}": index for index in (*inputs, *outputs)}
    given = {f"{TAP}{index}": right[index] for index in inputs}
    return _Candidate("piece", cut(graph, operators), operators, tensors, given)


def _inputs(blame: Blame, tensors: Sequence[int]) -> dict[int, Array]:
    """Right values: what PyTorch has where the conversion is to blame, else what the arithmetic must give."""
    known: dict[int, Array] = {}
    if blame.kind == "converter":
        dtypes = {index: blame.case.graph.main.tensors[index].dtype for index in tensors}
        known = {index: blame.truth[index].astype(dtypes[index]) for index in tensors if index in blame.truth}
    rest = right_inputs(blame.case, [index for index in tensors if index not in known])
    return known | {int(name.removeprefix(TAP)): array for name, array in rest.items()}


def _tried(blame: Blame, candidate: _Candidate) -> str | _Failure:
    """Truth, expected, actual and how far off, if the device takes it and it fails; else why it is no repro."""
    case, graph = blame.case, parsed(candidate.model)
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in candidate.inputs.values()):
        return "its right inputs are beyond the format already"
    truth = _truth(blame, candidate, graph)
    if truth is None:
        return "PyTorch has no value of some output"
    expected = emulated_piece(graph, candidate.inputs, case.profile)
    ran = case.on_device(candidate.model, candidate.inputs)
    if (why := _no_answer(ran, truth)) is not None:
        return why
    off = {
        name: _off(blame, error_of(ran.outputs[name], right), error_of(expected[name], right))
        for name, right in truth.items()
    }
    if not any(each.wrong for each in off.values()):
        return "right, or wrong by no more than is allowed"
    return truth, expected, {name: ran.outputs[name] for name in truth}, off


def _no_answer(ran: Ran, truth: Arrays) -> str | None:
    """Why a run says nothing of the device's arithmetic."""
    if ran.error is not None:
        return f"the device does not run it: {ran.error}"
    if not ran.resident:
        return "not every node of it runs on the device"
    missing = sorted(set(truth) - set(ran.outputs))
    return f"the device gives no output {missing[0]!r}" if missing else None


def _off(blame: Blame, error: float, expected: float) -> Off:
    """What a right piece's error is at most: what the arithmetic explains; of an overflow, which it does explain, what
    fp16 makes of a few operators without one; of a conversion, half a unit of fp16.

    An overflow that the arithmetic does not give is another failure than the one that was found: it counts for nothing.
    """
    if blame.kind == "overflow":
        return Off(error, expected, WITHOUT_OVERFLOW if expected > WITHOUT_OVERFLOW else float("inf"))
    return Off(error, expected, NOISE if blame.kind == "converter" else max(LIMIT * expected, blame.case.noise))


def _truth(blame: Blame, candidate: _Candidate, graph: Graph) -> Arrays | None:
    """What the outputs should be: the piece itself in float32, or PyTorch's values, None where one is not known."""
    if blame.kind != "converter":
        return emulated_piece(graph, candidate.inputs, load_profile(TRUTH))
    found: Arrays = {}
    for name, _ in graph.signature().outputs:
        index = candidate.tensors[name]
        value = blame.truth.get(index)
        if value is None or value.shape != blame.case.graph.main.tensors[index].shape:
            return None
        found[name] = value
    return found
