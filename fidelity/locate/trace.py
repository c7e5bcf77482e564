"""Truth, expected and actual at every operator of one run: where the error begins and how it grows.

Truth is the graph itself in float32 (profile ieee-fp32), whose own error is a thousandth of fp16's;
expected is the graph with the same taps under the device's profile, since taps change what is taken
together. Without a profile, every operation rounded to fp16 once stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.compare.expectation import ProfileId, identical_share, same_bits
from fidelity.compare.metrics.correlation import correlation
from fidelity.compare.metrics.outcome import Measured
from fidelity.errors import BadInput
from fidelity.locate.taps import Array, Arrays, RunModel, error_of, parsed, tappable, tapped
from fidelity.predict.expected import profile_id
from fidelity.predict.module_path import module_path
from fidelity.record import Figure, Record
from fidelity.tflite.edit import TAP, with_taps
from fidelity.tflite.emulation.emulate import Emulated, Emulator
from fidelity.tflite.structure import Graph

TRUTH, STAND_IN = "ieee-fp32", "ieee-fp16-storage"
_CHANNELS = 4


class Traced(Record):
    """One operator's result, three ways. Errors are relative L2 against the truth, infinite for NaN or Inf.

    `identical_share`: elements that are the expected ones bit for bit. `correlation`: actual with truth,
    NaN for a constant. `channels`: the largest by magnitude along the last axis, of the truth.
    """

    operator: int
    name: str
    tensor: int
    module: str | None
    error_actual: Figure
    error_expected: Figure
    identical_share: Figure
    correlation: Figure
    non_finite: int
    peak: Figure
    channels: tuple[int, ...]

    @property
    def place(self) -> str:
        """The operator in a few words."""
        return f"op {self.operator} {self.name}{f' in {self.module}' if self.module else ''}"


class Trace(Record):
    """Every operator that could be looked at, in execution order.

    `changed`: taps changed the final output, so what they show may not be what happens without them.
    `refused`: operators that the device would not show.
    """

    profile: ProfileId
    stands_in: bool
    operators: tuple[Traced, ...]
    changed: bool
    refused: dict[int, str]
    runs: int


def trace(graph: Graph, inputs: Arrays, run: RunModel, final: Mapping[str, Array], profile: Profile | None) -> Trace:
    """One traced run. `final` are the device's outputs without taps.

    Raises BadInput for an operation that the emulator lacks: then nothing is known of what is right there.
    """
    used = profile or load_profile(STAND_IN)
    tensors = tappable(graph, used)
    seen = tapped(graph, tensors, inputs, run, final)
    truth = emulated(graph, tensors, inputs, load_profile(TRUTH))
    expected = emulated(graph, tensors, inputs, used)
    producers = graph.main.producers
    rows = [
        _traced(graph, index, seen.values[index], expected[index], truth[index])
        for index in tensors
        if index in seen.values
    ]
    return Trace(
        profile=profile_id(used),
        stands_in=profile is None,
        operators=tuple(rows),
        changed=bool(seen.changed),
        refused={producers[index].index: why for index, why in seen.refused.items()},
        runs=seen.runs,
    )


def emulated(graph: Graph, tensors: tuple[int, ...], inputs: Arrays, profile: Profile) -> dict[int, Array]:
    """What a profile makes of the tapped graph at each tensor. Raises BadInput for what the emulator lacks."""
    outputs = whole_outputs(Emulator(parsed(with_taps(graph, tensors)), profile).run(inputs), graph)
    return {index: outputs[f"{TAP}{index}"] for index in tensors}


def whole_outputs(found: Emulated, graph: Graph) -> Arrays:
    """The outputs, all of them. Raises BadInput for an operation that the emulator lacks."""
    if found.missing:
        first = found.missing[0]
        raise BadInput(
            f"{graph.path}: op {first.operator} {first.name}: {first.reason}: nothing is known of what is right"
        )
    return found.outputs


def _traced(graph: Graph, index: int, actual: Array, expected: Array, truth: Array) -> Traced:
    op = graph.main.producers[index]
    flat = np.abs(truth).reshape(-1, truth.shape[-1]).max(axis=0) if truth.ndim else np.abs(truth).reshape(1)
    return Traced(
        operator=op.index,
        name=op.name,
        tensor=index,
        module=module_path(graph.main.tensors[index].name),
        error_actual=error_of(actual, truth),
        error_expected=error_of(expected, truth),
        identical_share=1.0 if same_bits(actual, expected) else identical_share(actual, expected) or 0.0,
        correlation=_correlation(actual, truth),
        non_finite=int(np.count_nonzero(~np.isfinite(actual))),
        peak=float(np.abs(truth).max(initial=0.0)),
        channels=tuple(int(place) for place in np.argsort(-flat, kind="stable")[:_CHANNELS]),
    )


def _correlation(actual: Array, truth: Array) -> float:
    outcome = correlation(actual, truth)
    return outcome.value if isinstance(outcome, Measured) else float("nan")
