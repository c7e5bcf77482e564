"""`fidelity judge`: every dtype, signature and shape of a bare file, what the truth rests on, and what fails it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bare_models
import numpy as np
import pytest

from fidelity.cache import Cache
from fidelity.comparison.policy import load_policy
from fidelity.comparison.run_facts import run_facts
from fidelity.devices.discovery import Device, resolve
from fidelity.devices.job import Precision
from fidelity.errors import BadInput
from fidelity.gating.bare import judge as judging
from fidelity.gating.bare.entry import parsed_ranges, parsed_shapes, taken
from fidelity.gating.bare.inputs import Asked, input_sets
from fidelity.gating.bare.judge import Question, judge_bare
from fidelity.gating.bare.outputs import measured_outputs, reals_of
from fidelity.gating.bare.records import BareReport, BareRun
from fidelity.gating.bare.running import ran
from fidelity.gating.bare.verdict import judged
from fidelity.gating.execution import Execution
from fidelity.tflite.emulation import emulate, single
from fidelity.tflite.graph import read_graph

IMAGES = Path(__file__).parents[1] / "golden/images"
CPU: tuple[tuple[Device, Precision], ...] = ((resolve("cpu"), "default"),)
PLAIN = Question(None, {}, Asked({}, {}, IMAGES, 0), CPU, load_policy())


def silent(step: str) -> None:
    del step


def report(folder: Path, data: bytes, question: Question = PLAIN) -> BareReport:
    path = folder / "bare.tflite"
    path.write_bytes(data)
    return judge_bare(path, question, Cache(folder / "cache"), silent)


def run_of(found: BareReport) -> BareRun:
    return found.entries[0].runs[0]


def fails(run: BareRun) -> list[str]:
    return [finding.message for finding in run.judgement.findings if finding.severity == "fail"]


def test_every_dtype_and_a_bound_shape(tmp_path: Path) -> None:
    found = report(tmp_path, bare_models.mixed(), replace(PLAIN, shapes={"x": (3, 4)}))
    (entry,) = found.entries
    assert found.passed, fails(run_of(found))
    assert entry.inputs == {"x": (3, 4), "y": (4,), "flag": (4,), "n": (3,)}
    assert entry.extract is not None
    assert entry.truth.rests_on == "both"
    units = {"few": "relative L2", "many": "relative L2", "likely": "full scale", "not": "steps", "twice": "steps"}
    assert run_of(found).units == units
    limited = {(check.output, check.metric) for check in run_of(found).judgement.checks}
    assert {("many", "correlation"), ("few", "relative_l2"), ("likely", "full_scale_error")} <= limited
    assert {("twice", "worst_steps"), ("not", "rms_steps")} <= limited
    assert {metric for output, metric in limited if output == "twice"} == {
        "worst_steps",
        "rms_steps",
        "non_finite_share",
    }


def test_a_file_without_signatures_and_an_image(tmp_path: Path) -> None:
    found = report(tmp_path, bare_models.unsigned(bare_models.image()))
    (entry,) = found.entries
    assert found.passed, fails(run_of(found))
    assert entry.signature == "<placeholder signature>"
    assert {"astronaut", "black", "random-0", "random-3"} <= set(entry.sets)
    assert entry.truth.rests_on == "both"
    assert entry.extract is None


def test_every_signature_or_the_one_that_is_named(tmp_path: Path) -> None:
    found = report(tmp_path, bare_models.two_entries())
    assert [entry.signature for entry in found.entries] == ["double", "halve"]
    assert found.passed
    one = report(tmp_path, bare_models.two_entries(), replace(PLAIN, signature="halve"))
    assert [entry.signature for entry in one.entries] == ["halve"]
    with pytest.raises(BadInput, match="no signature 'third'; the file has 'double', 'halve'"):
        report(tmp_path, bare_models.two_entries(), replace(PLAIN, signature="third"))


def test_a_quantised_model_is_judged_in_steps(tmp_path: Path) -> None:
    found = report(tmp_path, bare_models.integers())
    assert found.passed, fails(run_of(found))
    assert run_of(found).units == {"c": "steps", "y": "steps"}
    assert [each.unit for each in found.entries[0].truth.agreements] == ["steps", "steps"]


def test_the_emulator_lacks_an_operator_and_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    less = {kind: made for kind, made in single.FLOAT32_ALONE.items() if kind != "DEPTHWISE_CONV_2D"}
    monkeypatch.setattr(emulate, "FLOAT32_ALONE", less)
    found = report(tmp_path, bare_models.image())
    truth = found.entries[0].truth
    assert truth.rests_on == "reference kernels"
    assert [(each.operator, each.name) for each in truth.lacking] == [(0, "DEPTHWISE_CONV_2D")]
    assert "op 0 DEPTHWISE_CONV_2D" in truth.why
    assert found.passed


def test_two_implementations_that_disagree_fail_it_and_the_operator_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: an emulation whose convolution by depth is a hundred-thousandth too large."""
    right = single.depthwise_conv_2d
    wrong = {**single.FLOAT32_ALONE, "DEPTHWISE_CONV_2D": lambda call: right(call) * np.float32(1.00003)}
    monkeypatch.setattr(emulate, "FLOAT32_ALONE", wrong)
    graph = bare_models.image()
    found = report(tmp_path, graph, replace(PLAIN, inputs=replace(PLAIN.inputs, only=("random-0", "coffee"))))
    truth = found.entries[0].truth
    assert truth.rests_on == "disputed"
    assert truth.apart is not None
    assert (truth.apart.operator, truth.apart.name) == (0, "DEPTHWISE_CONV_2D")
    assert not found.passed
    assert judging.failures(found)[0].startswith("serving_default: no truth to judge by")


def altered(change: Callable[[dict[str, np.ndarray]], None], folder: Path, data: bytes) -> BareRun:
    """A right run on the CPU with its outputs changed before they are judged."""
    found = report(folder, data)
    run = run_of(found)
    path = folder / "bare.tflite"
    graph = read_graph(path)
    measured = measured_outputs(graph, graph.signature())
    sets = input_sets(taken(graph, graph.signature()), found.entries[0].inputs, PLAIN.inputs)
    execution: Execution = ran(
        path, CPU[0][0], "default", found.entries[0].signature, sets, Cache(folder / "cache"), silent
    )
    truth = reals_of(execution.outputs, measured)
    outputs = {name: {key: array.copy() for key, array in each.items()} for name, each in execution.outputs.items()}
    for each in outputs.values():
        change(each)
    facts = run_facts(execution.job, execution.result, "float32")
    comparison, judgement = judged(measured, reals_of(outputs, measured), truth, facts, PLAIN.policy, None)
    return run.model_copy(update={"comparison": comparison, "judgement": judgement})


def shifted(outputs: dict[str, np.ndarray]) -> None:
    outputs["c"] = np.clip(outputs["c"].astype(int) + 1, -128, 127).astype(np.int8)


def missing(outputs: dict[str, np.ndarray]) -> None:
    del outputs["y"]


def nan(outputs: dict[str, np.ndarray]) -> None:
    outputs["y"][..., 0] = np.nan


def extra(outputs: dict[str, np.ndarray]) -> None:
    outputs["more"] = outputs["y"]


@pytest.mark.parametrize(
    ("change", "data", "words"),
    [
        (shifted, bare_models.integers, "rms_steps of 'c' is"),
        (missing, bare_models.integers, "worst_steps of 'y' is inf"),
        (missing, bare_models.image, "output 'y' is missing"),
        (nan, bare_models.image, "elements are NaN or Inf"),
        (nan, bare_models.integers, "NaN or Inf"),
        (extra, bare_models.image, "outputs that the file does not have: ['more']"),
    ],
)
def test_a_wrong_output_fails(
    change: Callable[[dict[str, np.ndarray]], None], data: Callable[[], bytes], words: str, tmp_path: Path
) -> None:
    run = altered(change, tmp_path, data())
    assert not run.judgement.passed
    assert any(words in message for message in fails(run)), fails(run)


def test_nothing_altered_passes(tmp_path: Path) -> None:
    assert altered(lambda outputs: None, tmp_path, bare_models.integers()).judgement.passed


def test_an_array_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.full((1, 32), 0.5, np.float32))
    inputs = replace(PLAIN.inputs, files={"x": file})
    found = report(tmp_path, bare_models.two_entries(), replace(PLAIN, signature="double", inputs=inputs))
    assert found.entries[0].sets == ("given",)


def test_options_are_read_strictly() -> None:
    assert parsed_shapes(["a=b=1, 2"]) == {"a=b": (1, 2)}
    assert parsed_ranges(["x=-1,2.5"]) == {"x": (-1.0, 2.5)}
