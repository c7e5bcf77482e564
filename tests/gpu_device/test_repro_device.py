"""Repro packs of the real delegate: what it does wrong here fails again by run.py, in a new environment too."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from test_locate import GOOD, ROWS, X, graph_of, network
from test_tflite_builder import GraphBuilder

from fidelity.arithmetic.profile import load_profile
from fidelity.devices.discovery import Device as FoundDevice
from fidelity.devices.discovery import resolve
from fidelity.devices.litert import runtime_versions
from fidelity.localisation.asked import Answer, Where
from fidelity.localisation.locate import locate
from fidelity.localisation.on_device import RunModel, on_device
from fidelity.localisation.repro.piece import Blame, smallest
from fidelity.localisation.repro.write import Device, Repro, write_pack
from fidelity.tflite.structure import Graph

pytestmark = pytest.mark.gpu_device
MEASURED = "llvmpipe Mesa 25."  # the driver that a profile is shipped for
PROFILE = "mldrift-webgpu-lavapipe"
ROOT = Path(__file__).parents[2]
WIDTH = X.shape[1]


@pytest.fixture(scope="module")
def run(gpu: FoundDevice) -> RunModel:
    if MEASURED not in str(gpu.info.driver):
        pytest.skip(f"no profile is shipped for {gpu.info.driver}")
    return on_device(gpu)


@pytest.fixture(scope="module")
def of_the_bug(tmp_path_factory: pytest.TempPathFactory, gpu: FoundDevice, run: RunModel) -> Path:
    """The delegate's own: it multiplies every row by the first row of a constant that has one for each."""
    folder = tmp_path_factory.mktemp("bug")
    graph = graph_of(network(scale=(ROWS, WIDTH)), folder)
    return packed(located(graph, run), graph, gpu, folder / "pack")


@pytest.fixture
def bug(of_the_bug: Path, tmp_path: Path) -> Path:
    """A copy, which a test may change."""
    return Path(shutil.copytree(of_the_bug, tmp_path / "pack"))


def located(graph: Graph, run: RunModel) -> Answer:
    where = Where("the GPU", run, on_device(resolve("cpu")), profile_of=lambda _: load_profile(PROFILE))
    return locate(graph, {"x": X}, where, GOOD, name="noise")


def packed(answer: Answer, graph: Graph, gpu: FoundDevice, folder: Path) -> Path:
    assert answer.case is not None
    piece = smallest(Blame(answer.case, answer.operators, answer.located.kind, answer.truth))
    assert piece is not None
    device = Device(
        name=gpu.info.name,
        driver=gpu.info.driver,
        accelerator="gpu",
        precision="default",
        versions=runtime_versions(),
    )
    write_pack(folder, piece, graph, answer.located, device)
    return folder


def replay(python: Path, folder: Path, gpu: FoundDevice, *options: str, given: dict[str, str]) -> tuple[int, str]:
    """run.py, with the driver that the device has."""
    command = [str(python), str(folder / "run.py"), *options]
    variables = {**given, **gpu.environment}
    done = subprocess.run(command, env=variables, cwd="/", capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_bug_of_this_very_delegate_fails_again(bug: Path, gpu: FoundDevice) -> None:
    record = Repro.read(bug / "repro.json")
    assert record.kind == "kernel"
    assert [op.name for op in record.operators] == ["MUL"]
    code, told = replay(Path(sys.executable), bug, gpu, given=dict(os.environ))
    assert code == 1, told
    assert "the GPU took every node" in told
    assert "the recorded bits" in told
    assert "[1, 0]:" in told  # the first row is right
    code, told = replay(Path(sys.executable), bug, gpu, "--device", "cpu", given=dict(os.environ))
    assert code == 0, told


def changed(pack: Path, model: bytes | None = None, **device: str) -> Path:
    """Another model or another precision in a pack, recorded as if it was meant."""
    record = json.loads((pack / "repro.json").read_text())
    record["device"].update(device)
    if model is not None:
        (pack / "model.tflite").write_bytes(model)
        record["files"]["model.tflite"] = hashlib.sha256(model).hexdigest()
    (pack / "repro.json").write_text(json.dumps(record))
    return pack


def test_in_fp32_it_fails_as_well(bug: Path, gpu: FoundDevice) -> None:
    code, told = replay(Path(sys.executable), changed(bug, precision="fp32"), gpu, given=dict(os.environ))
    assert (code, "other bits than recorded" in told) == (1, True), told


def test_an_overflow_fails_again_and_is_cured_by_fp32(tmp_path: Path, gpu: FoundDevice, run: RunModel) -> None:
    graph = graph_of(network(gain=400.0), tmp_path)
    answer = located(graph, run)
    assert answer.located.kind == "overflow"
    folder = packed(answer, graph, gpu, tmp_path / "pack")
    assert len(Repro.read(folder / "repro.json").operators) == 1
    code, told = replay(Path(sys.executable), folder, gpu, given=dict(os.environ))
    assert (code, "relative L2 inf" in told) == (1, True), told
    code, told = replay(Path(sys.executable), changed(folder, precision="fp32"), gpu, given=dict(os.environ))
    assert (code, "right on gpu" in told) == (0, True), told


def test_a_model_that_the_device_refuses_is_neither_wrong_nor_right(bug: Path, gpu: FoundDevice) -> None:
    builder = GraphBuilder()
    for name in ("x", "y"):
        builder.tensor(name, (1, 2, 2, 2, 2, 2))
    builder.op("RELU_N1_TO_1", ["x"], "y")
    pack = changed(bug, builder.build(["x"], ["y"]))
    code, told = replay(Path(sys.executable), pack, gpu, given=dict(os.environ))
    assert (code, "refuses the model" in told) == (3, True), told


def test_in_a_new_environment_it_fails_again(bug: Path, gpu: FoundDevice, tmp_path: Path) -> None:
    """LiteRT and NumPy of the versions that are measured, and nothing of this product."""
    venv.create(tmp_path / "new", with_pip=True)
    python = tmp_path / "new" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt"]
    done = subprocess.run([*pip, "ai-edge-litert", "numpy"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = subprocess.run([python, "-c", "import fidelity"], cwd="/", capture_output=True, timeout=60, check=False)
    assert b"ModuleNotFoundError" in found.stderr
    plain = {key: value for key, value in os.environ.items() if key in ("HOME", "LANG", "TMPDIR")}
    code, told = replay(python, bug, gpu, given=plain)
    assert code == 1, told
    assert "the recorded bits" in told
