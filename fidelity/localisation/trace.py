"""Truth, expected and actual at every operator of one run: where the error begins and how it grows.

Truth is the graph itself in float32 (profile ieee-fp32), whose own error is a thousandth of fp16's;
expected is the graph with the same taps under the device's profile, since taps change what is taken
together. Without a profile, every operation rounded to fp16 once stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fidelity.arithmetic.profile import Profile
from fidelity.comparison.expectation import identical_share, same_bits
from fidelity.comparison.metrics.correlation import correlation
from fidelity.comparison.metrics.outcome import Measured
from fidelity.localisation.emulations import Emulation, emulated
from fidelity.localisation.groups import sources
from fidelity.localisation.noise import error_of
from fidelity.localisation.on_device import Array, Arrays, RunModel
from fidelity.localisation.records import Trace, Traced
from fidelity.localisation.taps import Tapped, tappable, tapped
from fidelity.prediction.expected import profile_id
from fidelity.prediction.module_path import module_path
from fidelity.tflite.structure import Graph

_CHANNELS = 4


@dataclass(frozen=True)
class Seen:
    """A trace with its arrays at hand: truth and expected of every tensor that was asked for, actual of those shown."""

    trace: Trace
    actual: Mapping[int, Array]
    expected: Mapping[int, Array]
    truth: Mapping[int, Array]


def trace(
    graph: Graph,
    inputs: Arrays,
    run: RunModel,
    final: Mapping[str, Array],
    profile: Profile,
    truth: Emulation,
    pytorch: Mapping[int, Array],
    *,
    stands_in: bool,
) -> Seen:
    """One traced run.

    `final` are the device's outputs without taps, `profile` is its arithmetic or stands for it, `truth` holds every
    tensor that may be tapped in float32, `pytorch` the model's own float64 values of tensors, where they are known.

    Raises BadInput for an operation that the emulator lacks: then nothing is known of what is right there.
    """
    tensors = tappable(graph, profile)
    tap = tapped(graph, tensors, inputs, run, final)
    expected = emulated(graph, tensors, inputs, profile)
    rows = _rows(graph, tap, truth, expected, pytorch)
    producers = graph.main.producers
    found = Trace(
        profile=profile_id(profile),
        stands_in=stands_in,
        operators=rows,
        changed=bool(tap.changed),
        refused={producers[index].index: why for index, why in tap.refused.items()},
        runs=tap.runs,
    )
    return Seen(found, tap.values, expected.values, truth.values)


def _rows(
    graph: Graph, tap: Tapped, truth: Emulation, expected: Emulation, pytorch: Mapping[int, Array]
) -> tuple[Traced, ...]:
    bits = headrooms(expected)
    return tuple(
        row_of(
            graph,
            index,
            (tap.values[index], expected.values[index], truth.values[index]),
            pytorch.get(index),
            sources(graph, index, expected.values)[1],
            bits,
        )
        for index in expected.values
        if index in tap.values
    )


def headrooms(emulation: Emulation) -> dict[int, float]:
    """The least headroom of any site of each operator, in bits."""
    least: dict[int, float] = {}
    for site in emulation.sites:
        if site.operator is not None:
            least[site.operator] = min(site.headroom, least.get(site.operator, np.inf))
    return least


def row_of(
    graph: Graph,
    index: int,
    values: tuple[Array, Array, Array],
    pytorch: Array | None,
    members: tuple[int, ...],
    bits: Mapping[int, float],
) -> Traced:
    """One tensor's row. `values` are actual, expected and truth; `bits` the headroom by operator."""
    actual, expected, truth = values
    op = graph.main.producers[index]
    right = truth if pytorch is None else pytorch
    flat = np.abs(right).reshape(-1, right.shape[-1]).max(axis=0) if right.ndim else np.abs(right).reshape(1)
    largest = tuple(int(place) for place in np.argsort(-flat, kind="stable")[:_CHANNELS])
    return Traced(
        operator=op.index,
        name=op.name,
        tensor=index,
        module=module_path(graph.main.tensors[index].name),
        members=members,
        error_actual=error_of(actual, truth),
        error_expected=error_of(expected, truth),
        identical_share=1.0 if same_bits(actual, expected) else identical_share(actual, expected) or 0.0,
        correlation=_correlation(actual, right),
        correlation_expected=_correlation(expected, right),
        truth="artefact" if pytorch is None else "pytorch",
        non_finite=int(np.count_nonzero(~np.isfinite(actual))),
        peak=float(np.abs(right).max(initial=0.0)),
        headroom=min((bits[each] for each in members if each in bits), default=float("inf")),
        channels=largest,
        magnitudes=tuple(float(flat[place]) for place in largest),
    )


def _correlation(actual: Array, truth: Array) -> float:
    outcome = correlation(actual, truth)
    return outcome.value if isinstance(outcome, Measured) else float("nan")
