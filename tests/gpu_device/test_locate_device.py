"""Locating on the real delegate: what taps show has the predicted bits, and a planted fault is found by name.

The fault is planted where a device has it: the file that is judged is right, the one that is run has another constant.
"""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from test_locate import GOOD, ROWS, WIDTH, X, graph_of, network

from fidelity.arithmetic.profile import load_profile
from fidelity.devices.discovery import Device, resolve
from fidelity.localisation.asked import Where
from fidelity.localisation.emulations import TRUTH, emulated
from fidelity.localisation.locate import locate
from fidelity.localisation.on_device import Arrays, Ran, RunModel, on_device
from fidelity.localisation.records import Located
from fidelity.localisation.taps import tappable
from fidelity.localisation.trace import trace
from fidelity.tflite.structure import Graph

pytestmark = pytest.mark.gpu_device
MEASURED = "llvmpipe Mesa 25."  # the driver that a profile is shipped for
PROFILE = "mldrift-webgpu-lavapipe"


@pytest.fixture
def run(gpu: Device) -> RunModel:
    if MEASURED not in str(gpu.info.driver):
        pytest.skip(f"no profile is shipped for {gpu.info.driver}")
    return on_device(gpu)


def other_constant(model: bytes, name: str) -> bytes:
    """The file with another value in one constant, where it has that."""
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    for tensor in parsed.subgraphs[0].tensors:
        if tensor.name.decode() == name:
            buffer = parsed.buffers[tensor.buffer]
            values = np.asarray(buffer.data, np.uint8).tobytes()
            buffer.data = np.frombuffer((np.frombuffer(values, np.float32) * np.float32(-0.75)).tobytes(), np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def located(graph: Graph, run: RunModel) -> Located:
    where = Where("the GPU", run, on_device(resolve("cpu")), profile_of=lambda _: load_profile(PROFILE))
    return locate(graph, {"x": X}, where, GOOD, name="noise").located


def test_every_tap_has_the_bits_that_the_arithmetic_gives(run: RunModel, tmp_path: Path) -> None:
    graph, profile = graph_of(network(), tmp_path), load_profile(PROFILE)
    final = run(bytes(graph.data), {"x": X}).outputs
    truth = emulated(graph, tappable(graph, profile), {"x": X}, load_profile(TRUTH))
    found = trace(graph, {"x": X}, run, final, profile, truth, {}, stands_in=False).trace
    assert (found.changed, found.refused, found.runs) == (False, {}, 1)
    assert [row.tensor for row in found.operators] == list(tappable(graph, profile))
    assert len(found.operators) > 12
    assert {row.identical_share for row in found.operators} == {1.0}


def test_a_right_device_is_as_expected(run: RunModel, tmp_path: Path) -> None:
    found = located(graph_of(network(), tmp_path), run)
    assert (found.kind, found.culprit, found.device_runs) == ("expected", None, 1)


@pytest.mark.parametrize(("constant", "tensor"), [("w0", "product0"), ("s1", "scaled1"), ("w3", "product3")])
def test_a_planted_fault_is_found_by_name(run: RunModel, tmp_path: Path, constant: str, tensor: str) -> None:
    graph = graph_of(network(), tmp_path)

    def faulty(model: bytes, inputs: Arrays) -> Ran:
        return run(other_constant(model, constant), inputs)

    found = located(graph, faulty)
    assert found.kind == "kernel"
    assert found.culprit is not None
    assert graph.main.tensors[found.culprit.tensor].name == tensor
    assert found.culprit.channels[0] < WIDTH
    assert found.device_runs == 3


def test_a_bug_of_this_very_delegate_is_located(run: RunModel, tmp_path: Path) -> None:
    """LiteRT 2.3.0 multiplies every row by the first row of a constant that has one for each."""
    graph = graph_of(network(scale=(ROWS, WIDTH)), tmp_path)
    found = located(graph, run)
    assert found.kind == "kernel"
    assert found.culprit is not None
    assert graph.main.tensors[found.culprit.tensor].name == "scaled0"
    assert found.culprit.identical_share == 1 / ROWS
