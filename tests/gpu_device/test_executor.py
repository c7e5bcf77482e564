"""The executor's contract on a real GPU delegate: precision, residency, refusals, determinism, identity."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device, discover, resolve
from fidelity.devices.job import JobResult, Precision
from fidelity.devices.run import run_job
from fidelity.errors import BadInput, EnvironmentMissing

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_models import integers, job_folder, one_line, overflowing, refused, resident

pytestmark = pytest.mark.gpu_device
WIDTH = 8
X = np.linspace(-2, 2, 4 * WIDTH, dtype=np.float32).reshape(1, 1, 4, WIDTH)
LARGE = np.float32([300, 1 + 2.0**-12, -300, 0]).reshape(1, 1, 1, 4)


def expected(x: np.ndarray) -> np.ndarray:
    """What the resident graph computes, in float64."""
    scale = np.linspace(0.5, 1.5, WIDTH)
    return (x.astype(np.float64) + np.linspace(-1, 1, WIDTH)) ** 2 * scale


def ran(gpu: Device, folder: Path, model: bytes, x: np.ndarray, **options: object) -> tuple[JobResult, np.ndarray]:
    """The result of one input, which must be ok, and its only output."""
    job = job_folder(folder, model, {"one": {"x": x}}, device=gpu.job_device, **options)
    result = run_job(job, gpu)
    assert (result.status, result.error) == ("ok", None)
    ((output,),) = (tuple(tensors.values()) for tensors in load_outputs(job, result).values())
    return result, output


def has_fp16(gpu: Device) -> bool:
    return bool(gpu.info.fp16)


def test_default_precision_is_fp16_where_the_driver_has_it(gpu: Device, tmp_path: Path) -> None:
    result, _ = ran(gpu, tmp_path, resident(), X)
    assert result.precision_asked == "default"
    assert result.precision_had == ("fp16" if has_fp16(gpu) else "fp32")


def test_fp32_is_had_when_asked_for(gpu: Device, tmp_path: Path) -> None:
    result, _ = ran(gpu, tmp_path, resident(), X, precision="fp32")
    assert (result.precision_asked, result.precision_had) == ("fp32", "fp32")


@pytest.mark.parametrize("precision", ["default", "fp32"])
def test_the_products_are_those_of_the_precision_had(gpu: Device, precision: Precision, tmp_path: Path) -> None:
    """The claim about precision, held against the outputs of a graph of its own."""
    result, output = ran(gpu, tmp_path, overflowing(), LARGE, precision=precision)
    large, fine, negative, zero = (float(value) for value in output.reshape(-1))
    assert zero == 0
    if result.precision_had == "fp32":
        assert (large, fine, negative) == (90000.0, 1 + 2.0**-11, 90000.0)
    else:
        assert min(large, negative) >= 65504
        assert fine == 1.0


@pytest.mark.parametrize(("precision", "steps"), [("default", 2.0**-11), ("fp32", 2.0**-24)])
def test_outputs_are_right_to_the_precision(gpu: Device, precision: Precision, steps: float, tmp_path: Path) -> None:
    """Relative to the largest output: x, the constants, the sum, the square and the product are rounded.

    Six roundings of half a unit; the sum's (two of x and the shift, one of its own) count twice in
    the square, so nine in all. A device may truncate instead, which is twice half a unit: 18.
    """
    _, output = ran(gpu, tmp_path, resident(), X, precision=precision)
    truth = expected(X)
    worst = float(np.abs(output - truth).max() / truth.max())
    assert worst <= 18 * steps
    if precision == "default" and has_fp16(gpu):
        assert worst > 2.0**-24 * 18  # fp16 that is as good as fp32 is not fp16


def test_a_resident_graph_is_resident(gpu: Device, tmp_path: Path) -> None:
    result, _ = ran(gpu, tmp_path, resident(), X)
    assert result.residency is not None
    assert (result.residency.nodes_on_device, result.residency.nodes_total) == (3, 3)
    assert (result.residency.partitions, result.residency.refusals) == (1, ())
    assert result.residency.full


def test_a_refused_graph_is_not_and_says_why(gpu: Device, tmp_path: Path) -> None:
    x = np.arange(64, dtype=np.float32).reshape(1, 2, 4, 8)
    result, output = ran(gpu, tmp_path, refused(), x)
    np.testing.assert_array_equal(output, x + 1)  # small integers: exact in fp16 too
    assert result.residency is not None
    assert result.residency.nodes_total == 3
    assert result.residency.nodes_on_device < 3
    assert not result.residency.full
    assert {refusal.op for refusal in result.residency.refusals} == {"RESHAPE"}
    assert all(refusal.reason and "\n" not in refusal.reason for refusal in result.residency.refusals)
    assert "model/five;1" in {refusal.tensor for refusal in result.residency.refusals}


def test_runs_repeat_bit_for_bit(gpu: Device, tmp_path: Path) -> None:
    result, _ = ran(gpu, tmp_path, resident(), X, repeat=("one",))
    (output,) = result.outputs
    assert (output.deterministic, len(output.seconds)) == (True, 2)


def test_two_processes_give_the_same_bits(gpu: Device, tmp_path: Path) -> None:
    first, second = (ran(gpu, tmp_path / name, resident(), X)[0] for name in ("a", "b"))
    assert first.outputs[0].tensors == second.outputs[0].tensors


def test_outputs_follow_their_inputs(gpu: Device, tmp_path: Path) -> None:
    """Buffers are reused from run to run: the second input must not be answered with the first's output."""
    inputs = {"one": {"x": X}, "two": {"x": -X}, "again": {"x": X}}
    job = job_folder(tmp_path, resident(), inputs, device=gpu.job_device)
    outputs = {name: tensors["y"] for name, tensors in load_outputs(job, run_job(job, gpu)).items()}
    np.testing.assert_array_equal(outputs["one"], outputs["again"])
    for name, tensors in inputs.items():
        truth = expected(tensors["x"])
        assert np.abs(outputs[name] - truth).max() / truth.max() < 18 * 2.0**-11


def test_the_adapter_is_the_one_asked_for(gpu: Device, tmp_path: Path) -> None:
    result, _ = ran(gpu, tmp_path, resident(), X)
    assert result.adapter is not None
    assert result.adapter.name == gpu.info.name
    assert result.adapter.driver == gpu.info.driver
    assert (result.adapter.software, result.adapter.fp16) == (gpu.info.software, gpu.info.fp16)
    assert resolve(gpu.info.spec).info == gpu.info
    assert gpu.info in discover()


@pytest.mark.parametrize("x", [X[..., :-1], X.astype(np.float64), np.full_like(X, np.nan)])
def test_an_input_that_does_not_fit_is_refused(gpu: Device, x: np.ndarray, tmp_path: Path) -> None:
    job = job_folder(tmp_path, resident(), {"one": {"x": x}}, device=gpu.job_device)
    result = run_job(job, gpu)
    assert (result.status, result.outputs) == ("bad_input", ())
    one_line(result)


def test_a_broken_model_is_told(gpu: Device, tmp_path: Path) -> None:
    job = job_folder(tmp_path, resident()[:-64], {"one": {"x": X}}, device=gpu.job_device)
    assert run_job(job, gpu).status == "bad_model"


def test_a_graph_that_the_device_cannot_take_at_all_is_no_silent_success(gpu: Device, tmp_path: Path) -> None:
    """int32 arithmetic: either it is refused, or the residency tells where it ran and it is right."""
    x = np.array([1, -5, 2**24 + 1], dtype=np.int32)
    job = job_folder(tmp_path, integers(), {"one": {"x": x}}, device=gpu.job_device)
    result = run_job(job, gpu)
    if result.status != "ok":
        one_line(result)
    elif result.residency is not None and not result.residency.full:
        np.testing.assert_array_equal(load_outputs(job, result)["one"]["y"], x + x)


def test_an_unknown_adapter_is_missing(gpu: Device) -> None:
    with pytest.raises(EnvironmentMissing, match="no adapter of that name here; there are: ") as caught:
        resolve("gpu:no such adapter")
    assert gpu.info.name in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("spec", ["", "tpu", "gpu:", "GPU", "cpu:0"])
def test_a_word_for_no_device_is_bad_input(gpu: Device, spec: str) -> None:
    with pytest.raises(BadInput, match="expected cpu, gpu or gpu:<adapter>"):
        resolve(spec)
