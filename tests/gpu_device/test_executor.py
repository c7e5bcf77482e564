"""The job contract on a real device, the same for every executor: the worker, the C runner, the runner over adb.

What a job asks (signature, dtype, warm-ups, repeats), and how a wrong one is refused. What an executor
computes in, and where, is in test_executor_precision.py.
"""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from contract_models import COMMON, EVERY_KIND, SELDOM, no_input, turned, two_signatures
from targets import Target
from tiny_models import integers, one_line, resident, two_in_two_out

from fidelity.devices.job import Precision

pytestmark = pytest.mark.gpu_device
WIDTH = 8
X = np.linspace(-2, 2, 4 * WIDTH, dtype=np.float32).reshape(1, 1, 4, WIDTH)
FOUR = np.float32([3, -2, 0, 12]).reshape(1, 1, 1, 4)


def test_inputs_and_outputs_go_by_name(one_target: Target) -> None:
    """Small whole numbers: exact in fp16 too."""
    a, b = np.float32([1, 2, 3, 4]), np.float32([10, 20, 30, 40])
    _, outputs = one_target.ok(two_in_two_out(), {"one": {"a": a, "b": b}, "two": {"b": a, "a": b}})
    np.testing.assert_array_equal(outputs["one"]["sum"], a + b)
    np.testing.assert_array_equal(outputs["one"]["product"], a * a)
    np.testing.assert_array_equal(outputs["two"]["product"], b * b)


def test_outputs_follow_their_inputs(one_target: Target) -> None:
    """Buffers are reused from run to run: the second input must not be answered with the first's output."""
    _, outputs = one_target.ok(resident(), {"one": {"x": X}, "two": {"x": -X}, "again": {"x": X}})
    np.testing.assert_array_equal(outputs["one"]["y"], outputs["again"]["y"])
    assert np.abs(outputs["one"]["y"] - outputs["two"]["y"]).max() > 1


def test_any_signature_is_run_and_an_unknown_one_refused(one_target: Target) -> None:
    for key, right in (("double", FOUR + FOUR), ("square", FOUR * FOUR)):
        _, output = one_target.one(two_signatures(), FOUR, signature=key)
        np.testing.assert_array_equal(output, right, err_msg=str(key))
    result, _ = one_target.run(two_signatures(), {"one": {"x": FOUR}}, signature="cube")
    assert (result.status, result.outputs) == ("bad_input", ())
    assert "cube" in one_line(result)


@pytest.mark.parametrize("dtypes", [COMMON, SELDOM], ids=["common", "seldom"])
def test_every_dtype_arrives_and_returns_bit_for_bit(one_target: Target, dtypes: tuple[str, ...]) -> None:
    """Python's TensorBuffer (ai-edge-litert 2.3.0) has not the seldom ones and must say so; the runner has all."""
    given = {f"from_{dtype}": np.array([[0, 1, 2], [3, 100, 7]]).astype(dtype) for dtype in dtypes}
    result, outputs = one_target.run(turned(dtypes), {"one": given})
    if one_target.choice.executor == "worker" and dtypes == SELDOM:
        assert result.status in ("run_failed", "bad_input")
        assert any(dtype in one_line(result) for dtype in SELDOM)
        return
    assert (result.status, result.error) == ("ok", None)
    for dtype in dtypes:
        output = outputs["one"][f"to_{dtype}"]
        assert output.dtype == dtype
        np.testing.assert_array_equal(output, given[f"from_{dtype}"].reshape(3, 2))


def test_a_model_without_inputs_runs(one_target: Target) -> None:
    _, outputs = one_target.ok(no_input(), {"one": {}})
    np.testing.assert_array_equal(outputs["one"]["y"].reshape(-1), np.float32([1, 2, 3, 4]))


def test_warmups_and_repeats_are_counted_and_timed(one_target: Target) -> None:
    inputs = {name: {"x": X} for name in ("a", "b", "c")}
    result, _ = one_target.ok(resident(), inputs, warmups=3, repeats=4, repeat=("b",))
    assert [(o.input, len(o.seconds), o.deterministic) for o in result.outputs] == [
        ("a", 1, None),
        ("b", 4, True),
        ("c", 1, None),
    ]
    for output in result.outputs:
        assert len(output.enqueue_seconds) == len(output.seconds)
        pairs = zip(output.enqueue_seconds, output.seconds, strict=True)
        assert all(0 < enqueued <= seconds for enqueued, seconds in pairs)
    timing = result.timing
    assert timing is not None
    assert len(timing.warmup) == 3
    assert timing.first == timing.warmup[0]
    assert timing.compile > 0
    kept = list(itertools.chain.from_iterable(output.seconds for output in result.outputs))
    assert timing.steady == pytest.approx(statistics.median(kept))


def test_without_a_warmup_the_first_run_is_the_first_and_no_steady_one(one_target: Target) -> None:
    result, _ = one_target.one(resident(), X)
    assert result.timing is not None
    assert result.timing.warmup == ()
    assert result.timing.first == result.outputs[0].seconds[0]
    assert result.timing.steady is None


def test_repeats_end_when_they_took_long_enough(one_target: Target) -> None:
    result, _ = one_target.ok(resident(), {"a": {"x": X}}, repeats=100_000, repeat=("a",), repeat_seconds=0.02)
    (output,) = result.outputs
    assert 2 <= len(output.seconds) < 100_000
    assert output.deterministic is True
    assert sum(output.seconds) >= 0.02 or len(output.seconds) == 2
    assert sum(output.seconds[:-1]) < 0.02 or len(output.seconds) == 2


def test_temperatures_are_told_before_and_after_or_not_at_all(one_target: Target) -> None:
    result, _ = one_target.one(resident(), X)
    if result.thermal is not None:
        assert set(result.thermal.before) == set(result.thermal.after)
        both = [*result.thermal.before.values(), *result.thermal.after.values()]
        assert all(-50 < degrees < 150 for degrees in both)


def test_the_record_says_what_ran(one_target: Target) -> None:
    result, _ = one_target.one(resident(), X)
    assert result.device == one_target.device.job_device == one_target.choice.where
    assert (result.peak_memory_bytes or 0) > 1 << 20
    assert result.runtime
    assert "accelerator" in result.runtime
    if one_target.on_gpu:
        assert result.adapter is not None
        assert result.fully_accelerated is True
    else:
        assert result.adapter is None


@pytest.mark.parametrize("precision", ["default", "fp32"])
def test_ten_runs_and_another_process_give_the_same_bits(one_target: Target, precision: Precision) -> None:
    model, inputs = EVERY_KIND
    ten = {"precision": precision, "repeats": 10, "repeat": ("one",)}
    results = [one_target.ok(model, {"one": inputs}, again=again, **ten)[0] for again in (False, True)]
    assert [(o.deterministic, len(o.seconds)) for result in results for o in result.outputs] == [(True, 10)] * 2
    assert results[0].outputs[0].tensors == results[1].outputs[0].tensors


WRONG = {
    "another shape": {"x": X[..., :-1]},
    "another dtype": {"x": X.astype(np.float64)},
    "NaN": {"x": np.full_like(X, np.nan)},
    "infinity": {"x": np.where(X.max() == X, np.inf, X).astype(np.float32)},
    "another name": {"z": X},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_input_that_does_not_fit_is_refused(one_target: Target, wrong: str) -> None:
    result, _ = one_target.run(resident(), {"one": WRONG[wrong]})
    assert (result.status, result.outputs) == ("bad_input", ())
    one_line(result)


def test_a_broken_model_is_told(one_target: Target) -> None:
    assert one_target.run(resident()[:-64], {"one": {"x": X}})[0].status == "bad_model"


def test_a_graph_that_the_device_cannot_take_at_all_is_no_silent_success(one_target: Target) -> None:
    """int32 arithmetic: either it is refused, or it is right, or the residency says that the device did it."""
    x = np.array([1, -5, 2**24 + 1], dtype=np.int32)
    result, outputs = one_target.run(integers(), {"one": {"x": x}})
    if result.status != "ok":
        one_line(result)
    elif not one_target.on_gpu or (result.residency is not None and not result.residency.full):
        np.testing.assert_array_equal(outputs["one"]["y"], x + x)


def test_every_figure_is_finite(one_target: Target) -> None:
    result, _ = one_target.one(resident(), X)
    assert result.timing is not None
    figures = [result.timing.compile, result.timing.first, *result.outputs[0].seconds]
    assert all(math.isfinite(value) and value > 0 for value in figures)
