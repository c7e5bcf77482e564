"""Each rewrite as a block on the device: rewritten and converted, against float64 of the block as it was."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import job_folder

from fidelity.comparison.tolerance import EPS, Format
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.job import JobResult, Precision
from fidelity.devices.run import run_job

pytest.importorskip("litert_torch")
from rewritten_blocks import NAMES, TERMS, Made, made

pytestmark = pytest.mark.gpu_device
Ran = tuple[JobResult, dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("blocks"), int(np.random.Generator(np.random.Philox()).integers(1 << 31)))


@pytest.fixture(scope="session", params=["default", "fp32"])
def ran(request: pytest.FixtureRequest, gpu: Device, blocks: Made, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    precision: Precision = request.param
    job = job_folder(
        tmp_path_factory.mktemp("ran"),
        blocks.path.read_bytes(),
        {"one": blocks.inputs},
        device=gpu.job_device,
        precision=precision,
        repeats=10,
        repeat=("one",),
    )
    result = run_job(job, gpu)
    assert (result.status, result.error) == ("ok", None)
    return result, load_outputs(job, result)["one"]


def relative_l2(actual: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(actual.astype(np.float64) - truth) / np.linalg.norm(truth))


def test_every_node_runs_on_the_device_ten_times_alike(ran: Ran) -> None:
    result, _ = ran
    assert result.residency is not None
    assert result.residency.full, result.residency.refusals
    assert [(o.deterministic, len(o.seconds)) for o in result.outputs] == [(True, 10)]


@pytest.mark.parametrize("rewrite", NAMES)
def test_a_rewritten_block_computes_what_the_block_did(rewrite: str, ran: Ran, blocks: Made) -> None:
    """Roundings of unlike numbers add as random steps: eps sqrt(K) of the result's size for K terms in a row.

    That is the deviation where sums are of unit gain, as weights here are; each step is eps / 2 at most and
    rounds by a third of that on the whole, so the bound is more than three deviations, over a norm of a thousand
    numbers. Half of the block's heads exchanged, or no block at all, is off by its own size.
    """
    assert blocks.taken[rewrite], "the rewrite found nothing to do"
    result, outputs = ran
    assert result.precision_had in ("fp16", "fp32")
    stored: Format = "float16" if result.precision_had == "fp16" else "float32"
    bound = EPS[stored] * TERMS[rewrite] ** 0.5
    truth = blocks.truth[rewrite]
    assert outputs[rewrite].shape == truth.shape
    assert relative_l2(outputs[rewrite], truth) <= bound
    half = truth.shape[-1] // 2
    assert relative_l2(np.roll(truth, half, axis=-1), truth) > bound
