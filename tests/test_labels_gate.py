"""The gate and compare with labels: the orders are judged, kept, and judged again from what is stored."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from test_gate import CPU, config, run

from fidelity.cache import Cache
from fidelity.cli.gate import gate_lines
from fidelity.comparison.policy import Limit, load_policy
from fidelity.errors import BadInput
from fidelity.gating.judging import Truth, judged
from fidelity.gating.whole import gate_again
from fidelity.models.counter_random import normal
from fidelity.models.label_set import LabelRecord, read_label_set, write_label_set
from fidelity.npy import npy_bytes
from fidelity.progress import Reporter
from fidelity.report.document import GateReport

OUTPUT = "embedding"
INPUTS = ("astronaut", "black", "camera", "chelsea")


def labels(folder: Path) -> Path:
    """Label embeddings of no model: directions from the counter."""
    rows = normal(0, "labels", (6, 1024)).astype(np.float64)
    content = npy_bytes(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    record = LabelRecord(
        model="open_clip:PE-Core-B-16",
        weights="seeded",
        weights_sha256="0" * 64,
        seed=0,
        context_length=32,
        labels=tuple("abcdef"),
        templates=("{}",),
        versions={},
        file="l.npy",
        sha256=hashlib.sha256(content).hexdigest(),
        shape=(6, 1024),
    )
    write_label_set(folder / "l.json", record, content)
    return folder / "l.json"


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateReport, Path]:
    folder = tmp_path_factory.mktemp("gated")
    return run(config(CPU, only=INPUTS, labels=str(labels(folder))), folder / "reports", Cache(folder / "cache"))


def test_a_faithful_run_has_the_same_labels_and_likeness(gated: tuple[GateReport, Path]) -> None:
    report, folder = gated
    assert report.passed, report.reasons
    assert report.labels is not None
    zero_shot, likeness = report.runs[0].rankings
    assert (zero_shot.ranking.task, zero_shot.ranking.top1, zero_shot.ranking.asked) == ("zero-shot", 4, 4)
    assert (likeness.ranking.task, likeness.ranking.top1, likeness.ranking.asked) == ("retrieval", 3, 3)
    assert zero_shot.ranking.labels_sha256 == report.labels.sha256
    assert set(zero_shot.allowed.values()) == {0.001414}  # the policy's, of a CPU run in float32
    assert (folder / "labels/labels.json").is_file()
    assert any("zero-shot, 6 candidates: top-1 4/4" in line for line in gate_lines(report))


def test_it_is_judged_again_from_what_is_stored(gated: tuple[GateReport, Path], tmp_path: Path) -> None:
    report, folder = gated
    again, second = gate_again(folder, load_policy(), tmp_path, Reporter())
    assert again.runs == report.runs
    assert (second / "labels/l.npy").read_bytes() == (folder / "labels/l.npy").read_bytes()
    strict = load_policy()
    tighter = tuple(
        each.model_copy(update={"limits": {**each.limits, "relative_l2": Limit(at_most=1e-12)}}) for each in strict.runs
    )
    narrow, _ = gate_again(folder, strict.model_copy(update={"runs": tighter}), tmp_path, Reporter())
    assert set(narrow.runs[0].rankings[0].allowed.values()) == {1e-12}
    (second / "labels/l.npy").write_bytes(b"x")  # a file of its own: what it was copied from stays whole
    assert read_label_set(folder / "labels/labels.json").record == report.labels
    with pytest.raises(BadInput, match="altered"):
        gate_again(second, load_policy(), tmp_path, Reporter())


def test_an_output_of_other_channels_has_real_flips(gated: tuple[GateReport, Path]) -> None:
    """Every channel at its neighbour's place: the run fails in labels too, by name."""
    from fidelity.gating.config import RunPlan  # noqa: PLC0415
    from fidelity.gating.evidence import load_truth  # noqa: PLC0415
    from fidelity.gating.execution import Execution, read_execution  # noqa: PLC0415
    from fidelity.gating.rankings import stored_labels  # noqa: PLC0415

    report, folder = gated
    right = read_execution(folder / report.runs[0].job)
    moved = {name: {OUTPUT: np.roll(arrays[OUTPUT], 1, axis=-1)} for name, arrays in right.outputs.items()}
    execution = Execution(right.folder, right.job, right.result, moved)
    stored, photographs = stored_labels(folder, report.labels), INPUTS[:1] + INPUTS[2:]
    known = Truth(load_truth(folder), OUTPUT, photographs, stored)
    found = judged(RunPlan.model_validate(CPU), execution, known, load_policy(), None)
    codes = [finding.code for finding in found.judgement.findings]
    assert "real_flip" in codes
    assert not found.judgement.passed
    assert found.rankings[0].ranking.top1 < 4
