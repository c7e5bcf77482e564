"""Faults of what a device hands back: the right artefact ran, and its arrays or what is said of them are wrong."""

from __future__ import annotations

from dataclasses import replace

from fidelity.errors import BadInput
from fidelity.faults.outputs import OUTPUTS, Returned
from fidelity.gating.execution import Execution
from fidelity.models.counter_random import uniform_integers
from fidelity.prediction.predicted import Predicted
from fidelity.selftest.records import FaultRow, fault_row
from fidelity.selftest.rig import Rig, seen_by_gate
from fidelity.selftest.specimen import Specimen

GPU_ALONE = ("cpu_bits", "non_resident", "no_residency", "wrong_precision")
"""What a CPU cannot have wrong: there are no nodes to leave to it, and it has one precision."""


def output_row(
    rig: Rig, specimen: Specimen, fault: str, seed: int, spec: str, right: Execution, predicted: Predicted | None
) -> FaultRow:
    """One fault of the output on one device. Nothing is located: no operator gave it."""
    drawn = int(uniform_integers(seed, f"selftest output {fault} {spec}", 1)[0] >> 33)
    given = Returned(right.outputs, right.result, rig.cpu_runs.get(specimen.artefact))
    spoilt = OUTPUTS[fault](given, drawn)
    if spoilt is None:
        raise BadInput(f"{specimen.subject.record.source}: the fault {fault} can have no effect on {spec}")
    wrong = replace(right, outputs=spoilt.outputs, result=spoilt.result)
    run = rig.judged(specimen, specimen.artefact, spec, wrong, predicted)
    return fault_row(fault, "output", spec, "the output", seen_by_gate(run.judgement), None)
