"""200 randomly mutated models through the real worker: each gives a result, none brings the harness down."""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fidelity.devices.discovery import resolve
from fidelity.devices.job import JobResult
from fidelity.devices.precision_probe import INPUT, probe_model
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.models.counter_random import uniform_integers

MUTANTS = 200
AT_ONCE = 2


def mutated(number: int) -> bytes:
    """The one-op probe model with one to eight bytes changed, or cut short, from a counter-based seed."""
    content = bytearray(probe_model())
    words = uniform_integers(number, "mutated-model", 32).tolist()
    if number % 5 == 0:
        return bytes(content[: words[0] % len(content)])
    for place in range(1 + words[1] % 8):
        content[words[2 + 2 * place] % len(content)] = words[3 + 2 * place] % 256
    return bytes(content)


def outcome(folder: Path, number: int) -> JobResult:
    model = folder / f"{number}.tflite"
    model.write_bytes(mutated(number))
    device = resolve("cpu")
    job = folder / str(number)
    job.mkdir()
    prepare_job(job, model, {"probe": {"x": INPUT}}, device=device.job_device, timeout_seconds=30.0)
    result = run_job(job, device)
    assert JobResult.read(job / "result.json") == result
    shutil.rmtree(job)
    return result


@pytest.mark.timeout(600)
def test_every_mutated_model_gives_a_result(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda number: outcome(tmp_path, number), range(MUTANTS)))
    assert len(results) == MUTANTS
    for result in results:
        assert (result.status == "ok") == (result.error is None)
        assert result.error is None or "\n" not in result.error
    statuses = Counter(result.status for result in results)
    assert statuses["bad_model"] > MUTANTS // 10, statuses


def test_the_mutants_are_the_same_every_time_and_differ() -> None:
    whole = probe_model()
    made = [mutated(number) for number in range(MUTANTS)]
    assert made == [mutated(number) for number in range(MUTANTS)]
    assert sum(content != whole for content in made) > 0.95 * MUTANTS
    assert len(np.unique([hash(content) for content in made])) > 0.9 * MUTANTS
