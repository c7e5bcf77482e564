"""From a wrong output to the first wrong operator, whose fault it is, and what cures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.compare.expectation import same_bits
from fidelity.locate.culprit import NOISE, worse
from fidelity.locate.pieces import Case, alone, by_prefixes, confirmed
from fidelity.locate.taps import Array, Arrays, Ran, RunModel, error_of
from fidelity.locate.trace import TRUTH, Trace, Traced, trace, whole_outputs
from fidelity.locate.verdict import CURES, Errors, Kind, Located
from fidelity.predict.site import Site, first_overflow
from fidelity.predict.watch import SiteWatch
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.structure import Graph

GOOD = 0.01414
"""Relative L2 of an embedding that fp16 on a GPU has to keep: policies/default.toml."""

CPU_GOOD = 0.004472
"""The same of fp16 weights on a CPU."""


def locate(
    graph: Graph,
    inputs: Arrays,
    run: RunModel,
    cpu: RunModel,
    truth: Mapping[str, Array] | None = None,
    profile_of: Callable[[Ran], Profile | None] = lambda _: None,
) -> Located:
    """Why the device's outputs are what they are, on one set of inputs.

    `truth`: outputs by name, of the model as its author wrote it; None: the graph itself in float32, so that
    nothing is said of the conversion. `profile_of` gives the arithmetic of the device that made a run, where it
    is known. Raises BadInput for an operation that the emulator lacks.
    """
    whole = bytes(graph.data)
    actual, host = run(whole, inputs), cpu(whole, inputs)
    profile = profile_of(actual)
    case = Case(graph, inputs, run, profile, runs=1)
    right = dict(truth) if truth is not None else whole_outputs(Emulator(graph, load_profile(TRUTH)).run(inputs), graph)
    expected, overflow = _expected(case)
    errors = Errors(
        actual=_worst(actual.outputs, right), expected=_worst(expected, right), cpu=_worst(host.outputs, right)
    )

    def answer(kind: Kind, *evidence: str, row: Traced | None = None, found: Trace | None = None) -> Located:
        runs = case.runs + (found.runs if found else 0)
        return Located(
            kind=kind, culprit=row, evidence=evidence, cure=CURES[kind], errors=errors, trace=found, device_runs=runs
        )

    told = _without_tracing(actual, host, errors)
    told = told or _as_expected(actual.outputs, expected, errors, overflow, case.used.name)
    if told is not None:
        return answer(*told)
    found = trace(graph, inputs, run, actual.outputs, profile)
    row, lying = confirmed(case, found)
    if row is None and (found.changed or lying):
        row = by_prefixes(case, found)
    if row is None:
        return answer("unlocated", *_why_not(found, errors), *lying, found=found)
    kind, evidence = alone(case, row)
    return answer(kind, _told(row), evidence, *lying, row=row, found=found)


def _without_tracing(actual: Ran, host: Ran, errors: Errors) -> tuple[Kind, str] | None:
    """What the outputs alone say: not on the device at all, or wrong on the CPU too."""
    if actual.error is not None:
        return "fallback", f"the device does not run it at all: {actual.error}"
    if not actual.resident:
        return "fallback", "not every node runs on the device"
    if host.error is not None or errors.cpu > CPU_GOOD:
        return "converter", host.error or f"the CPU's own error is {errors.cpu:.3g}, allowed {CPU_GOOD:g}"
    if errors.expected > NOISE and _same(actual.outputs, host.outputs):
        return "fallback", "the outputs are the CPU's own, bit for bit: the device did not compute them"
    return None


def _expected(case: Case) -> tuple[Arrays, Site | None]:
    """What the arithmetic makes of the graph, and where it overflows first."""
    emulator = Emulator(case.graph, case.used)
    watch = SiteWatch(case.graph.main, case.used, emulator.steps)
    entered = {index: case.inputs[name] for name, index in emulator.signature.inputs}
    outputs = whole_outputs(emulator.run(case.inputs, watch.during("located", entered)), case.graph)
    return outputs, first_overflow(watch.sites())


def _as_expected(
    actual: Arrays, expected: Arrays, errors: Errors, overflow: Site | None, profile: str
) -> tuple[Kind, str] | None:
    """Whether the device gives what it must, and if that is not good enough, why; None when it gives worse."""
    if worse(errors.actual, errors.expected) and not _same(actual, expected):
        return None
    said = f"its error is {errors.actual:.3g}, and {profile} must give {errors.expected:.3g}"
    if errors.actual <= GOOD:
        return ("right" if errors.actual <= NOISE else "expected"), said
    if overflow is not None:
        return "overflow", f"{said}: first overflow at {overflow.told()}"
    return "compounding", f"{said}, without any overflow"


def _told(row: Traced) -> str:
    return (
        f"{row.place}: error {row.error_actual:.3g} on right inputs, it must be {row.error_expected:.3g}; "
        f"{100 * row.identical_share:.3g} % of its bits are as expected"
    )


def _why_not(found: Trace, errors: Errors) -> list[str]:
    """What is known where no operator could be told."""
    lines = [f"the device's error is {errors.actual:.3g}, its arithmetic must give {errors.expected:.3g}"]
    if found.changed:
        lines.append("looking at it changes it: with taps the final output is another, and prefixes tell no first one")
    if found.refused:
        lines.append(f"{len(found.refused)} operators could not be looked at, the first is op {min(found.refused)}")
    if not found.changed and not found.refused:
        lines.append("no operator alone is wrong by more than its arithmetic explains: below the noise floor of each")
    return lines


def _worst(outputs: Mapping[str, Array], right: Mapping[str, Array]) -> float:
    """The worst error of any output; infinite for one that is missing."""
    return max((error_of(outputs[n], each) if n in outputs else float("inf") for n, each in right.items()), default=0.0)


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return set(one) == set(other) and all(same_bits(one[name], other[name]) for name in one)
