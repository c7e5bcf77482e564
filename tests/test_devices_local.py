"""The local executor on the CPU: what it computes, what it refuses, and that nothing it is told is believed."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device, DeviceInfo, resolve
from fidelity.devices.job import Adapter, Job, JobResult, TensorFile
from fidelity.devices.local import _on_device
from fidelity.devices.precision_probe import precision_of, probe_model
from fidelity.devices.run import run_job
from fidelity.devices.tensor_files import inside, read_tensor, safe_name, write_tensor
from fidelity.errors import BadInput

sys.path.insert(0, str(Path(__file__).parent))
from test_tflite_builder import GraphBuilder, add_and_scale, schema
from tiny_models import (
    X,
    Y,
    add_and_scale_job,
    integers,
    job_folder,
    one_line,
    overflowing,
    sha256,
    two_in_two_out,
)

CPU = resolve("cpu")


def test_outputs_are_right_and_the_record_is_whole(tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    result = run_job(folder, CPU)
    assert (result.status, result.error) == ("ok", None)
    np.testing.assert_array_equal(load_outputs(folder, result)["one"]["y"], Y)
    assert (result.device, result.precision_had, result.adapter) == ("cpu", "fp32", None)
    assert result.residency is not None
    assert (result.residency.nodes_on_device, result.residency.nodes_total) == (2, 2)
    assert result.model_sha256 == sha256(folder / "model.tflite")
    assert result.timing is not None
    assert result.timing.steady is None  # run once: no later run to take a median of
    assert (result.peak_memory_bytes or 0) > 1 << 20
    assert result.runtime["ai-edge-litert"]
    assert JobResult.read(folder / "result.json") == result


def test_inputs_and_outputs_go_by_name(tmp_path: Path) -> None:
    a, b = np.float32([1, 2, 3, 4]), np.float32([10, 20, 30, 40])
    folder = job_folder(tmp_path, two_in_two_out(), {"one": {"a": a, "b": b}, "two": {"b": a, "a": b}})
    outputs = load_outputs(folder, run_job(folder, CPU))
    np.testing.assert_array_equal(outputs["one"]["sum"], a + b)
    np.testing.assert_array_equal(outputs["one"]["product"], a * a)
    np.testing.assert_array_equal(outputs["two"]["product"], b * b)


def test_integers_are_integers(tmp_path: Path) -> None:
    x = np.array([1, -(2**30), 2**24 + 1], dtype=np.int32)  # the last is no float32
    folder = job_folder(tmp_path, integers(), {"one": {"x": x}})
    output = load_outputs(folder, run_job(folder, CPU))["one"]["y"]
    assert output.dtype == np.int32
    np.testing.assert_array_equal(output, [2, -(2**31), 2**25 + 2])


def test_what_overflows_is_stored_as_it_is(tmp_path: Path) -> None:
    """An infinity is a finding: it must come through, not be made a number or a failure of the job."""
    x = np.float32([1e30, -1e30, 1, 0]).reshape(1, 1, 1, 4)
    folder = job_folder(tmp_path, overflowing(), {"one": {"x": x}})
    result = run_job(folder, CPU)
    assert result.status == "ok"
    assert load_outputs(folder, result)["one"]["y"].reshape(-1).tolist() == [np.inf, np.inf, 1, 0]


def test_only_what_is_run_twice_is_called_deterministic(tmp_path: Path) -> None:
    folder = job_folder(tmp_path, add_and_scale(), {"one": {"x": X}, "two": {"x": -X}}, repeat=("two",))
    result = run_job(folder, CPU)
    assert [(output.input, output.deterministic, len(output.seconds)) for output in result.outputs] == [
        ("one", None, 1),
        ("two", True, 2),
    ]
    assert result.timing is not None
    assert result.timing.steady is not None


def test_two_processes_give_the_same_bits(tmp_path: Path) -> None:
    results = [run_job(add_and_scale_job(tmp_path / name), CPU) for name in ("a", "b")]
    assert results[0].outputs[0].tensors == results[1].outputs[0].tensors


def test_names_of_inputs_cannot_leave_the_folder_or_meet(tmp_path: Path) -> None:
    names = ["../../evil", "a/b", "a_b", "a b", "é", "", "." * 300]
    folder = job_folder(tmp_path, add_and_scale(), {name: {"x": X + i} for i, name in enumerate(names)})
    result = run_job(folder, CPU)
    assert result.status == "ok"
    outputs = load_outputs(folder, result)
    for i, name in enumerate(names):
        np.testing.assert_array_equal(outputs[name]["y"], (X + i + np.float32([1, 2, 3])) * np.float32(0.5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.tflite", "job"]


BAD_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"x": X[:1]}, r"input 'x': float32 \(1, 3\) given, the model takes float32 \(2, 3\)"),
    ({"x": X.reshape(3, 2)}, r"float32 \(3, 2\) given"),
    ({"x": X.astype(np.float64)}, r"float64 \(2, 3\) given"),
    ({"x": X.astype(np.int32)}, r"int32 \(2, 3\) given"),
    ({"z": X}, r"inputs \['z'\] given, the signature serving_default takes \['x'\]"),
    ({"x": X, "z": X}, r"inputs \['x', 'z'\] given"),
    ({}, r"inputs \[\] given"),
    ({"x": np.where(X == 2, np.float32("nan"), X)}, "input 'x': holds NaN or Inf"),
    ({"x": np.where(X == 2, np.float32("-inf"), X)}, "input 'x': holds NaN or Inf"),
]


@pytest.mark.parametrize(("tensors", "told"), BAD_INPUTS)
def test_an_input_that_does_not_fit_is_refused(tensors: dict[str, Any], told: str, tmp_path: Path) -> None:
    result = run_job(job_folder(tmp_path, add_and_scale(), {"one": tensors}), CPU)
    assert result.status == "bad_input"
    assert re.search(told, one_line(result)), result.error
    assert result.outputs == ()


def test_one_bad_input_stops_the_job_before_anything_runs(tmp_path: Path) -> None:
    """Else a run could be judged on the inputs that happened to fit."""
    result = run_job(job_folder(tmp_path, add_and_scale(), {"good": {"x": X}, "bad": {"x": X[:1]}}), CPU)
    assert (result.status, result.outputs) == ("bad_input", ())


def test_an_unknown_signature_is_refused_with_those_there_are(tmp_path: Path) -> None:
    result = run_job(add_and_scale_job(tmp_path, signature="encode"), CPU)
    assert result.status == "bad_input"
    assert one_line(result) == "signature 'encode': the model has 'serving_default'"


def test_a_signature_is_found_by_name(tmp_path: Path) -> None:
    assert run_job(add_and_scale_job(tmp_path, signature="serving_default"), CPU).status == "ok"


def test_a_job_without_inputs_gives_no_outputs(tmp_path: Path) -> None:
    result = run_job(job_folder(tmp_path, add_and_scale(), {}), CPU)
    assert result.outputs == ()
    assert result.timing is None


def edit_job(folder: Path, **changes: object) -> None:
    job = Job.read(folder / "job.json")
    job.model_copy(update=changes).write(folder / "job.json")


def test_a_model_other_than_the_jobs_is_not_run(tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    edit_job(folder, model_sha256="0" * 64)
    result = run_job(folder, CPU)
    assert result.status == "bad_model"
    assert "the job says 0000000000000000..." in one_line(result)


def test_a_model_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    edit_job(folder, model="../given.tflite")
    result = run_job(folder, CPU)
    assert result.status == "bad_model"
    assert "outside the job folder" in one_line(result)


def test_an_altered_input_is_not_run(tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    (stored,) = (folder / "inputs").iterdir()
    stored.write_bytes((X + 1).tobytes())
    result = run_job(folder, CPU)
    assert result.status == "bad_input"
    assert "sha256 is not the one recorded" in one_line(result)


def test_a_missing_input_is_not_run(tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    (stored,) = (folder / "inputs").iterdir()
    stored.unlink()
    result = run_job(folder, CPU)
    assert result.status == "bad_input"
    one_line(result)


def test_an_old_result_is_never_taken_for_a_new_one(tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    run_job(folder, CPU)
    (folder / "model.tflite").unlink()
    result = run_job(folder, CPU)
    assert result.status == "bad_model"
    assert result.outputs == ()


def test_an_adapter_other_than_the_one_asked_for_is_no_device(tmp_path: Path) -> None:
    job = Job.read(add_and_scale_job(tmp_path, device="gpu") / "job.json")
    info = DeviceInfo(spec="gpu:a", name="A 1", driver="d", software=False, fp16=True)
    ran = JobResult(
        status="ok", device="gpu", precision_asked="default", adapter=Adapter(name="A 2"), model_sha256=job.model_sha256
    )
    result = _on_device(ran, job, Device("gpu:a", "gpu", {}, info))
    assert result.status == "no_device"
    assert one_line(result) == "asked for 'A 1', the runtime chose 'A 2'"
    same = _on_device(ran.model_copy(update={"adapter": Adapter(name="A 1")}), job, Device("gpu:a", "gpu", {}, info))
    assert same.adapter == Adapter(name="A 1", driver="d", software=False, fp16=True)


def test_a_gpu_that_never_names_its_adapter_has_not_run_on_it(tmp_path: Path) -> None:
    """Without an adapter in the log nothing says that the device asked for was used at all."""
    job = Job.read(add_and_scale_job(tmp_path, device="gpu") / "job.json")
    info = DeviceInfo(spec="gpu:a", name="A 1")
    ran = JobResult(status="ok", device="gpu", precision_asked="default", model_sha256=job.model_sha256)
    assert _on_device(ran, job, Device("gpu:a", "gpu", {}, info)).status != "ok"


PRODUCTS = [
    ([90000.0, float(np.float32(1 + 2.0**-12) * np.float32(1 + 2.0**-12))], "fp32"),
    ([np.inf, 1.0], "fp16"),
    ([65504.0, 1.0], "fp16"),
    ([90000.0, 1.0], "unknown"),
    ([np.inf, float(np.float32(1 + 2.0**-12) * np.float32(1 + 2.0**-12))], "unknown"),
    ([np.nan, 1.0], "unknown"),
    ([-np.inf, 1.0], "unknown"),
    ([0.0, 0.0], "unknown"),
]


@pytest.mark.parametrize(("product", "had"), PRODUCTS)
def test_precision_is_told_by_two_products(product: list[float], had: str) -> None:
    assert precision_of(np.float32([*product, 1, 4]).reshape(1, 1, 1, 4)) == had


def test_the_probe_runs_in_single_precision_on_the_cpu(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (1, 1, 1, 4))
    graph.tensor("y", (1, 1, 1, 4))
    graph.op("MUL", ["x", "x"], "y", schema.MulOptionsT())
    x = np.float32([300, 1 + 2.0**-12, 1, 2]).reshape(1, 1, 1, 4)
    folder = job_folder(tmp_path, graph.build(["x"], ["y"]), {"one": {"x": x}})
    assert precision_of(load_outputs(folder, run_job(folder, CPU))["one"]["y"]) == "fp32"
    assert probe_model()[4:8] == b"TFL3"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_a_tensor_survives_being_stored(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    stored = write_tensor(tmp_path, "a/b.raw", array)
    again = read_tensor(tmp_path, stored)
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()


def test_a_transposed_tensor_is_stored_in_c_order(tmp_path: Path) -> None:
    stored = write_tensor(tmp_path, "t.raw", X.T)
    np.testing.assert_array_equal(read_tensor(tmp_path, stored), X.T)


STORED = TensorFile(file="t.raw", dtype="float32", shape=(2, 3), sha256="")
LIES: list[dict[str, Any]] = [
    {"shape": (2, 4)},
    {"shape": (-2, -3)},
    {"shape": (-1, 3)},
    {"shape": (2**62, 2**62)},
    {"dtype": "float64"},
    {"dtype": "object"},
    {"dtype": "O"},
    {"dtype": "nonsense"},
    {"dtype": "S4"},
    {"dtype": ""},
    {"dtype": "f4,f4"},
    {"dtype": ">f4"},
    {"sha256": "0" * 64},
    {"file": "gone.raw"},
    {"file": "."},
    {"file": ""},
    {"file": "../t.raw"},
    {"file": "/etc/hostname"},
    {"file": "a\0b"},
    {"file": "x" * 5000},
    {"file": "link.raw"},
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: json.dumps(lie)[:40])
def test_a_stored_tensor_that_does_not_hold_is_refused(lie: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    stored = write_tensor(folder, "t.raw", X)
    write_tensor(tmp_path, "t.raw", X)
    (folder / "link.raw").symlink_to(tmp_path / "t.raw")
    with pytest.raises(BadInput) as caught:
        read_tensor(folder, stored.model_copy(update=lie))
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.raw")
    with pytest.raises(BadInput):
        read_tensor(tmp_path, STORED.model_copy(update={"sha256": "0" * 64}))


def test_a_file_may_be_anywhere_inside(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/../b") == (tmp_path / "b").resolve()


def test_safe_names_keep_plain_ones_and_tell_others_apart() -> None:
    names = ["image", "a/b", "a_b", "a:b", "../x", "x" * 500, "x" * 501, "..", "é"]
    safe = [safe_name(name) for name in names]
    assert safe[0] == "image"
    assert len(set(safe)) == len(names)
    assert all(part not in ("", ".", "..") and "/" not in part and len(part) < 100 for part in safe)
