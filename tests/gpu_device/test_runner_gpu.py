"""The C runner on a real GPU delegate: the local worker's bits, residency, precision and refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.job import PROBE_LINE, JobResult, Precision
from fidelity.devices.run import run_job

sys.path.insert(0, str(Path(__file__).parents[1]))
from runner_program import built, edit, result_of
from test_tflite_builder import GraphBuilder, schema
from tiny_models import job_folder, overflowing, refused, resident, two_in_two_out

pytestmark = pytest.mark.gpu_device
WIDTH, TOKENS = 48, 16
X = np.linspace(-2, 2, 4 * 64, dtype=np.float32).reshape(1, 1, 4, 64)
LARGE = np.float32([300, 1 + 2.0**-12, -300, 0]).reshape(1, 1, 1, 4)


def layer(width: int = WIDTH, tokens: int = TOKENS) -> bytes:
    """x W + b, GELU: sums whose order and width show in the last bits."""
    random = np.random.Generator(np.random.Philox(3))
    graph = GraphBuilder()
    graph.tensor("x", (1, tokens, width))
    graph.constant("w", random.standard_normal((width, width)) / np.sqrt(width))
    graph.constant("b", random.standard_normal(width))
    for name in ("sum", "y"):
        graph.tensor(name, (1, tokens, width))
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    graph.op("FULLY_CONNECTED", ["x", "w", "b"], "sum", options)
    graph.op("GELU", ["sum"], "y", schema.GeluOptionsT())
    return graph.build(["x"], ["y"])


TOKEN_VALUES = np.random.Generator(np.random.Philox(4)).standard_normal((1, TOKENS, WIDTH)).astype(np.float32)
PAIR = np.float32([1.1, 2.2, 3.3, 4.4])
MODELS = {
    "resident": (lambda: resident(64), {"one": {"x": X}, "two": {"x": -X}}),
    "overflowing": (overflowing, {"one": {"x": LARGE}}),
    "two_in_two_out": (two_in_two_out, {"one": {"a": PAIR, "b": PAIR[::-1]}, "two": {"b": PAIR, "a": PAIR[::-1]}}),
    "layer": (layer, {"one": {"x": TOKEN_VALUES}}),
}


def both(gpu: Device, folder: Path, name: str, precision: Precision) -> tuple[JobResult, JobResult]:
    """The runner's result and the local worker's, of the same job."""
    model, inputs = MODELS[name]
    jobs = [
        job_folder(folder / who, model(), inputs, device=gpu.job_device, precision=precision)
        for who in ("runner", "worker")
    ]
    return result_of(built(), jobs[0], environment=gpu.environment), run_job(jobs[1], gpu)


@pytest.mark.parametrize("precision", ["default", "fp32"])
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_are_the_local_workers(gpu: Device, name: str, precision: Precision, tmp_path: Path) -> None:
    ours, theirs = both(gpu, tmp_path, name, precision)
    assert (ours.status, ours.error, theirs.status) == ("ok", None, "ok")
    assert [(o.input, o.tensors) for o in ours.outputs] == [(o.input, o.tensors) for o in theirs.outputs]
    assert (ours.precision_had, ours.residency) == (theirs.precision_had, theirs.residency)
    assert ours.fully_accelerated == theirs.fully_accelerated
    assert ours.adapter is not None
    assert ours.adapter.name == gpu.info.name


@pytest.mark.parametrize(("precision", "had"), [("fp16", "fp16"), ("fp32", "fp32"), ("fp16-accumulate-fp32", "fp16")])
def test_precisions_that_python_cannot_ask_for(gpu: Device, precision: str, had: str, tmp_path: Path) -> None:
    folder = job_folder(tmp_path, overflowing(), {"one": {"x": LARGE}}, device="gpu", precision=precision)
    result = result_of(built(), folder, environment=gpu.environment)
    assert result.status == "ok"
    assert result.precision_had == (had if gpu.info.fp16 else "fp32")
    large = float(load_outputs(folder, result)["one"]["y"].reshape(-1)[0])
    assert (large == 90000.0) == (result.precision_had == "fp32")


def test_without_a_probe_the_precision_is_unknown(gpu: Device, tmp_path: Path) -> None:
    folder = job_folder(tmp_path, resident(64), {"one": {"x": X}}, device="gpu")
    edit(folder, probe=None)
    assert result_of(built(), folder, environment=gpu.environment).precision_had == "unknown"
    assert PROBE_LINE not in (folder / "log.txt").read_text("utf-8", errors="replace")


@pytest.mark.parametrize("probe", ["gone.tflite", "../probe.tflite", "job.json", "model.tflite"])
def test_a_probe_that_is_none_leaves_the_job_as_it_is(gpu: Device, probe: str, tmp_path: Path) -> None:
    folder = job_folder(tmp_path, resident(64), {"one": {"x": X}}, device="gpu")
    edit(folder, probe=probe)
    result = result_of(built(), folder, environment=gpu.environment)
    assert (result.status, result.precision_had) == ("ok", "unknown")
    assert PROBE_LINE in (folder / "log.txt").read_text("utf-8", errors="replace")


def test_refusals_are_told_as_the_local_worker_tells_them(gpu: Device, tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 2, 4, 8)
    folders = [job_folder(tmp_path / who, refused(), {"one": {"x": x}}, device="gpu") for who in ("runner", "worker")]
    ours, theirs = result_of(built(), folders[0], environment=gpu.environment), run_job(folders[1], gpu)
    assert (ours.status, ours.fully_accelerated) == ("ok", False)
    assert ours.residency == theirs.residency
    assert ours.residency is not None
    assert ours.residency.refusals
    assert ours.outputs[0].tensors == theirs.outputs[0].tensors


def test_a_run_takes_longer_than_its_call(gpu: Device, tmp_path: Path) -> None:
    """A GPU's call returns before the work is done; the figure that counts includes reading back."""
    folder = job_folder(tmp_path, layer(512, 256), {"one": {"x": np.ones((1, 256, 512), np.float32)}}, device="gpu")
    edit(folder, warmups=1, repeats=3)
    result = result_of(built(), folder, environment=gpu.environment)
    (output,) = result.outputs
    assert all(0 < e < s for e, s in zip(output.enqueue_seconds, output.seconds, strict=True))
    assert output.deterministic is True
    assert result.timing is not None
    assert result.timing.first == result.timing.warmup[0]
