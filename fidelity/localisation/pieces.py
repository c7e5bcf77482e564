"""Operators of a graph by themselves, on right inputs, and the graph up to one tensor: on the device and emulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.localisation.culprit import culprit, felt, first_wrong
from fidelity.localisation.emulations import TRUTH, emulated_piece, emulated_tensor, parsed
from fidelity.localisation.groups import with_static
from fidelity.localisation.noise import NOISE_SINGLE, error_of, worse
from fidelity.localisation.on_device import Array, Arrays, Ran, RunModel
from fidelity.localisation.records import Kind, Trace, Traced
from fidelity.localisation.taps import tappable
from fidelity.tflite.edit import TAP, borders, cut, prefix
from fidelity.tflite.structure import Graph

MOST_LIES = 8


@dataclass
class Case:
    """One artefact and input on one device, and its arithmetic: `profile` is the device's, or stands for it.

    `others` run at other precisions on the same device. `known` are right values of tensors, as the arithmetic gives
    them: what the trace has emulated.
    """

    graph: Graph
    inputs: Arrays
    run: RunModel
    profile: Profile
    noise: float
    others: Mapping[str, RunModel] = field(default_factory=dict)
    known: Mapping[int, Array] = field(default_factory=dict)
    runs: int = 0

    def on_device(self, model: bytes, inputs: Arrays) -> Ran:
        """Run there, and count it."""
        self.runs += 1
        return self.run(model, inputs)


def confirmed(case: Case, found: Trace) -> tuple[Traced | None, tuple[str, ...]]:
    """The trace's culprit, and what taps said that is not so.

    Where no reader of a wrong tensor is wrong, the tap itself may lie: then the graph up to it, with nothing
    else to see, decides. At most MOST_LIES are looked at: a device that lies oftener is asked by prefixes alone.
    """
    lying: dict[int, str] = {}
    while len(lying) < MOST_LIES:
        row = culprit(found, case.graph, case.noise, frozenset(lying))
        if row is None or felt(found, case.graph, row, case.noise) or _wrong_by_itself(case, row.tensor):
            return row, tuple(lying.values())
        lying[row.tensor] = f"{row.place}: wrong as a further output, right as the only one: the tap lies"
    return None, tuple(lying.values())


def explained(case: Case, row: Traced, actual: Mapping[int, Array]) -> bool:
    """Whether the device's own inputs explain its result: then many small errors before it do, and not this operator.

    `actual` are the tensors that the device showed. Twice the noise is no error here: what was shown is rounded on its
    way in, and the result once more. Not known, so not explained, where one of the inputs was not shown.
    """
    piece = with_static(case.graph, row.members)
    inputs, _ = borders(case.graph.main, piece)
    entered = {index: case.inputs[name] for name, index in case.graph.signature().inputs}
    shown = {**entered, **actual}
    if any(index not in shown or not np.isfinite(shown[index]).all() for index in inputs):
        return False
    graph = parsed(cut(case.graph, piece))
    name = f"{TAP}{row.tensor}"
    given = {f"{TAP}{index}": shown[index] for index in inputs}
    found = emulated_piece(graph, given, case.profile)
    return name in found and error_of(actual[row.tensor], found[name]) <= 2 * case.noise


def by_prefixes(case: Case, found: Trace) -> Traced | None:
    """Where taps tell nothing: the graph up to one tensor, with nothing else to see, halved again and again."""
    rows = {row.tensor: row for row in found.operators}
    tensors = tuple(index for index in tappable(case.graph, case.profile) if index in rows)
    tensor, _ = first_wrong(tensors, lambda each: _wrong_by_itself(case, each))
    return None if tensor is None else rows.get(tensor)


def _wrong_by_itself(case: Case, tensor: int) -> bool:
    """Whether the graph up to this tensor, shown alone, is worse than its arithmetic gives."""
    model, name = prefix(case.graph, tensor), f"{TAP}{tensor}"
    graph = parsed(model)
    names = {key for key, _ in graph.signature().inputs}
    ran = case.on_device(model, {key: value for key, value in case.inputs.items() if key in names})
    if ran.error is not None or name not in ran.outputs:
        return True
    truth, expected = (emulated_piece(graph, case.inputs, each)[name] for each in (load_profile(TRUTH), case.profile))
    return worse(error_of(ran.outputs[name], truth), error_of(expected, truth), case.noise)


@dataclass(frozen=True)
class Alone:
    """Operators by themselves, on right inputs: the worst of their results, and the same in other precisions."""

    operators: tuple[int, ...]
    wrong: bool
    told: str


def alone(case: Case, row: Traced) -> tuple[Kind, tuple[int, ...], list[str]]:
    """What the device makes of the culprit's operators alone: the kind, those that are to blame, the evidence.

    Where the device computes several together, the first wrong one of them is searched for: in the piece if that is
    wrong, else in the graph up to each of them.
    """
    members = row.members
    whole = by_themselves(case, members)
    if len(members) == 1:
        if whole.wrong:
            return "kernel", members, [whole.told, *in_other_precisions(case, members)]
        return "layout-or-fusion", members, [whole.told]
    if whole.wrong:
        first, _ = first_wrong(members, lambda op: by_themselves(case, members[: members.index(op) + 1]).wrong)
        blamed = members if first is None else (first,)
        own = by_themselves(case, blamed)
        told = [whole.told, *([own.told] if blamed != members else []), *in_other_precisions(case, blamed)]
        return ("kernel" if own.wrong else "layout-or-fusion"), blamed, told
    written = {op: case.graph.main.operators[op].outputs[0] for op in members}
    first, _ = first_wrong(members, lambda op: _wrong_by_itself(case, written[op]))
    if first is None:
        return "layout-or-fusion", members, [whole.told, "no operator of it is the first wrong one in the graph either"]
    name = case.graph.main.operators[first].name
    return "layout-or-fusion", (first,), [whole.told, f"the graph up to op {first} {name} is wrong, and right before"]


def by_themselves(case: Case, operators: Sequence[int]) -> Alone:
    """Cut out and run, against what the arithmetic must give on the same inputs."""
    piece = with_static(case.graph, operators)
    inputs, outputs = borders(case.graph.main, piece)
    model, right = cut(case.graph, piece), right_inputs(case, inputs)
    graph = parsed(model)
    names = [f"op {each} {case.graph.main.operators[each].name}" for each in operators]
    who = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    ran = case.on_device(model, right)
    if ran.error is not None or not ran.resident:
        return Alone(
            tuple(operators), False, f"{who} alone: the device does not take it: {ran.error or 'not resident'}"
        )
    truth, expected = (emulated_piece(graph, right, each) for each in (load_profile(TRUTH), case.profile))
    errors = [
        (error_of(ran.outputs[f"{TAP}{o}"], truth[f"{TAP}{o}"]), error_of(expected[f"{TAP}{o}"], truth[f"{TAP}{o}"]))
        for o in outputs
    ]
    actual, must = max(errors)
    said = f"{who} alone, on right inputs: error {actual:.3g}, its arithmetic must give {must:.3g}"
    return Alone(tuple(operators), any(worse(*each, case.noise) for each in errors), said)


def in_other_precisions(case: Case, operators: Sequence[int]) -> list[str]:
    """The same piece on the same device in other precisions: whether it is a matter of precision at all."""
    piece = with_static(case.graph, operators)
    inputs, _ = borders(case.graph.main, piece)
    model, right = cut(case.graph, piece), right_inputs(case, inputs)
    truth = emulated_piece(parsed(model), right, load_profile(TRUTH))
    told = []
    for precision, run in case.others.items():
        case.runs += 1
        ran = run(model, right)
        if ran.error is not None:
            told.append(f"alone with {precision}: {ran.error}")
            continue
        error = max(error_of(ran.outputs[name], each) for name, each in truth.items())
        told.append(f"alone with {precision}: error {error:.3g}, {'wrong' if error > NOISE_SINGLE else 'right'}")
    return told


def right_inputs(case: Case, tensors: Sequence[int]) -> Arrays:
    """What the arithmetic makes of each tensor: the graph's own inputs, what is known, or a prefix emulated."""
    entered = {index: case.inputs[name] for name, index in case.graph.signature().inputs}
    return {
        f"{TAP}{index}": entered[index]
        if index in entered
        else case.known[index]
        if index in case.known
        else emulated_tensor(case.graph, index, case.inputs, case.profile)
        for index in tensors
    }
