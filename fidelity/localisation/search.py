"""One search for the first wrong operator, step by step; each step either answers or leaves it to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fidelity.arithmetic.profile import load_profile
from fidelity.comparison.expectation import same_bits
from fidelity.localisation.asked import Answer, Good, Where
from fidelity.localisation.conversion import beside_pytorch, misconverted
from fidelity.localisation.cures import CURES
from fidelity.localisation.emulations import STAND_IN, STAND_IN_SINGLE, TRUTH, emulated
from fidelity.localisation.noise import NOISE, NOISE_SINGLE, error_of, worse
from fidelity.localisation.on_device import Array, Arrays, Ran
from fidelity.localisation.overflowing import overflow_of
from fidelity.localisation.pieces import Case, alone, by_prefixes, confirmed, explained, in_other_precisions
from fidelity.localisation.records import Errors, Kind, Located, Overflow, Trace, Traced
from fidelity.localisation.reference import Reference
from fidelity.localisation.taps import tappable
from fidelity.localisation.trace import Seen, trace
from fidelity.localisation.wanted import wanted_values
from fidelity.tflite.structure import Graph


class Search:
    """`locate` in steps. What the device gives, and what it must give, is known from the start."""

    def __init__(
        self, graph: Graph, inputs: Arrays, where: Where, good: Good, reference: Reference | None, name: str
    ) -> None:
        self.graph, self.inputs, self.where, self.good, self.reference = graph, inputs, where, good, reference
        self.name = name
        whole = bytes(graph.data)
        self.actual, self.host = where.run(whole, inputs), where.cpu(whole, inputs)
        found = where.profile_of(self.actual)
        self.stands_in = found is None and _had(self.actual) != "fp32"
        profile = found or load_profile(STAND_IN if self.stands_in else STAND_IN_SINGLE)
        noise = NOISE if profile.stores_float16 else NOISE_SINGLE
        self.case = Case(graph, inputs, where.run, profile, noise, where.others, runs=1)
        # what float32 gives is the truth of a trace too: nothing is taken together there, so that taps change nothing
        self.float32 = emulated(graph, tappable(graph, profile), inputs, load_profile(TRUTH), name)
        self.expected = self.float32 if profile == load_profile(TRUTH) else emulated(graph, (), inputs, profile, name)
        self.right = dict(reference.outputs) if reference else self.float32.outputs
        self.errors = Errors(
            actual=_worst(self.actual.outputs, self.right),
            expected=_worst(self.expected.outputs, self.right),
            cpu=_worst(self.host.outputs, self.right),
        )

    def answer(self) -> Answer:
        """The first step that has one."""
        if (kind := self._not_on_the_device()) is not None:
            return self._answer("fallback", kind)
        if _worst(self.float32.outputs, self.right) > self.good.cpu:
            return self._converter()
        told = self._cpu_too()
        if not self._off():
            return self._as_expected(told)
        seen = self._traced()
        row, lying = confirmed(self.case, seen.trace)
        if row is None and (seen.trace.changed or lying):
            row = by_prefixes(self.case, seen.trace)
        if row is not None and not seen.trace.changed and explained(self.case, row, seen.actual):
            told = [*told, f"{row.place} is the first that is off, and its own inputs explain it: many small errors"]
            row = None
        if row is None:
            return self._answer("unlocated", *self._why_not(seen.trace), *lying, *told, found=seen.trace)
        self.case = replace(self.case, known=seen.expected)
        kind, operators, evidence = alone(self.case, row)
        row = _narrowed(self.graph, row, operators)
        return self._answer(
            kind, _told(row), *evidence, *lying, *told, row=row, found=seen.trace, operators=operators, truth=seen.truth
        )

    def with_trace(self, located: Located) -> Located:
        """An answer that needed no trace, with one."""
        seen = self._traced()
        return located.model_copy(update={"trace": seen.trace, "device_runs": located.device_runs + seen.trace.runs})

    def _answer(
        self,
        kind: Kind,
        *evidence: str,
        row: Traced | None = None,
        overflow: Overflow | None = None,
        found: Trace | None = None,
        operators: tuple[int, ...] = (),
        truth: Mapping[int, Array] | None = None,
    ) -> Answer:
        located = Located(
            input=self.name,
            device=self.where.device,
            kind=kind,
            culprit=row,
            overflow=overflow,
            evidence=evidence,
            cure=CURES[kind],
            errors=self.errors,
            trace=found,
            device_runs=self.case.runs + (found.runs if found else 0),
        )
        return Answer(located, self.case if operators else None, operators, truth or {})

    def _not_on_the_device(self) -> str | None:
        """Why the outputs are none of the device's."""
        if self.actual.error is not None:
            return f"the device does not run it at all: {self.actual.error}"
        if not self.actual.resident:
            return "not every node runs on the device"
        on_gpu = self.case.profile.stores_float16
        if on_gpu and self.errors.expected > NOISE and _same(self.actual.outputs, self.host.outputs):
            return "the outputs are the CPU's own, bit for bit: the device did not compute them"
        return None

    def _converter(self) -> Answer:
        """The artefact is wrong, whatever computes it: where, if the reference knows more than outputs."""
        error = _worst(self.float32.outputs, self.right)
        reference = self.reference
        said = f"the artefact in float32 is {error:.3g} from its reference, allowed {self.good.cpu:g}"
        if reference is None or reference.tower is None:
            return self._answer("converter", said, "the reference has outputs only: timm:NAME tells the operator")
        beside, values = beside_pytorch(self.graph, self.inputs, reference)
        row, found, evidence = misconverted(self.graph, beside, values)
        operators = row.members if row else ()
        truth: dict[int, Array] = {**values, **beside.counterparts.values}
        if row is not None:
            truth |= wanted_values(self.graph, row.tensor, beside.counterparts, reference, self.inputs)
        self.case = replace(self.case, run=self.where.cpu, profile=load_profile(TRUTH), noise=NOISE)
        return self._answer("converter", said, *evidence, row=row, found=found, operators=operators, truth=truth)

    def _cpu_too(self) -> list[str]:
        """Evidence about LiteRT on the CPU: it is right where the artefact is, or has a fault of its own."""
        error = _worst(self.host.outputs, self.float32.outputs)
        if self.host.error is not None:
            return [f"the CPU does not run it: {self.host.error}"]
        if worse(error, 0.0, NOISE):
            return [f"LiteRT on the CPU is {error:.3g} from the artefact in float32: its kernels are wrong too"]
        return []

    def _off(self) -> bool:
        """Whether the device gives worse than its arithmetic must."""
        if _same(self.actual.outputs, self.expected.outputs):
            return False
        right = self.float32.outputs
        return worse(_worst(self.actual.outputs, right), _worst(self.expected.outputs, right), self.case.noise)

    def _as_expected(self, told: list[str]) -> Answer:
        """The device gives what it must; if that is not good enough, why."""
        e = self.errors
        said = f"its error is {e.actual:.3g}, and {self.case.profile.name} must give {e.expected:.3g}"
        if e.actual <= self.good.device:
            return self._answer("right" if e.actual <= NOISE else "expected", said, *told)
        found = self._traced()
        self.case = replace(self.case, known=found.expected)
        overflow = overflow_of(self.expected, self.float32)
        if overflow is None:
            also = self._in_other_precisions()
            return self._answer("compounding", f"{said}, without any overflow", *also, *told, found=found.trace)
        row = next((r for r in found.trace.operators if overflow.site.operator in r.members), None)
        operators = () if overflow.site.operator is None else (overflow.site.operator,)
        return self._answer(
            "overflow",
            f"{said}: first overflow at {overflow.site.told()}",
            f"it needs {overflow.needed:.4g}, the format ends at {overflow.site.largest_finite:g}: "
            f"headroom {overflow.headroom:.2f} bits",
            *(in_other_precisions(self.case, operators) if operators else ()),
            *told,
            row=row,
            overflow=overflow,
            found=found.trace,
            operators=operators,
            truth=found.truth,
        )

    def _in_other_precisions(self) -> list[str]:
        """The whole graph on the same device in other precisions: whether precision cures it."""
        told = []
        for precision, run in self.where.others.items():
            self.case.runs += 1
            ran = run(bytes(self.graph.data), self.inputs)
            error = _worst(ran.outputs, self.right)
            told.append(f"with {precision} on the same device: " + (ran.error or f"error {error:.3g}"))
        return told

    def _traced(self) -> Seen:
        pytorch: Mapping[int, Array] = {}
        if self.reference is not None and self.reference.tower is not None:
            pytorch = beside_pytorch(self.graph, self.inputs, self.reference)[0].counterparts.values
        return trace(
            self.graph,
            self.inputs,
            self.where.run,
            self.actual.outputs,
            self.case.profile,
            self.float32,
            pytorch,
            stands_in=self.stands_in,
        )

    def _why_not(self, found: Trace) -> list[str]:
        """What is known where no operator could be told."""
        e = self.errors
        lines = [f"the device's error is {e.actual:.3g}, its arithmetic must give {e.expected:.3g}"]
        if found.changed:
            lines.append(
                "looking at it changes it: with taps the final output is another, and prefixes tell no first one"
            )
        if found.refused:
            lines.append(f"{len(found.refused)} operators could not be looked at, the first is op {min(found.refused)}")
        if not found.changed and not found.refused:
            lines.append(
                "no operator alone is wrong by more than its arithmetic explains: below the noise floor of each "
                f"({self.case.noise:.3g})"
            )
        return lines


def _narrowed(graph: Graph, row: Traced, operators: tuple[int, ...]) -> Traced:
    """The culprit's row, told of the one operator that is to blame where several are computed together."""
    if len(operators) != 1 or operators[0] == row.operator:
        return row
    return row.model_copy(update={"operator": operators[0], "name": graph.main.operators[operators[0]].name})


def _told(row: Traced) -> str:
    together = f", computed together with {len(row.members) - 1} more," if len(row.members) > 1 else ""
    return (
        f"{row.place}{together}: error {row.error_actual:.3g} on right inputs, it must be {row.error_expected:.3g}; "
        f"{100 * row.identical_share:.3g} % of its bits are as expected"
    )


def _had(ran: Ran) -> str:
    return ran.result.precision_had if ran.result is not None else "unknown"


def _worst(outputs: Mapping[str, Array], right: Mapping[str, Array]) -> float:
    """The worst error of any output; infinite for one that is missing."""
    return max((error_of(outputs[n], each) if n in outputs else float("inf") for n, each in right.items()), default=0.0)


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return set(one) == set(other) and all(same_bits(one[name], other[name]) for name in one)
