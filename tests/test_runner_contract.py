"""The C runner against the job contract on the CPU: the local worker's bits, and every exit code."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from runner_program import CODES, SANITIZERS, Ended, built, compiled, edit, result_of, run
from test_tflite_builder import GraphBuilder, add_and_scale, schema
from tiny_models import (
    X,
    Y,
    add_and_scale_job,
    integers,
    job_folder,
    one_line,
    overflowing,
    resident,
    sha256,
    two_in_two_out,
)

from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import resolve
from fidelity.devices.job import Job, JobResult, RunOutput, Timing
from fidelity.devices.run import run_job
from fidelity.devices.runner_build import runtime_folder
from fidelity.devices.runner_sources import version
from fidelity.devices.tensor_files import safe_name

CPU = resolve("cpu")
DTYPES = (
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
)
REQUIRED = {name for name, field in Job.model_fields.items() if field.is_required()}


@pytest.fixture(scope="session", params=["built", "sanitized"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner as it is installed, and compiled under AddressSanitizer and UndefinedBehaviorSanitizer."""
    if request.param == "built":
        return built()
    return compiled(tmp_path_factory.mktemp("sanitized") / "runner", *SANITIZERS)


def moved(dtype: str, shape: tuple[int, ...] = (2, 3)) -> bytes:
    """y = x, turned to another shape: any dtype goes through as it is."""
    graph = GraphBuilder()
    flat = (int(np.prod(shape)),)
    graph.tensor("x", shape, dtype.upper())
    graph.constant("shape", flat, "int32")
    graph.tensor("y", flat, dtype.upper())
    options = schema.ReshapeOptionsT()
    options.newShape = list(flat)
    graph.op("RESHAPE", ["x", "shape"], "y", options)
    return graph.build(["x"], ["y"])


def values(dtype: str, count: int) -> NDArray[np.generic]:
    """Values of every bit pattern that a dtype's job may have: random bytes, made finite."""
    raw = np.random.Generator(np.random.Philox(7)).bytes(count * np.dtype(dtype).itemsize)
    array = np.frombuffer(raw, dtype).copy() if dtype != "bool" else np.frombuffer(raw, np.uint8) % 2 == 1
    if array.dtype.kind == "f":
        array[~np.isfinite(array)] = 1
    return array


MODELS: dict[str, tuple[Callable[[], bytes], dict[str, dict[str, NDArray[np.generic]]]]] = {
    "add_and_scale": (add_and_scale, {"one": {"x": X}, "two": {"x": -X}}),
    "two_in_two_out": (two_in_two_out, {"one": {"a": values("float32", 4), "b": values("float32", 4)}}),
    "integers": (integers, {"one": {"x": np.array([1, -(2**30), 2**24 + 1], dtype=np.int32)}}),
    "overflowing": (overflowing, {"one": {"x": np.float32([1e30, -1e30, 1, 0]).reshape(1, 1, 1, 4)}}),
    "resident": (lambda: resident(64), {"one": {"x": np.linspace(-3, 3, 256, dtype=np.float32).reshape(1, 1, 4, 64)}}),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_bits_are_the_local_workers(name: str, program: Path, tmp_path: Path) -> None:
    model, inputs = MODELS[name]
    theirs = run_job(job_folder(tmp_path / "worker", model(), inputs), CPU)
    ours = result_of(program, job_folder(tmp_path / "runner", model(), inputs))
    assert (ours.status, theirs.status, ours.error) == ("ok", "ok", None)
    for mine, other in zip(ours.outputs, theirs.outputs, strict=True):
        assert mine.input == other.input
        assert mine.tensors == other.tensors  # file, dtype, shape and hash


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_goes_through_with_its_bits(dtype: str, program: Path, tmp_path: Path) -> None:
    """Python's runtime cannot read several of these, so that the values given are the reference."""
    x = values(dtype, 6).reshape(2, 3)
    folder = job_folder(tmp_path, moved(dtype), {"one": {"x": x}})
    result = result_of(program, folder)
    assert (result.status, result.error) == ("ok", None)
    y = load_outputs(folder, result)["one"]["y"]
    assert (y.dtype, y.shape) == (x.dtype, (6,))
    assert y.tobytes() == x.tobytes()


@pytest.mark.parametrize("dtype", ["INT4", "COMPLEX64", "STRING", "BFLOAT16"])
def test_a_dtype_without_a_raw_form_is_refused_by_name(dtype: str, program: Path, tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (2,), dtype)
    graph.constant("shape", [2], "int32")
    graph.tensor("y", (2,), dtype)
    graph.op("RESHAPE", ["x", "shape"], "y", schema.ReshapeOptionsT())
    folder = job_folder(tmp_path, graph.build(["x"], ["y"]), {"one": {"x": X}})
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (5, "bad_input")
    assert f"input 'x': {dtype.lower()} " in one_line(result)


def test_a_model_without_inputs_runs(program: Path, tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.constant("a", [1.0, 2.0])
    graph.constant("b", [10.0, 20.0])
    graph.tensor("y", (2,))
    graph.op("ADD", ["a", "b"], "y", schema.AddOptionsT())
    folder = job_folder(tmp_path, graph.build([], ["y"]), {"one": {}})
    result = result_of(program, folder)
    assert (result.status, result.error) == ("ok", None)
    np.testing.assert_array_equal(load_outputs(folder, result)["one"]["y"], [11, 22])


def test_a_scalar_runs(program: Path, tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", ())
    graph.tensor("y", ())
    graph.op("ADD", ["x", "x"], "y", schema.AddOptionsT())
    folder = job_folder(tmp_path, graph.build(["x"], ["y"]), {"one": {"x": np.float32(3)}})
    result = result_of(program, folder)
    assert (result.status, result.error) == ("ok", None)
    assert load_outputs(folder, result)["one"]["y"] == np.float32(6)


def test_the_record_is_whole(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    result = result_of(program, folder)
    assert (result.device, result.precision_had, result.fully_accelerated) == ("cpu", "fp32", None)
    assert result.model_sha256 == sha256(folder / "model.tflite")
    assert (result.peak_memory_bytes or 0) > 1 << 20
    assert result.runtime["runner"] == version()
    assert result.runtime["libLiteRt.so"] == sha256(runtime_folder() / "libLiteRt.so")
    assert (result.runtime["machine"], result.runtime["registered"]) == (os.uname().machine, "CpuAccelerator")
    assert result.outputs[0].deterministic is None
    assert "Creating LiteRT environment" in (folder / "log.txt").read_text("utf-8")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("inputs", "job.json", "log.txt", "model.tflite", "outputs", "result.json")
    ]


def test_runs_are_counted_as_the_contract_says(program: Path, tmp_path: Path) -> None:
    inputs = {name: {"x": X + i} for i, name in enumerate(("a", "b", "c"))}
    folder = job_folder(tmp_path, add_and_scale(), inputs)
    edit(folder, warmups=3, repeats=5, repeat_only=("b", "no such input"))
    result = result_of(program, folder)
    assert result.status == "ok"
    assert [(len(o.seconds), len(o.enqueue_seconds), o.deterministic) for o in result.outputs] == [
        (1, 1, None),
        (5, 5, True),
        (1, 1, None),
    ]
    assert all(e <= s for o in result.outputs for e, s in zip(o.enqueue_seconds, o.seconds, strict=True))
    assert result.timing is not None
    assert len(result.timing.warmup) == 3
    assert result.timing.first == result.timing.warmup[0]
    kept = [seconds for output in result.outputs for seconds in output.seconds]
    assert result.timing.steady == float(np.median(kept))


def test_a_first_run_is_not_steady(program: Path, tmp_path: Path) -> None:
    folder = job_folder(tmp_path, add_and_scale(), {"a": {"x": X}})
    edit(folder, repeats=4)
    timing = result_of(program, folder).timing
    assert timing is not None
    (output,) = JobResult.read(folder / "result.json").outputs
    assert (timing.first, timing.steady) == (output.seconds[0], float(np.median(output.seconds[1:])))


def test_runs_end_after_repeat_seconds_but_not_before_the_second(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    edit(folder, repeats=1_000_000_000, repeat_seconds=0.05)
    seconds = result_of(program, folder).outputs[0].seconds
    assert len(seconds) >= 2
    assert sum(seconds[:-1]) < 0.05 <= sum(seconds)
    edit(folder, repeat_seconds=1e-12)
    assert len(result_of(program, folder).outputs[0].seconds) == 2


def test_names_are_the_harnesss_file_names(program: Path, tmp_path: Path) -> None:
    """And so SHA-256 is right for every length of its last block: the names are hashed."""
    names = ["../../evil", "a/b", "a b", "é", "", "." * 300, "\U0001f600" * 90, 'q"\\\n\t\x7f', "\u200b"]
    names += [f"{n:03}" + "é" * (n // 2) + "x" * (n % 2) for n in range(140)]
    folder = job_folder(tmp_path, add_and_scale(), {name: {"x": X} for name in names})
    result = result_of(program, folder)
    assert (result.status, result.error) == ("ok", None)
    assert [output.input for output in result.outputs] == names
    for output in result.outputs:
        assert output.tensors["y"].file == f"outputs/{safe_name(output.input + '/y')}.raw"


def test_thermal_zones_are_read_before_and_after(program: Path, tmp_path: Path) -> None:
    zones = {3: ("gpu", "41500"), 0: ("cpu", "40000"), 12: ("cpu", "-5250"), 4: ("broken", "none"), 5: ("", "1")}
    for number, (kind, temperature) in zones.items():
        zone = tmp_path / "thermal" / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(temperature + "\n")
    (tmp_path / "thermal" / "cooling_device0").mkdir()
    thermal = result_of(program, add_and_scale_job(tmp_path), "--thermal", str(tmp_path / "thermal")).thermal
    assert thermal is not None
    assert thermal.before == thermal.after == {"cpu": 40.0, "gpu": 41.5, "cpu (12)": -5.25}
    folder = add_and_scale_job(tmp_path / "without")
    assert result_of(program, folder, "--thermal", str(tmp_path / "nothing")).thermal is None


def test_a_job_without_inputs_gives_no_outputs(program: Path, tmp_path: Path) -> None:
    result = result_of(program, job_folder(tmp_path, add_and_scale(), {}))
    assert (result.outputs, result.timing) == ((), None)


def test_a_linked_model_and_input_are_read_and_stay_as_they_are(program: Path, tmp_path: Path) -> None:
    """A device links both from a store that other jobs share: outputs must not be written through a link."""
    folder = add_and_scale_job(tmp_path)
    store = tmp_path / "store"
    store.mkdir()
    (stored,) = (folder / "inputs").iterdir()
    for path in (folder / "model.tflite", stored):
        path.rename(store / path.name)
        path.symlink_to(store / path.name)
    shared = store / "shared"
    shared.write_bytes(b"another job's")
    (folder / "outputs").mkdir()
    output = folder / "outputs" / f"{safe_name('one/y')}.raw"
    output.symlink_to(shared)
    assert run(program, folder) == Ended(0, "")
    np.testing.assert_array_equal(np.fromfile(output, np.float32), Y.reshape(-1))
    assert not output.is_symlink()
    assert shared.read_bytes() == b"another job's"


# --- every exit code, and what it says ---


def bad_field(folder: Path, **changes: object) -> None:
    document = json.loads((folder / "job.json").read_text("utf-8"))
    for name, value in changes.items():
        if value is ...:
            del document[name]
        else:
            document[name] = value
    (folder / "job.json").write_text(json.dumps(document), "utf-8")


BAD_JOBS = [
    ({"model": ...}, "job.json: field 'model': missing"),
    ({"model": 3}, "field 'model': a text expected"),
    ({"device": None}, "field 'device': a text expected"),
    ({"surprise": 1}, "field 'surprise': there is no such field"),
    ({"precision": "fp8"}, "field 'precision': default, fp16, fp32 or fp16-accumulate-fp32 expected"),
    ({"signature": 1}, "field 'signature': a text expected"),
    ({"inputs": {}}, "field 'inputs': a list expected"),
    ({"inputs": [1]}, "field 'inputs.0.': an object expected"),
    ({"inputs": [{"name": "a"}]}, "field 'inputs.0.tensors': missing"),
    ({"inputs": [{"name": "a", "tensors": {"x": {}}}]}, "field 'inputs.0.tensors.x.file': missing"),
    ({"inputs": [{"name": "a", "tensors": {}}] * 2}, "field 'inputs': two are named 'a'"),
    ({"warmups": -1}, "field 'warmups': too small"),
    ({"warmups": "1"}, "field 'warmups': a whole number expected"),
    ({"repeats": 0}, "field 'repeats': too small"),
    ({"repeats": 1.5}, "field 'repeats': a whole number expected"),
    ({"repeats": True}, "field 'repeats': a whole number expected"),
    ({"repeats": 10**30}, "field 'repeats': a whole number expected"),
    ({"repeat_seconds": 0}, "field 'repeat_seconds': more than 0 expected"),
    ({"repeat_seconds": "soon"}, "field 'repeat_seconds': a number expected"),
    ({"repeat_only": "one"}, "field 'repeat_only': a list expected"),
    ({"repeat_only": [1]}, "field 'repeat_only': texts expected"),
    ({"probe": []}, "field 'probe': a text expected"),
    ({"threads": 10**6}, "field 'threads': too large"),
    ({"timeout_seconds": None}, "field 'timeout_seconds': a number expected"),
    ({"memory_limit_bytes": "much"}, "field 'memory_limit_bytes': a whole number expected"),
]


@pytest.mark.parametrize(("changes", "told"), BAD_JOBS, ids=lambda each: str(each)[:40])
def test_2_a_field_that_is_wrong_is_named(changes: dict[str, object], told: str, program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    bad_field(folder, **changes)
    assert_bad_job(run(program, folder), told, folder)


def assert_bad_job(ended: Ended, told: str, folder: Path) -> None:
    assert ended.code == 2
    assert told in ended.said
    assert ended.said.count("\n") == 1
    assert told in (folder / "log.txt").read_text("utf-8")
    assert not (folder / "result.json").exists()


DOCUMENTS = [
    (b"", "a value expected"),
    (b"[]", "an object expected"),
    (b"{", "a text expected"),
    (b'{"a": 1,}', "a text expected"),
    (b'{"a" 1}', "':' expected"),
    (b'{"a": 1 "b": 2}', "',' or '}' expected"),
    (b'{"a": 1, "a": 2}', "a key given twice"),
    (b'{"a": NaN}', "a value expected"),
    (b'{"a": 01}', "',' or '}' expected"),
    (b'{"a": 1.}', "a digit expected"),
    (b'{"a": 1e999}', "past the largest double"),
    (b'{"a": "\\ud800"}', "half a surrogate pair"),
    (b'{"a": "\\ud800\\u0041"}', "half a surrogate pair"),
    (b'{"a": "\\u0000"}', "NUL in a text"),
    (b'{"a": "\\x"}', "an escape that there is not"),
    (b'{"a": "\xff"}', "not UTF-8"),
    (b'{"a": "\xc0\x80"}', "not UTF-8"),
    (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    (b'{"a": "\n"}', "control character"),
    (b'{"a": "', "a text that does not end"),
    (b'{"a": "\\', "an escape that there is not"),
    (b"{} {}", "something behind the document"),
    (b"{}\0", "something behind the document"),
    (b"\xef\xbb\xbf{}", "a value expected"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a":' * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("document", "told"), DOCUMENTS, ids=lambda each: repr(each)[:30])
def test_2_what_is_not_json_is_told_with_its_place(document: bytes, told: str, program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    (folder / "job.json").write_bytes(document)
    assert_bad_job(run(program, folder), told, folder)


def test_2_usage(program: Path, tmp_path: Path) -> None:
    assert run(program, tmp_path / "nowhere").code == 2
    assert run(program, tmp_path, "another").code == 2
    assert run(program, tmp_path, "--thermal").code == 2
    assert run(program, tmp_path, "--surprise").code == 2


def test_3_no_runtime_library(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    ended = run(program, folder, runtime=tmp_path)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (3, "no_device")
    assert "libLiteRt.so" in one_line(result)


def test_3_no_accelerator(program: Path, tmp_path: Path) -> None:
    """A GPU job where the runtime is, and its GPU library is not."""
    (tmp_path / "libLiteRt.so").symlink_to(runtime_folder() / "libLiteRt.so")
    folder = add_and_scale_job(tmp_path / "job", device="gpu")
    ended = run(program, folder, runtime=tmp_path)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (3, "no_device")
    assert "no GPU accelerator" in one_line(result)


def test_3_a_device_of_no_kind(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path, device="npu")
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (3, "no_device")
    assert "device 'npu'" in one_line(result)


def test_3_another_library_under_the_name(program: Path, tmp_path: Path) -> None:
    (tmp_path / "libLiteRt.so").write_bytes(b"\x7fELF no library")
    folder = add_and_scale_job(tmp_path / "job")
    assert run(program, folder, runtime=tmp_path).code == 3
    one_line(JobResult.read(folder / "result.json"))


@pytest.mark.parametrize("kept", [0, 7, 8, 64, 0.3, 0.6, 0.9, 0.99])
def test_4_a_cut_model(kept: float, program: Path, tmp_path: Path) -> None:
    whole = resident(64)
    folder = job_folder(tmp_path, whole[: int(kept * len(whole)) if isinstance(kept, float) else kept], {})
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (4, "bad_model")
    assert "model.tflite" in one_line(result)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_sha256": "0" * 64}, "the job says 0000000000000000..."),
        ({"model": "../given.tflite"}, "not a path inside the job folder"),
        ({"model": "/etc/hostname"}, "not a path inside the job folder"),
        ({"model": "a/../model.tflite"}, "not a path inside the job folder"),
        ({"model": ""}, "not a path inside the job folder"),
        ({"model": "gone.tflite"}, "cannot be read: No such file"),
        ({"model": "inputs"}, "not a regular file"),
        ({"model": "job.json"}, "not a .tflite file"),
    ],
)
def test_4_a_model_that_is_not_the_jobs(changes: dict[str, str], told: str, program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    edit(folder, **changes)
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (4, "bad_model")
    assert told in one_line(result)


BAD_INPUTS: list[tuple[dict[str, NDArray[np.generic]], str]] = [
    ({"x": X[:1]}, "input 'x': float32 (1, 3) given, the model takes float32 (2, 3)"),
    ({"x": X.reshape(3, 2)}, "float32 (3, 2) given"),
    ({"x": X.reshape(6)}, "float32 (6,) given"),
    ({"x": X.astype(np.float64)}, "float64 (2, 3) given"),
    ({"z": X}, "'x' is missing, which the signature serving_default takes"),
    ({"x": X, "z": X}, "2 inputs given, the signature serving_default takes 1"),
    ({}, "0 inputs given"),
    ({"x": np.where(X == 2, np.float32("nan"), X)}, "input 'x': holds NaN or Inf"),
    ({"x": np.where(X == 2, np.float32("-inf"), X)}, "input 'x': holds NaN or Inf"),
]


@pytest.mark.parametrize(("tensors", "told"), BAD_INPUTS, ids=lambda each: str(each)[:30])
def test_5_an_input_that_does_not_fit(
    tensors: dict[str, NDArray[np.generic]], told: str, program: Path, tmp_path: Path
) -> None:
    """Before anything runs: the input that fits, which comes first, is not run either."""
    folder = job_folder(tmp_path, add_and_scale(), {"good": {"x": X}, "bad": tensors})
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status, result.outputs) == (5, "bad_input", ())
    assert told in one_line(result)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_5_no_float_may_be_without_a_value(dtype: str, value: str, program: Path, tmp_path: Path) -> None:
    x = np.array([1, 2, 3, 4, 5, value], dtype).reshape(2, 3)
    folder = job_folder(tmp_path, moved(dtype), {"one": {"x": x}})
    assert run(program, folder).code == 5
    assert "holds NaN or Inf" in one_line(JobResult.read(folder / "result.json"))


def test_5_an_altered_a_short_and_a_missing_input(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    (stored,) = (folder / "inputs").iterdir()
    whole = stored.read_bytes()
    for content, told in ((bytes(len(whole)), "sha256"), (whole[:-1], "23 bytes"), (whole + b"0", "larger than 24")):
        stored.write_bytes(content)
        assert run(program, folder).code == 5
        assert told in one_line(JobResult.read(folder / "result.json"))
    stored.unlink()
    assert run(program, folder).code == 5
    os.mkfifo(stored)  # not waited for
    assert run(program, folder).code == 5
    assert "not a regular file" in one_line(JobResult.read(folder / "result.json"))


def test_5_an_unknown_signature_is_told_with_those_there_are(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path, signature="encode")
    assert run(program, folder).code == 5
    assert one_line(JobResult.read(folder / "result.json")) == "signature 'encode': the model has 'serving_default'"


def test_6_what_the_runtime_will_not_compile(program: Path, tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (2, 3))
    graph.tensor("y", (2, 3))
    graph.codes.append((250, None))  # an operation of a schema that is not written yet
    graph.op("ADD", ["x", "x"], "y", schema.AddOptionsT())
    graph.operators[0].opcodeIndex = 0
    folder = job_folder(tmp_path, graph.build(["x"], ["y"]), {"one": {"x": X}})
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (6, "refused")
    assert "LiteRtCreateCompiledModel: status" in one_line(result)


def test_7_a_job_past_its_time_stops_between_two_runs(program: Path, tmp_path: Path) -> None:
    folder = job_folder(tmp_path, add_and_scale(), {"one": {"x": X}, "two": {"x": X}})
    edit(folder, repeats=10**12, repeat_only=("two",), timeout_seconds=0.3)
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (7, "timeout")
    assert [output.input for output in result.outputs] == ["one"]  # what was finished
    one_line(result)


def test_7_a_run_that_fails(program: Path, tmp_path: Path) -> None:
    """GATHER of an index that is not there: compiled, and an error when it runs."""
    graph = GraphBuilder()
    graph.constant("table", np.arange(6).reshape(3, 2))
    graph.tensor("x", (1,), "INT32")
    graph.tensor("y", (1, 2))
    graph.op("GATHER", ["table", "x"], "y", schema.GatherOptionsT())
    folder = job_folder(
        tmp_path, graph.build(["x"], ["y"]), {"good": {"x": np.int32([2])}, "bad": {"x": np.int32([1000])}}
    )
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (7, "run_failed")
    assert "LiteRtRunCompiledModel: status" in one_line(result)
    assert [output.input for output in result.outputs] == ["good"]


def test_8_no_room_for_outputs_or_result(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    (folder / "outputs").write_bytes(b"")
    ended = run(program, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (8, "transfer_failed")
    assert "outputs" in one_line(result)
    (folder / "outputs").unlink()
    (folder / "result.json").unlink()
    (folder / "result.json").mkdir()
    assert run(program, folder).code == 8
    assert not list(folder.glob("*.part"))


def test_8_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    """As installed only: sanitizers need room of their own."""
    x = np.zeros(1 << 16, np.float32)
    folder = job_folder(tmp_path, moved("float32", x.shape), {"one": {"x": x}})
    limited = tmp_path / "limited"
    limited.write_text(f'#!/bin/sh\nulimit -f 64\nexec {built()} "$@"\n')
    limited.chmod(stat.S_IRWXU)
    ended = run(limited, folder)
    result = JobResult.read(folder / "result.json")
    assert (ended.code, result.status) == (8, "transfer_failed")
    assert "File too large" in one_line(result)
    assert not list((folder / "outputs").iterdir())


def test_8_a_log_that_cannot_be_written(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    (folder / "log.txt").symlink_to(tmp_path / "elsewhere")
    assert run(program, folder).code == 8
    assert not (tmp_path / "elsewhere").exists()


def test_an_old_result_is_never_taken_for_a_new_one(program: Path, tmp_path: Path) -> None:
    folder = add_and_scale_job(tmp_path)
    assert run(program, folder).code == 0
    (folder / "job.json").write_bytes(b"{}")
    assert run(program, folder).code == 2
    assert not (folder / "result.json").exists()


def test_help_tells_every_code(program: Path) -> None:
    told = subprocess.run([str(program), "--help"], capture_output=True, text=True, check=True).stdout
    codes = {int(line.split()[0]) for line in told.splitlines() if line.startswith("  ") and line.split()[0].isdigit()}
    assert codes == CODES
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    assert said == f"{version()}\n"


def test_the_fields_are_those_of_the_contract(program: Path, tmp_path: Path) -> None:
    """Every field of Job is known to the runner, and a result has every field of JobResult and no other."""
    folder = add_and_scale_job(tmp_path)
    bad_field(folder, **{name: None for name in Job.model_fields if name not in REQUIRED})
    said = run(program, folder).said
    assert "there is no such field" not in said
    good = add_and_scale_job(tmp_path / "good")
    assert run(program, good).code == 0
    document = json.loads((good / "result.json").read_text("utf-8"))
    assert document.keys() == JobResult.model_fields.keys()
    assert document["timing"].keys() == Timing.model_fields.keys()
    assert document["outputs"][0].keys() == RunOutput.model_fields.keys()
