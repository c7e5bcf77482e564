"""One operator of a graph by itself, on right inputs, and the graph up to one tensor: on the device and emulated."""

from __future__ import annotations

from dataclasses import dataclass

from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.locate.culprit import culprit, felt, first_wrong, worse
from fidelity.locate.taps import Arrays, Ran, RunModel, error_of, parsed, tappable
from fidelity.locate.trace import STAND_IN, TRUTH, Trace, Traced
from fidelity.locate.verdict import Kind
from fidelity.tflite.edit import TAP, borders, cut, prefix
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.structure import Graph

MOST_LIES = 8


@dataclass
class Case:
    """One artefact and input on one device, and what its arithmetic makes of them."""

    graph: Graph
    inputs: Arrays
    run: RunModel
    profile: Profile | None
    runs: int = 0

    def on_device(self, model: bytes, inputs: Arrays) -> Ran:
        """Run there, and count it."""
        self.runs += 1
        return self.run(model, inputs)

    @property
    def used(self) -> Profile:
        """The device's profile, or the one that stands for it."""
        return self.profile or load_profile(STAND_IN)


def confirmed(case: Case, found: Trace) -> tuple[Traced | None, tuple[str, ...]]:
    """The trace's culprit, and what taps said that is not so.

    Where no reader of a wrong tensor is wrong, the tap itself may lie: then the graph up to it, with nothing
    else to see, decides. At most MOST_LIES are looked at: a device that lies oftener is asked by prefixes alone.
    """
    lying: dict[int, str] = {}
    while len(lying) < MOST_LIES:
        row = culprit(found, case.graph, frozenset(lying))
        if row is None or felt(found, case.graph, row) or _wrong_by_itself(case, row.tensor):
            return row, tuple(lying.values())
        lying[row.tensor] = f"{row.place}: wrong as a further output, right as the only one: the tap lies"
    return None, tuple(lying.values())


def by_prefixes(case: Case, found: Trace) -> Traced | None:
    """Where taps tell nothing: the graph up to one tensor, with nothing else to see, halved again and again."""
    rows = {row.tensor: row for row in found.operators}
    tensors = tuple(index for index in tappable(case.graph, case.used) if index in rows)
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
    truth, expected = (_emulate(graph, case.inputs, each)[name] for each in (load_profile(TRUTH), case.used))
    return worse(error_of(ran.outputs[name], truth), error_of(expected, truth))


def alone(case: Case, row: Traced) -> tuple[Kind, str]:
    """The operator by itself, on inputs that are right."""
    model = cut(case.graph, [row.operator])
    needed, outputs = borders(case.graph.main, [row.operator])
    right = _right_inputs(case, needed)
    graph = parsed(model)
    truth, expected = (_emulate(graph, right, each) for each in (load_profile(TRUTH), case.used))
    ran = case.on_device(model, right)
    if ran.error is not None or not ran.resident:
        return "layout-or-fusion", f"alone the device does not take it: {ran.error or 'not resident'}"
    worst = max(
        (error_of(ran.outputs[f"{TAP}{o}"], truth[f"{TAP}{o}"]), error_of(expected[f"{TAP}{o}"], truth[f"{TAP}{o}"]))
        for o in outputs
    )
    said = f"alone, on right inputs, its error is {worst[0]:.3g}; its arithmetic must give {worst[1]:.3g}"
    return ("kernel" if worse(*worst) else "layout-or-fusion"), said


def _right_inputs(case: Case, tensors: tuple[int, ...]) -> Arrays:
    """What the arithmetic makes of each tensor: the graph's own inputs, or a prefix of the graph emulated."""
    entered = {index: case.inputs[name] for name, index in case.graph.signature().inputs}
    found: Arrays = {}
    for index in tensors:
        name = f"{TAP}{index}"
        if index in entered:
            found[name] = entered[index]
        else:
            found[name] = _emulate(parsed(prefix(case.graph, index)), case.inputs, case.used)[name]
    return found


def _emulate(graph: Graph, inputs: Arrays, profile: Profile) -> Arrays:
    emulator = Emulator(graph, profile)
    return emulator.run({name: inputs[name] for name, _ in emulator.signature.inputs}).outputs
