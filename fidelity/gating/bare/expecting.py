"""What an fp16 device must give of a bare artefact: its graph under the measured profile, where that has rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fidelity.comparison.comparison import Comparison
from fidelity.comparison.expectation import Expectation, expected_outputs
from fidelity.gating.bare.running import Sets
from fidelity.gating.execution import Execution
from fidelity.gating.expecting import profile_for
from fidelity.prediction.expected import profile_id
from fidelity.progress import Step
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.structure import Graph

Outputs = Mapping[str, Mapping[str, NDArray[Any]]]
_NOTHING = Comparison(asked=(), photographs=(), outputs=(), sets=(), failures=())


def expected_of(
    execution: Execution, graph: Graph, signature: str, sets: Sets, actual: Outputs, truth: Outputs, step: Step
) -> Expectation | None:
    """None for a run that is not in fp16 on a GPU, or whose device has no profile.

    An operation without a rule under the profile is named, and nothing is expected then: the first set tells.
    """
    profile = profile_for(execution.result, None)
    if profile is None:
        return None
    emulator = Emulator(graph, profile, signature)
    expected = {}
    for which, inputs in sets.items():
        step(f"expected {which}")
        found = emulator.run(inputs)
        if found.missing:
            first = found.missing[0]
            more = f" and {len(found.missing) - 1} more" if len(found.missing) > 1 else ""
            why = f"op {first.operator} {first.name}{more}: {first.reason}"
            return Expectation(profile=profile_id(profile), outputs=(), comparison=_NOTHING, lacking=why)
        expected[which] = found.outputs
    return Expectation(
        profile=profile_id(profile),
        outputs=expected_outputs(actual, expected, truth, sets),
        comparison=_NOTHING,
    )
