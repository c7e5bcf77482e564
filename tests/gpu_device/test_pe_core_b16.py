"""PE-Core B/16 whole on the real CPU runtime and the real GPU delegate: converted as a user would, and run.

The figures are the limits that the reference conversion was promised with, against the float64 of the model that was
not rewritten. One run costs nine seconds of a software GPU and one conversion twenty-five, so two photographs
stand for the gate's thirteen inputs and one for each of the other runs; what is not rewritten, and massive
activations with the safe LayerNorm, test_pe_core_b16_gate.py has (the block of it: test_rewritten_blocks.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from operation_kinds import KINDS

from fidelity.arithmetic.profile import load_profile
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device, resolve
from fidelity.devices.job import JobResult, Precision
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph

pytest.importorskip("litert_torch")
from fidelity.models.subject import Subject, build_subject, truth

pytestmark = pytest.mark.gpu_device
ROOT = Path(__file__).parents[2]
SOURCE, MASSIVE = "timm:vit_pe_core_base_patch16_224", "massive:540@1"
PHOTOGRAPHS = ("astronaut", "gravel")
MEASURED = "llvmpipe Mesa 25."  # the driver that a profile is shipped for
PROFILE = "mldrift-webgpu-lavapipe"
VARIANTS = {
    "published": ("seeded", "all"),
    "stock": (MASSIVE, "split_qkv,rotate_half,pool_one_query"),
}
Made = dict[str, "Future[Path]"]
Ran = tuple[JobResult, dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Each variant by `fidelity convert`, both at once: a conversion has one thread. A test waits for its own."""
    folder = tmp_path_factory.mktemp("artefacts")

    def converted(name: str) -> Path:
        weights, rewrites = VARIANTS[name]
        path = folder / f"{name}.tflite"
        options = ["--weights", weights, "--rewrites", rewrites, "--weights-dtype", "float16"]
        command = [sys.executable, "-m", "fidelity", "convert", SOURCE, "-o", str(path), *options]
        subprocess.run(command, check=True, capture_output=True, timeout=900, cwd=ROOT)
        return path

    pool = ThreadPoolExecutor(2)
    yield {name: pool.submit(converted, name) for name in VARIANTS}
    pool.shutdown(cancel_futures=True)


@cache
def subject(weights: str) -> Subject:
    return build_subject(SOURCE, weights, 0, ROOT / "golden/images", PHOTOGRAPHS)


def run(device: Device, path: Path, folder: Path, *photographs: str, precision: Precision = "default") -> Ran:
    """The job's result and the embedding of each photograph."""
    arrays = subject("seeded").inputs.arrays
    ((name, _),) = read_graph(path).signature().inputs
    job = folder / "job"
    prepare_job(job, path, {p: {name: arrays[p]} for p in photographs}, device=device.job_device, precision=precision)
    result = run_job(job, device)
    assert (result.status, result.error) == ("ok", None)
    return result, {p: next(iter(outputs.values())) for p, outputs in load_outputs(job, result).items()}


def worst_correlation(outputs: dict[str, np.ndarray], weights: str = "seeded") -> float:
    """Against float64 of the model as its author wrote it; NaN counts as none."""
    right = truths(weights)
    found = [np.corrcoef(output.reshape(-1), right[name].reshape(-1))[0, 1] for name, output in outputs.items()]
    return float(min(np.nan_to_num(found, nan=-1.0)))


@cache
def truths(weights: str) -> dict[str, np.ndarray]:
    return truth(subject(weights))


def assert_predicted(gpu: Device, path: Path, photograph: str, output: np.ndarray) -> None:
    """The very bits, where the shipped profile is this driver's."""
    if MEASURED in str(gpu.info.driver):
        ((name, _),) = read_graph(path).signature().inputs
        inputs = {name: subject("seeded").inputs.arrays[photograph]}
        (expected,) = Emulator(read_graph(path), load_profile(PROFILE)).run(inputs).outputs.values()
        np.testing.assert_array_equal(output, expected)


def assert_resident(result: JobResult) -> None:
    assert result.residency is not None
    assert result.residency.full, result.residency.refusals
    assert result.residency.nodes_total > 800


def test_photographs_in_fp16(gpu: Device, artefacts: Made, tmp_path: Path) -> None:
    path = artefacts["published"].result()
    result, outputs = run(gpu, path, tmp_path, *PHOTOGRAPHS)
    assert_resident(result)
    assert result.precision_had == ("fp16" if gpu.info.fp16 else result.precision_had)
    assert worst_correlation(outputs) >= 0.9999
    assert_predicted(gpu, path, PHOTOGRAPHS[0], outputs[PHOTOGRAPHS[0]])


def test_a_photograph_in_fp32(gpu: Device, artefacts: Made, tmp_path: Path) -> None:
    result, outputs = run(gpu, artefacts["published"].result(), tmp_path, PHOTOGRAPHS[0], precision="fp32")
    assert_resident(result)
    assert result.precision_had == "fp32"
    assert worst_correlation(outputs) >= 0.99999


def test_photographs_on_the_cpu(artefacts: Made, tmp_path: Path) -> None:
    _, outputs = run(resolve("cpu"), artefacts["published"].result(), tmp_path, *PHOTOGRAPHS)
    assert worst_correlation(outputs) >= 0.99999


def test_the_artefact_has_its_size_and_every_kind_of_its_operations_a_test(artefacts: Made) -> None:
    path = artefacts["published"].result()
    assert abs(path.stat().st_size / 186.5e6 - 1) <= 0.01
    kinds = {operator.name for operator in read_graph(path).main.operators}
    assert len(kinds) > 15
    assert kinds - set(KINDS) == set(), "no test in operation_kinds.py"


def test_massive_activations_collapse_at_full_residency_without_it(
    gpu: Device, artefacts: Made, tmp_path: Path
) -> None:
    """A peak of 540 passes 256, where this device's fp16 square of x - mean overflows (facts.md, A 400: 0.255)."""
    path = artefacts["stock"].result()
    result, outputs = run(gpu, path, tmp_path, PHOTOGRAPHS[0])
    assert_resident(result)
    correlation = worst_correlation(outputs, MASSIVE)
    if MEASURED not in str(gpu.info.driver) or result.precision_had != "fp16":
        pytest.skip(f"whether it collapses was measured on {MEASURED}*; here the correlation is {correlation:.4f}")
    assert correlation < 0.9
    assert_predicted(gpu, path, PHOTOGRAPHS[0], outputs[PHOTOGRAPHS[0]])
