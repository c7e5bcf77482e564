"""The selftest on results that are made up, and each kind of fault through the real judge and the real proof.

A selftest that calls everything caught would be worth nothing, so what it judges is also given to it unspoilt.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fidelity.arithmetic.profile import load_profile
from fidelity.cache import Cache
from fidelity.cli.selftest import exit_code, selftest_lines
from fidelity.comparison.policy import Limit, load_policy
from fidelity.devices.discovery import Device, DeviceInfo
from fidelity.devices.job import Job, JobInput, JobResult, Precision, RunOutput
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.faults.outputs import OUTPUTS
from fidelity.faults.plant import FAULTS, planted
from fidelity.faults.swapped import planted_anywhere
from fidelity.gating.execution import Execution
from fidelity.localisation.emulations import emulated, parsed
from fidelity.models.threads import SMALL
from fidelity.selftest.catalogue import PLACES, chosen_faults, faults_of, unplanted
from fidelity.selftest.graphs import plant
from fidelity.selftest.outputs import GPU_ALONE, output_row
from fidelity.selftest.planting import side_by_side
from fidelity.selftest.records import CleanRow, FaultRow, Seen, SelftestReport, all_right, fault_row
from fidelity.selftest.rig import Rig, seen_by_gate
from fidelity.selftest.specimen import Specimen
from fidelity.tflite.manifest import Provenance, write_manifest

sys.path.insert(0, str(Path(__file__).parent))
from test_compare_cases import FULL, NAMES, PHOTOGRAPHS, references, with_noise
from test_tflite_builder import GraphBuilder, schema
from tiny_models import resident

ISSUE = (
    "overflow",
    "wrong_scale",
    "wrong_sign",
    "swapped_halves",
    "shifted_row",
    "dropped_bias",
    "swapped_operands",
    "zeroed_token",
    "dead_channel",
    "saturated_channel",
    "nan_element",
    "stale_output",
    "aliased_output",
    "rounded_twice",
    "wrong_eps",
    "wrong_softmax_axis",
    "ignored_adj",
)
"""The planted faults of issue 5, by name."""

BAD = Seen(check="outside_limit", severity="fail", metric="slope", worst=1.5, limit="at most 1", message="slope is 1.5")
CAUGHT = fault_row("wrong_scale", "artefact", "cpu", "op 3 MUL", [BAD], None)
MISSED = fault_row("wrong_sign", "device", "gpu", "op 5 ADD", [], None)
CLEAN = CleanRow(seed=0, device="cpu", passed=True, worst={"correlation": 1.0})
ALARM = CleanRow(seed=4, device="gpu", passed=False, worst={}, why=("error_ratio is 3",))


def report(faults: tuple[FaultRow, ...], clean: tuple[CleanRow, ...], **missing: str) -> SelftestReport:
    return SelftestReport(
        source="timm:x",
        seed=0,
        seeds=len(clean),
        policy="default",
        devices=("cpu", "gpu"),
        passed=all_right(faults, clean, missing),
        faults=faults,
        clean=clean,
        unplanted=(),
        not_tested=missing,
    )


@pytest.mark.parametrize(
    ("found", "code", "line"),
    [
        (report((CAUGHT,), (CLEAN,)), 0, "PASS: 1 of 1 faults caught"),
        (report((CAUGHT, MISSED), (CLEAN,)), 1, "MISSED: wrong_sign in the device, op 5 ADD, on gpu"),
        (report((CAUGHT,), (CLEAN, ALARM)), 1, "FALSE ALARM: seed 4 on gpu: error_ratio is 3"),
        (report((CAUGHT,), (CLEAN,), gpu="no driver"), 3, "NOT TESTED: gpu: no driver"),
        (report((CAUGHT, MISSED), (CLEAN,), gpu="no driver"), 1, "FAIL: 1 of 2 faults caught"),
        (report((), (CLEAN,)), 1, "FAIL: 0 of 0 faults caught"),
        (report((CAUGHT,), ()), 1, "0 of 0 clean runs pass"),
    ],
)
def test_the_exit_code_and_what_is_told(found: SelftestReport, code: int, line: str) -> None:
    assert exit_code(found) == code
    assert any(line in told for told in selftest_lines(found)), selftest_lines(found)
    assert found.passed == (code == 0)


def test_a_process_that_is_ended_is_the_environments_fault() -> None:
    with pytest.raises(EnvironmentMissing, match="give the same command again"), side_by_side(SMALL) as pool:
        pool.submit(os._exit, 9).result()


def test_a_large_model_has_one_thread_of_this_process() -> None:
    with side_by_side(SMALL + 1) as pool:
        assert {pool.submit(os.getpid).result(), os.getpid()} == {os.getpid()}
        assert len({pool.submit(threading.get_ident).result() for _ in range(3)}) == 1


def test_a_report_survives_storage(tmp_path: Path) -> None:
    found = report((CAUGHT, MISSED), (CLEAN, ALARM))
    found.write(tmp_path / "selftest.json")
    assert SelftestReport.read(tmp_path / "selftest.json") == found


def test_a_suspicion_alone_is_not_caught() -> None:
    row = fault_row(
        "cpu_bits", "output", "gpu", "the output", [BAD.model_copy(update={"severity": "suspicious"})], None
    )
    assert (row.caught, row.verdict) == (False, "suspicious")
    assert any("1 were suspicious alone" in line for line in selftest_lines(report((row,), (CLEAN,))))


def test_every_fault_of_the_issue_is_planted_in_every_place_or_a_reason_is_given() -> None:
    assert set(ISSUE) == set(FAULTS)
    told = {(each.fault, each.place) for each in unplanted(chosen_faults(None), ("cpu", "gpu"), ("gpu",))}
    for place in PLACES:
        for name in ISSUE:
            assert name in faults_of(place) or (name, place) in told
    for name in ("wrong_scale", "nan_element", "dead_channel", "overflow"):
        assert all(name in faults_of(place) for place in PLACES)


def test_without_a_gpu_the_overflow_is_told_to_be_left_out_everywhere() -> None:
    told = {(each.place, each.device) for each in unplanted(("overflow",), ("cpu",), ())}
    assert told == {("artefact", "cpu"), ("device", "cpu"), ("model", None)}


def test_only_names_faults_that_there_are() -> None:
    assert chosen_faults(("nan_element", "wrong_scale")) == ("wrong_scale", "nan_element")
    with pytest.raises(BadInput, match="fault 'wrongscale' is unknown"):
        chosen_faults(("wrongscale",))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    devices = {spec: Device(spec, spec, {}, DeviceInfo(spec=spec, name=spec)) for spec in ("cpu", "gpu")}
    return Rig(devices, load_policy(), Cache(tmp_path / "cache"))


@pytest.fixture
def specimen(tmp_path: Path) -> Specimen:
    """A model of which only the truth is known, and a small graph."""
    artefact = tmp_path / "small.tflite"
    artefact.write_bytes(resident())
    write_manifest(artefact, Provenance(source="timm:x", weights="seeded", weights_sha256="0" * 64, rewrites=()))
    x = np.random.Generator(np.random.Philox(3)).standard_normal((1, 1, 4, 8)).astype(np.float32)
    inputs = SimpleNamespace(arrays=dict.fromkeys(NAMES, x), photographs=PHOTOGRAPHS)
    subject = SimpleNamespace(inputs=inputs, record=SimpleNamespace(source="timm:x"))
    truth = {name: each["embedding"] for name, each in references().items()}
    return Specimen(0, cast("Any", subject), cast("Any", None), truth, artefact)


def returned(spec: str, rig: Rig, specimen: Specimen) -> Execution:
    """A sound run: the truth with the noise that float16 weights leave on a CPU, and fp16 on a GPU."""
    right = {name: {"y": each["embedding"]} for name, each in references().items()}
    rig.cpu_runs[specimen.artefact] = with_noise(right, 5e-4, seed=1)
    outputs = rig.cpu_runs[specimen.artefact] if spec == "cpu" else with_noise(right, 4e-3, seed=2)
    precision: Precision = "default"
    job = Job(
        model="m", model_sha256="a" * 64, device=spec, precision=precision, inputs=tuple(_input(name) for name in NAMES)
    )
    result = JobResult(
        status="ok",
        device=spec,
        precision_asked=precision,
        precision_had="fp32" if spec == "cpu" else "fp16",
        residency=FULL if spec == "gpu" else None,
        outputs=tuple(RunOutput(input=name, tensors={}, seconds=(1.0, 1.0), deterministic=True) for name in NAMES),
        model_sha256="a" * 64,
    )
    return Execution(Path(), job, result, outputs)


def _input(name: str) -> JobInput:
    return JobInput(name=name, tensors={})


@pytest.mark.parametrize("spec", ["cpu", "gpu"])
def test_what_is_not_spoilt_is_not_caught(spec: str, rig: Rig, specimen: Specimen) -> None:
    right = returned(spec, rig, specimen)
    assert seen_by_gate(rig.judged(specimen, specimen.artefact, spec, right, None).judgement) == []


@pytest.mark.parametrize("spec", ["cpu", "gpu"])
@pytest.mark.parametrize("fault", OUTPUTS)
def test_each_fault_of_the_output_is_caught(fault: str, spec: str, rig: Rig, specimen: Specimen) -> None:
    right = returned(spec, rig, specimen)
    if spec == "cpu" and fault in GPU_ALONE:
        with pytest.raises(BadInput, match=f"the fault {fault} can have no effect on cpu"):
            output_row(rig, specimen, fault, 0, spec, right, None)
        return
    row = output_row(rig, specimen, fault, 0, spec, right, None)
    assert row.caught
    assert row.verdict == "fail", row.seen


def test_a_judge_that_sees_correlation_alone_misses_the_scale(rig: Rig, specimen: Specimen) -> None:
    """What is caught is the policy's doing: the selftest of a policy that is blind says so."""
    limits = {"correlation": Limit(at_least=0.999)}
    runs = tuple(run.model_copy(update={"limits": limits}) for run in rig.policy.runs)
    blind = replace(rig, policy=rig.policy.model_copy(update={"runs": runs, "every_run": {}}))
    row = output_row(blind, specimen, "wrong_scale", 0, "cpu", returned("cpu", blind, specimen), None)
    assert (row.caught, row.verdict) == (False, "pass")
    assert exit_code(report((CAUGHT, row), (CLEAN,))) == 1


CODES = {
    "overflow": "non_finite_actual",
    "nan_element": "non_finite_actual",
    "missing_output": "missing_output",
    "missing_input": "missing_input",
    "extra_output": "extra_output",
    "wrong_shape": "shape_mismatch",
    "wrong_dtype": "dtype_mismatch",
    "non_resident": "not_resident",
    "no_residency": "not_resident",
    "wrong_model": "wrong_model",
    "wrong_device": "wrong_device",
    "wrong_precision": "precision_not_had",
    "not_deterministic": "not_deterministic",
    "failed_run": "run_failed",
    "cpu_bits": "identical_to_cpu",
}


@pytest.mark.parametrize(("fault", "code"), CODES.items())
def test_a_fault_that_is_no_number_is_caught_by_its_name(fault: str, code: str, rig: Rig, specimen: Specimen) -> None:
    row = output_row(rig, specimen, fault, 0, "gpu", returned("gpu", rig, specimen), None)
    assert code in {each.check for each in row.seen}


def test_a_fault_that_has_no_effect_anywhere_is_an_error(specimen: Specimen, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the fault wrong_softmax_axis has no effect at any operator"):
        plant(specimen, "wrong_softmax_axis", 0, tmp_path)


def test_operands_are_swapped_where_one_is_broadcast() -> None:
    graph = GraphBuilder()
    for name, shape in (("x", (2, 3)), ("mean", (2, 1)), ("centred", (2, 3))):
        graph.tensor(name, shape)
    graph.constant("axis", np.array([1], np.int32), dtype="int32")
    options = schema.ReducerOptionsT()
    options.keepDims = True
    graph.op("MEAN", ["x", "axis"], "mean", options)
    graph.op("SUB", ["x", "mean"], "centred", schema.SubOptionsT())
    model = graph.build(["x"], ["centred"])
    assert planted(model, "centred", "swapped_operands", 0) is None
    assert planted_anywhere(model, "mean", "swapped_operands", 0) is None
    swapped = planted_anywhere(model, "centred", "swapped_operands", 0)
    assert swapped is not None
    x = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]], np.float32)
    found = emulated(parsed(swapped), (), {"x": x}, load_profile("ieee-fp32")).outputs["centred"]
    np.testing.assert_allclose(found, x.mean(axis=1, keepdims=True) - x, rtol=1e-6)


def test_the_same_seed_plants_the_same_fault(specimen: Specimen, tmp_path: Path) -> None:
    drawn: Callable[[int], Any] = lambda seed: plant(specimen, "wrong_scale", seed, tmp_path)  # noqa: E731
    assert drawn(0) == drawn(0)
    assert len({drawn(seed).site for seed in range(8)}) > 1


def test_a_planted_file_has_its_manifest_and_another_result(specimen: Specimen, tmp_path: Path) -> None:
    found = plant(specimen, "nan_element", 0, tmp_path)
    assert found.path.read_bytes() != specimen.artefact.read_bytes()
    assert found.path.with_name(f"{found.path.name}.manifest.json").is_file()
