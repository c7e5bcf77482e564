"""Bench: rows from finished jobs, a baseline that holds, and one real CPU."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fidelity.bench import Bench, BenchPlan, BenchRow, against_baseline, bench, noise, row_of
from fidelity.cli.bench import lines
from fidelity.comparison.policy import BenchLimits, load_policy
from fidelity.devices.discovery import resolve
from fidelity.devices.job import JobResult, RunOutput, Timing
from fidelity.errors import BadInput
from fidelity.tflite.manifest import IoContract, TensorContract

sys.path.insert(0, str(Path(__file__).parent))
from test_tflite_builder import add_and_scale

CPU = resolve("cpu")
HOLDING = load_policy().model_copy(update={"bench": BenchLimits(median_regression=0.1)})


def finished(seconds: list[float], **fields: object) -> JobResult:
    """The result of a bench's job."""
    output = RunOutput(input="noise", tensors={}, seconds=tuple(seconds), enqueue_seconds=tuple(s / 4 for s in seconds))
    result = JobResult(
        status="ok",
        device="cpu",
        precision_asked="default",
        precision_had="fp32",
        outputs=(output,),
        timing=Timing(compile=0.5, first=seconds[0]),
        model_sha256="0" * 64,
    )
    return result.model_copy(update=fields)


def row(median: float, **fields: object) -> BenchRow:
    return row_of(CPU, finished([median] * 12)).model_copy(update=fields)


def of(*rows: BenchRow) -> Bench:
    return Bench(artefact_sha256="0" * 64, rows=rows)


def test_a_row_has_the_steady_figures() -> None:
    found = row_of(CPU, finished([4.0, 1.0] + [0.2] * 20))
    assert found.latency is not None
    assert (found.latency.steady_from, found.latency.median, found.latency.best) == (2, 0.2, 0.2)
    assert found.enqueue == pytest.approx(0.05)
    assert found.compile == 0.5
    assert of(found).passed


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (finished([0.1] * 4), "4 timed runs: .* allow more time with --seconds"),
        (finished([0.1] * 20, status="device_lost", error="the phone is gone"), "the phone is gone"),
    ],
)
def test_a_device_that_was_not_timed_fails_the_bench_with_a_reason(result: JobResult, words: str) -> None:
    found = of(row_of(CPU, result), row(0.1))
    assert not found.passed
    assert any("NOT TIMED" in line for line in lines(found))
    assert found.rows[0].error is not None
    assert re.search(words, found.rows[0].error)


def test_slower_than_the_baseline_by_more_than_the_limit_fails() -> None:
    assert against_baseline(of(row(0.1099)), of(row(0.1)), HOLDING).passed
    slow = against_baseline(of(row(0.1101)), of(row(0.1)), HOLDING)
    assert slow.findings == ("cpu: 110 ms, 10.1% slower than the baseline's 100 ms; allowed 10.0%",)
    assert not slow.passed
    assert against_baseline(of(row(0.05)), of(row(0.1)), HOLDING).passed


def test_a_baseline_of_another_adapter_or_precision_is_a_finding_and_no_comparison() -> None:
    other = CPU.info.model_copy(update={"name": "another CPU"})
    for baseline in (row(1.0, info=other), row(1.0, precision_had="fp16")):
        (finding,) = against_baseline(of(row(0.1)), of(baseline), HOLDING).findings
        assert "the baseline has no row of host CPU (XNNPACK) in fp32" in finding


def test_a_baseline_without_a_limit_decides_nothing_and_says_so() -> None:
    assert load_policy().bench is None
    with pytest.raises(BadInput, match="no \\[bench\\] median_regression"):
        against_baseline(of(row(0.1)), of(row(0.1)), load_policy())


@pytest.mark.parametrize("limit", ["0", "-1", "nan", '"1"', "true"])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: str) -> None:
    text = (Path(sys.modules["fidelity"].__file__ or "").parent / "comparison/policies/default.toml").read_text("utf-8")
    path = tmp_path / "policy.toml"
    path.write_text(f"{text}\n[bench]\nmedian_regression = {limit}\n", "utf-8")
    with pytest.raises(BadInput, match="median_regression"):
        load_policy(path)


def test_too_few_runs_are_refused_before_anything_runs() -> None:
    with pytest.raises(BadInput, match="at least 10"):
        BenchPlan(runs=9)


def test_noise_fits_every_input_and_is_the_same_each_time() -> None:
    contract = IoContract(
        signature="s",
        inputs=(
            TensorContract(name="x", shape=(2, 3), dtype="float32"),
            TensorContract(name="ids", shape=(4,), dtype="int32"),
            TensorContract(name="mask", shape=(4,), dtype="bool"),
        ),
        outputs=(),
    )
    found = noise(contract)
    assert {name: (x.shape, str(x.dtype)) for name, x in found.items()} == {
        "x": ((2, 3), "float32"),
        "ids": ((4,), "int32"),
        "mask": ((4,), "bool"),
    }
    np.testing.assert_array_equal(found["x"], noise(contract)["x"])
    dynamic = TensorContract(name="x", shape=(-1, 3), dtype="float32")
    with pytest.raises(BadInput, match="dynamic"):
        noise(contract.model_copy(update={"inputs": (dynamic,)}))


def test_the_cpu_is_timed_for_real(tmp_path: Path) -> None:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(add_and_scale())
    found = bench(path, [CPU], BenchPlan(runs=20, seconds=5), lambda _: None)
    assert found.rows[0].error is None
    assert found.rows[0].latency is not None
    assert found.rows[0].latency.runs == 20
    assert 0 < found.rows[0].latency.best <= found.rows[0].latency.median < 1
    assert found.passed
    assert Bench.model_validate_json(found.to_json()) == found
    assert any("Pixel 8a" in line for line in lines(found))
