"""`fidelity locate` where it cannot answer, and where there is nothing to answer: one line, the right exit code.

The GPU is the emulator behind the job contract, so that what it has wrong is known.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import test_locate
from test_locate_resume import PHONE, Executor
from test_tflite_builder import GraphBuilder
from test_tflite_emulation import options

from fidelity.api import artefacts
from fidelity.cli import main
from fidelity.devices.discovery import Device
from fidelity.devices.job import JobResult
from fidelity.localisation import on_device
from fidelity.localisation.on_device import Ran
from fidelity.tflite.emulation.emulate import Emulator

ROOT = Path(__file__).parents[2]
IMAGE = (1, 3, 8, 8)
MEASURED = "mldrift-webgpu-lavapipe"
Called = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, executor: Executor
) -> Called:
    """Calls `fidelity locate`: exit code, lines of stdout, what is said as an error. gpu is the emulated phone."""
    resolve = artefacts.resolve
    monkeypatch.setattr(artefacts, "resolve", lambda spec: PHONE if spec == "gpu" else resolve(spec))
    monkeypatch.setattr("fidelity.cache.platformdirs.user_cache_dir", lambda _: str(tmp_path / "cache"))
    monkeypatch.chdir(ROOT)

    def call(*arguments: str | Path) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["fidelity", "locate", *map(str, arguments), "-o", str(tmp_path / "reports")])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        errors = [line for line in told.err.splitlines() if line.startswith("fidelity: ")]
        assert "Traceback" not in told.err
        return int(ended.value.code or 0), told.out.splitlines(), errors

    return call


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Executor:
    found = Executor()
    monkeypatch.setattr(on_device, "run_job", found)
    return found


def stored(folder: Path, graph: GraphBuilder, outputs: list[str]) -> Path:
    path = folder / "image.tflite"
    path.write_bytes(graph.build(["image"], outputs))
    return path


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """Three operators of an image, each of which rounds, and the last a little nonlinear."""
    graph = GraphBuilder()
    graph.tensor("image", IMAGE)
    graph.constant("gain", np.linspace(0.7, 1.3, 8))
    graph.constant("shift", np.linspace(0.1, 0.2, 8))
    graph.op("MUL", ["image", "gain"], graph.tensor("scaled", IMAGE), options("Mul"))
    graph.op("GELU", ["scaled"], graph.tensor("gelu", IMAGE), options("Gelu"))
    graph.op("ADD", ["gelu", "shift"], graph.tensor("y", IMAGE), options("Add"))
    return stored(tmp_path, graph, ["y"])


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("golden:nothing", ["golden 'nothing'", "there are: pe-core-b16, two-block"]),
        ("golden:", ["golden ''", "there are"]),
        ("golden:../golden/two-block", ["none of that name"]),
        ("two-block", ["reference 'two-block'", "timm:NAME or golden:NAME"]),
        ("timm:no_such_model", ["no_such_model"]),
    ],
)
def test_a_reference_that_is_not_there(called: Called, artefact: Path, reference: str, words: list[str]) -> None:
    code, out, errors = called(artefact, "--device", "gpu", "--reference", reference)
    assert (code, out, len(errors)) == (2, [], 1)
    assert all(word in errors[0] for word in words), errors


def test_an_input_that_is_not_there(called: Called, artefact: Path) -> None:
    code, _, errors = called(artefact, "--device", "gpu", "--input", "dog")
    assert (code, len(errors)) == (2, 1)
    assert "'dog'" in errors[0]
    assert "astronaut" in errors[0]


@pytest.fixture
def other_images(tmp_path: Path) -> Path:
    """The committed photographs, one of them under a name that no golden knows."""
    folder = tmp_path / "images"
    shutil.copytree(ROOT / "golden/images", folder)
    (folder / "astronaut.png").rename(folder / "stranger.png")
    listed = (folder / "provenance.json").read_text()
    (folder / "provenance.json").write_text(listed.replace('"astronaut.png"', '"stranger.png"'))
    return folder


def test_a_golden_without_the_input(called: Called, artefact: Path, other_images: Path) -> None:
    code, _, errors = called(
        artefact, "--reference", "golden:two-block", "--images", other_images, "--input", "stranger"
    )
    assert (code, len(errors)) == (2, 1)
    assert "stranger" in errors[0]
    assert "golden:two-block" in errors[0]


def test_a_reference_of_another_shape_is_no_fault_of_the_converter(called: Called, artefact: Path) -> None:
    code, _, errors = called(artefact, "--reference", "golden:two-block")
    assert (code, len(errors)) == (2, 1)
    assert "[1, 3, 8, 8]" in errors[0]


def test_an_operator_of_several_outputs_is_computed_or_named_with_what_to_do(called: Called, tmp_path: Path) -> None:
    graph = GraphBuilder()
    part = (1, 1, 8, 8)
    graph.tensor("image", IMAGE)
    graph.constant("axis", 1, "int32")
    graph.op("SPLIT", ["axis", "image"], graph.tensor("red", part), options("Split", numSplits=3))
    for name in ("green", "blue"):
        graph.operators[-1].outputs.append(graph.names[graph.tensor(name, part)])
    graph.op("ADD", ["red", "green"], graph.tensor("both", part), options("Add"))
    graph.op("ADD", ["both", "blue"], graph.tensor("sum", part), options("Add"))
    code, told, _ = called(stored(tmp_path, graph, ["sum"]), "--device", "cpu")
    assert (code, told[0]) == (0, "RIGHT")
    graph.constant("two", 2, "int32")
    graph.op("TOPK_V2", ["sum", "two"], graph.tensor("largest", (1, 1, 8, 2)), options("TopKV2"))
    graph.operators[-1].outputs.append(graph.names[graph.tensor("where", (1, 1, 8, 2), "INT32")])
    graph.op("ADD", ["largest", "largest"], graph.tensor("twice", (1, 1, 8, 2)), options("Add"))
    graph.op("ADD", ["twice", "largest"], graph.tensor("y", (1, 1, 8, 2)), options("Add"))
    code, _, errors = called(stored(tmp_path, graph, ["y"]), "--device", "cpu")
    assert (code, len(errors)) == (2, 1)
    for words in ("op 3 TOPK_V2: TOPK_V2 with 2 outputs", "the 2 operators after it", "cut them off, or build"):
        assert words in errors[0], errors


def slightly(share: float) -> Callable[[np.ndarray], None]:
    def spoil(values: np.ndarray) -> None:
        values *= np.float32(1 + share)

    return spoil


def test_a_fault_below_the_noise_is_expected_and_passes(
    called: Called, artefact: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_locate_resume.negated", slightly(2.0**-13))
    executor.faulty = "gelu"
    code, out, _ = called(artefact, "--device", "gpu", "--profile", MEASURED)
    assert code == 0
    assert out[0] in ("RIGHT", "EXPECTED")
    assert f"and {MEASURED} must give" in out[1]
    assert "1 run(s) of the device" in out


def test_a_fault_above_it_fails_and_names_the_operator(
    called: Called, artefact: Path, executor: Executor, tmp_path: Path
) -> None:
    executor.faulty = "gelu"
    code, out, _ = called(artefact, "--device", "gpu", "--profile", MEASURED)
    assert (code, out[0]) == (1, "KERNEL: op 1 GELU")
    code, out, _ = called(artefact, "--device", "gpu", "--profile", MEASURED, "--json")
    told = json.loads("\n".join(out))
    assert (code, told["kind"], told["culprit"]["name"]) == (1, "kernel", "GELU")


def test_many_small_faults_are_no_single_operators(tmp_path: Path) -> None:
    """Every result 2^-12 too large: each below the noise, and their sum above it where no operator is to blame."""
    graph = test_locate.graph_of(test_locate.network(), tmp_path)

    def run(model: bytes, inputs: dict[str, np.ndarray]) -> Ran:
        def watch(_: object) -> Callable[[str, np.ndarray], None]:
            return lambda part, values: slightly(2.0**-12)(values) if part == "result" else None

        whole = test_locate.graph_of(model, tmp_path)
        return Ran(Emulator(whole, test_locate.MEASURED).run(inputs, watch).outputs, resident=True)

    found = test_locate.located(graph, run, tmp_path)
    assert (found.kind, found.culprit) in (("unlocated", None), ("compounding", None))


@pytest.mark.parametrize("how", ["partly", "refused"])
def test_what_does_not_run_there_is_fallback(
    called: Called, artefact: Path, executor: Executor, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path, device: Device) -> JobResult:
        result = executor(folder, device)
        if device.job_device == "cpu":
            return result
        if how == "refused":
            return result.model_copy(update={"status": "refused", "error": "no rank 7", "outputs": ()})
        assert result.residency is not None
        return result.model_copy(update={"residency": result.residency.model_copy(update={"nodes_on_device": 2})})

    monkeypatch.setattr(on_device, "run_job", run)
    code, out, _ = called(artefact, "--device", "gpu", "--profile", MEASURED)
    assert (code, out[0]) == (1, "FALLBACK")
    assert out[1] == {"partly": "not every node runs on the device"}.get(
        how, "the device does not run it at all: refused: no rank 7"
    )
    assert "cure: the rewrites that make every node resident" in "\n".join(out)


def test_a_lost_device_is_the_environments_fault(called: Called, artefact: Path, executor: Executor) -> None:
    executor.left = 0
    code, out, errors = called(artefact, "--device", "gpu")
    assert (code, out) == (3, [])
    assert errors == [
        "fidelity: a phone: device_lost: the cable is out; what it did so far is kept: give the same command again"
    ]


def test_show_of_what_was_not_traced_says_why(
    called: Called, artefact: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.left, executor.status = 0, "refused"
    code, _, errors = called(artefact, "--device", "gpu", "--show", "op:1")
    assert (code, len(errors)) == (2, 1)
    assert "nothing was traced: the device does not run it at all: refused" in errors[0]
