"""Every kind of operation of the PE-Core artefact on a real delegate, held to the tolerance that is derived for it.

On any GPU, whatever its arithmetic is: where that was measured, test_arithmetic.py asks for the very bits. Here
a bound that follows from how often an operation rounds has to hold, in fp16 and fp32, on shapes drawn for this
run, and a planted fault has to break it. All pieces are one graph: a process and a compilation cost more than they
do. That no kind of the artefact is without a piece is held by test_pe_core_b16.py, where the artefact is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from device_graphs import Cases
from operation_kinds import KINDS
from operation_pieces import Piece, excess
from tiny_models import job_folder

from fidelity.comparison.tolerance import Format
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.job import JobResult, Precision
from fidelity.devices.run import run_job

pytestmark = pytest.mark.gpu_device
EACH = 2
Answers = dict[str, list[tuple[Piece, np.ndarray, JobResult]]]


def asked(cases: Cases, pieces: dict[str, list[Piece]], gpu: Device, precision: Precision, folder: Path) -> Answers:
    """What the device makes of a graph, by kind."""
    content = cases.graph.build(list(cases.inputs), list(cases.outputs))
    job = job_folder(folder, content, {"one": cases.inputs}, device=gpu.job_device, precision=precision)
    result = run_job(job, gpu)
    assert (result.status, result.error) == ("ok", None)
    outputs = load_outputs(job, result)["one"]
    shutil.rmtree(folder)
    return {kind: [(piece, outputs[piece.output], result) for piece in each] for kind, each in pieces.items()}


@pytest.fixture(scope="session", params=["default", "fp32"])
def answers(gpu: Device, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Every kind drawn twice in one graph; where the device refuses some of it, every kind in a graph of its own."""
    folder, generator = tmp_path_factory.mktemp("operations"), np.random.Generator(np.random.Philox())
    together = Cases(generator)
    pieces = {kind: [draw(together) for _ in range(EACH)] for kind, draw in KINDS.items()}
    found = asked(together, pieces, gpu, request.param, folder / "all")
    residency = next(iter(found.values()))[0][2].residency
    if residency is not None and residency.full:
        return found
    for kind, draw in KINDS.items():
        alone = Cases(generator)
        found |= asked(alone, {kind: [draw(alone) for _ in range(EACH)]}, gpu, request.param, folder / kind)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_operation_keeps_the_derived_tolerance(kind: str, answers: Answers) -> None:
    for piece, got, result in answers[kind]:
        assert result.residency is not None
        assert result.residency.full, (piece.told, result.residency.refusals)
        assert result.precision_had in ("fp16", "fp32")
        stored: Format = "float16" if result.precision_had == "fp16" else "float32"
        worst = excess(got, piece, stored)
        assert worst <= 1, (piece.told, stored, worst)
        assert excess(piece.faulty, piece, stored) > 1, f"{piece.told}: a planted fault would pass in {stored}"
        assert excess(np.full_like(got, np.nan), piece, stored) == np.inf
