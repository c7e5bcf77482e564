"""Where an executor's job ran and what it computed in: the claim, held against the outputs."""

from __future__ import annotations

import numpy as np
import pytest
from contract_models import EVERY_KIND, TERMS, long_product
from targets import Target
from tiny_models import overflowing, refused, resident

from fidelity.devices.discovery import Device, discover, resolve
from fidelity.devices.job import Precision
from fidelity.errors import BadInput, EnvironmentMissing

pytestmark = pytest.mark.gpu_device
WIDTH = 8
X = np.linspace(-2, 2, 4 * WIDTH, dtype=np.float32).reshape(1, 1, 4, WIDTH)
LARGE = np.float32([300, 1 + 2.0**-12, -300, 0]).reshape(1, 1, 1, 4)
PRECISIONS: tuple[Precision, ...] = ("default", "fp16", "fp16-accumulate-fp32", "fp32")
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def expected(x: np.ndarray) -> np.ndarray:
    """What the resident graph computes, in float64."""
    scale = np.linspace(0.5, 1.5, WIDTH)
    return (x.astype(np.float64) + np.linspace(-1, 1, WIDTH)) ** 2 * scale


@every_precision
def test_what_is_asked_for_is_had_where_the_driver_has_it(one_target: Target, precision: Precision) -> None:
    """A driver without fp16 computes fp32 whatever is asked, and has to be told to. The outputs decide."""
    result, output = one_target.one(overflowing(), LARGE, precision=precision)
    assert result.precision_asked == precision
    assert result.precision_had in (("fp32",) if precision == "fp32" else one_target.fp16)
    large, fine, negative, zero = (float(value) for value in output.reshape(-1))
    assert zero == 0
    if result.precision_had == "fp32":
        assert (large, fine, negative) == (90000.0, 1 + 2.0**-11, 90000.0)
    else:
        assert min(large, negative) >= 65504
        assert fine == 1.0


@every_precision
def test_outputs_are_right_to_the_precision(one_target: Target, precision: Precision) -> None:
    """Relative to the largest output: x, the constants, the sum, the square and the product are rounded.

    Six roundings of half a unit; the sum's (two of x and the shift, one of its own) count twice in
    the square, so nine in all. A device may truncate instead, which is twice half a unit: 18.
    """
    result, output = one_target.one(resident(), X, precision=precision)
    truth = expected(X)
    worst = float(np.abs(output - truth).max() / truth.max())
    fine = result.precision_had == "fp32"
    assert worst <= 18 * 2.0 ** (-24 if fine else -11)
    if not fine:
        assert worst > 18 * 2.0**-24  # fp16 that is as good as fp32 is not fp16


def test_accumulation_in_fp32_is_another_sum_of_4096_terms(one_target: Target) -> None:
    """Positive terms that float16 holds, so that only sums are rounded: by 2^-11 of each once, or of every step.

    In float32 the sum has lost nothing when it is rounded once: 2^-10 of it, truncation included. Accumulated
    in float16, even in 64 strands of 64, it has rounded 64 times on the way. A device whose two precisions
    give the same bits is told: it has one of them alone.
    """
    generator = np.random.Generator(np.random.Philox(4096))
    x = generator.uniform(0.5, 1, (1, TERMS)).astype(np.float16).astype(np.float32)
    weights = np.full((8, TERMS), 2.0**-8, np.float32)
    truth = x.astype(np.float64) @ weights.T.astype(np.float64)
    asked: tuple[Precision, ...] = ("fp16", "fp16-accumulate-fp32")
    half, single = (one_target.one(long_product(weights), x, precision=precision) for precision in asked)
    errors = [float((np.abs(output - truth) / truth).max()) for _, output in (half, single)]
    if half[0].precision_had != "fp16":
        assert max(errors) <= 2.0**-20
        pytest.skip(f"computes in {half[0].precision_had} whatever is asked: {errors}")
    if np.array_equal(half[1], single[1]):
        pytest.skip(f"fp16 and fp16-accumulate-fp32 give the same bits here, off by {errors[0]:.2g}")
    assert errors[1] <= 2.0**-10 < errors[0], errors


def test_a_resident_graph_is_resident(one_target: Target) -> None:
    result, _ = one_target.one(resident(), X)
    assert result.residency is not None
    assert (result.residency.nodes_on_device, result.residency.nodes_total) == (3, 3)
    assert (result.residency.partitions, result.residency.refusals) == (1, ())
    assert result.residency.full


def test_a_refused_graph_is_not_and_says_why(one_target: Target) -> None:
    x = np.arange(64, dtype=np.float32).reshape(1, 2, 4, 8)
    result, output = one_target.one(refused(), x)
    np.testing.assert_array_equal(output, x + 1)  # small integers: exact in fp16 too
    assert result.residency is not None
    assert result.residency.nodes_total == 3
    if not one_target.on_gpu:
        assert result.residency.full
        return
    assert result.residency.nodes_on_device < 3
    assert not result.residency.full
    assert not result.fully_accelerated
    assert {refusal.op for refusal in result.residency.refusals} == {"RESHAPE"}
    assert all(refusal.reason and "\n" not in refusal.reason for refusal in result.residency.refusals)
    assert "model/five;1" in {refusal.tensor for refusal in result.residency.refusals}


@pytest.mark.parametrize("precision", ["default", "fp32"])
def test_every_executor_of_a_device_gives_the_same_bits(
    same_device: list[tuple[Target, Target]], precision: Precision
) -> None:
    """Products, reductions, exponentials and movement of values drawn for this run."""
    model, inputs = EVERY_KIND
    ten = {"precision": precision, "repeats": 10, "repeat": ("one",)}  # the job of the test of determinism
    for pair in same_device:
        results = [one.ok(model, {"one": inputs}, **ten) for one in pair]
        (first, outputs), (second, others) = results
        adapters = [result.adapter and (result.adapter.name, result.adapter.software) for result in (first, second)]
        assert adapters[0] == adapters[1]  # over adb no more is known than the log tells
        assert first.residency == second.residency
        assert first.precision_had == second.precision_had
        for name, tensors in outputs.items():
            for key, output in tensors.items():
                np.testing.assert_array_equal(output.view(np.uint32), others[name][key].view(np.uint32), err_msg=key)


def test_the_adapter_is_the_one_asked_for(gpu: Device) -> None:
    if gpu.serial is None:
        assert resolve(gpu.info.spec).info == gpu.info
        assert gpu.info in discover()


def test_an_unknown_adapter_is_missing(gpu: Device) -> None:
    with pytest.raises(EnvironmentMissing, match="no adapter of that name here; there are: ") as caught:
        resolve("gpu:no such adapter")
    assert gpu.info.name in str(caught.value) or gpu.serial is not None
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("spec", ["", "tpu", "gpu:", "GPU", "cpu:0"])
def test_a_word_for_no_device_is_bad_input(spec: str) -> None:
    with pytest.raises(BadInput, match="expected cpu, gpu, gpu:<adapter>"):
        resolve(spec)
