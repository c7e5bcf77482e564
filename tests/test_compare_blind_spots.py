"""Every fault that a known tool passes, planted in an otherwise perfect run: the default policy rejects it.

For each kind of run, and with the metric that names it: what rejects a fault by luck may not do so
for the next one. Sources of the cases: anchors.md, "Blind spots" and "where it stops".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_compare_cases import (
    GPU_FP16,
    KINDS,
    NAMES,
    Arrays,
    as_run,
    codes,
    facts,
    failed_metrics,
    measured,
    references,
    verdict,
    with_noise,
)

from fidelity.comparison.comparison import compare
from fidelity.comparison.policy import load_policy
from fidelity.comparison.run_facts import RunKind
from fidelity.comparison.verdict import judge


def each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Arrays]:
    """A run in which every output is changed alike."""
    return lambda: {
        name: {"embedding": change(keyed["embedding"]).astype(np.float32)} for name, keyed in references().items()
    }


def one(change: Callable[[np.ndarray], np.ndarray], name: str = "coffee") -> Callable[[], Arrays]:
    """A run in which one output of eight is changed."""

    def run() -> Arrays:
        arrays = as_run(references())
        arrays[name]["embedding"] = change(arrays[name]["embedding"]).astype(np.float32)
        return arrays

    return run


def element(index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed[0, index] = value
        return changed

    return change


def swapped() -> Arrays:
    run = as_run(references())
    run["camera"], run["rocket"] = run["rocket"], run["camera"]
    return run


def stale() -> Arrays:
    run = as_run(references())
    run["camera"] = run["black"]  # the output of the input before
    return run


def typical_channel() -> int:
    """A channel of middling magnitude: dead, it costs a correlation of 0.9995 or better."""
    return int(np.argsort(np.abs(references()["coffee"]["embedding"][0]))[512])


# fault: (run, a metric that must name it)
NAMED_BY_A_METRIC: dict[str, tuple[Callable[[], Arrays], str]] = {
    "x0.5": (each(lambda r: 0.5 * r), "norm_ratio"),
    "x10": (each(lambda r: 10 * r), "norm_ratio"),
    "x1.01": (each(lambda r: 1.01 * r), "slope"),
    "negated": (each(lambda r: -r), "correlation"),
    "0.5 r + 3": (each(lambda r: 0.5 * r + 3), "offset"),
    "r + 0.1 rms": (each(lambda r: r + 0.1 / 32), "offset"),
    "0.5 r + 3 at one input": (one(lambda r: 0.5 * r + 3), "slope"),
    "all zero": (each(np.zeros_like), "zero_share"),
    "one all zero": (one(np.zeros_like), "zero_share"),
    "one dead channel": (each(element(typical_channel(), 0.0)), "zero_share"),
    "one dead channel at one input": (one(element(typical_channel(), 0.0)), "peak_error"),
    "one channel +300": (each(lambda r: r + 300 * (np.arange(1024) == 7)), "peak_error"),
    "one channel at 65504": (each(element(7, 65504.0)), "saturated_share"),
    "constant": (each(lambda r: np.full_like(r, 1 / 32)), "repeated_outputs"),
    "constant, another level each": (each(lambda r: np.full_like(r, r[0, 0])), "correlation"),
    "one embedding for all": (lambda: dict.fromkeys(NAMES, as_run(references())["cat"]), "input_dependence"),
    "stale output": (stale, "repeated_outputs"),
    "swapped inputs": (swapped, "misplacement"),
    "reversed channels": (each(lambda r: r[:, ::-1]), "correlation"),
    "rolled by one": (each(lambda r: np.roll(r, 1, axis=1)), "centred_correlation"),
    "unrelated noise": (lambda: with_noise(references(), 30.0), "correlation"),
    "all NaN": (each(lambda r: np.full_like(r, np.nan)), "non_finite_share"),
    "one NaN": (one(element(3, np.nan)), "non_finite_share"),
    "one Inf": (one(element(3, np.inf)), "non_finite_share"),
    "one -Inf": (one(element(3, -np.inf)), "non_finite_share"),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("fault", NAMED_BY_A_METRIC)
def test_a_planted_fault_is_rejected_and_named(fault: str, kind: RunKind) -> None:
    plant, metric = NAMED_BY_A_METRIC[fault]
    judgement = verdict(plant(), kind=kind)
    assert not judgement.passed
    assert metric in failed_metrics(judgement)


def without(run: Arrays, name: str) -> Arrays:
    return {key: keyed for key, keyed in run.items() if key != name}


# fault: (run, references, the code that must name it)
NAMED_BY_A_CODE: dict[str, tuple[Callable[[], Arrays], Callable[[], Arrays], str]] = {
    "all NaN": (NAMED_BY_A_METRIC["all NaN"][0], references, "non_finite_actual"),
    "one Inf": (NAMED_BY_A_METRIC["one Inf"][0], references, "non_finite_actual"),
    "missing input": (lambda: without(as_run(references()), "cat"), references, "missing_input"),
    "missing output": (lambda: as_run(references()) | {"cat": {}}, references, "missing_output"),
    "renamed output": (
        lambda: {name: {"out": keyed["embedding"]} for name, keyed in as_run(references()).items()},
        references,
        "missing_output",
    ),
    "extra output": (
        lambda: {name: {**keyed, "more": keyed["embedding"]} for name, keyed in as_run(references()).items()},
        references,
        "extra_output",
    ),
    "extra input": (
        lambda: as_run(references()) | {"dog": as_run(references())["cat"]},
        references,
        "extra_input",
    ),
    "no batch axis": (
        lambda: {name: {"embedding": keyed["embedding"][0]} for name, keyed in as_run(references()).items()},
        references,
        "shape_mismatch",
    ),
    "transposed": (
        lambda: {name: {"embedding": keyed["embedding"].T} for name, keyed in as_run(references()).items()},
        references,
        "shape_mismatch",
    ),
    "float64 output": (references, references, "dtype_mismatch"),
    "float16 output": (
        lambda: {n: {"embedding": k["embedding"].astype(np.float16)} for n, k in references().items()},
        references,
        "dtype_mismatch",
    ),
    "nothing came back": (dict, references, "missing_input"),
    "empty set": (dict, dict, "empty_set"),
    "zero reference": (
        lambda: as_run(references()),
        lambda: references() | {"cat": {"embedding": np.zeros((1, 1024))}},
        "zero_reference",
    ),
    "zero reference, met": (
        lambda: as_run(references()) | {"cat": {"embedding": np.zeros((1, 1024), np.float32)}},
        lambda: references() | {"cat": {"embedding": np.zeros((1, 1024))}},
        "zero_reference",
    ),
    "NaN in the reference": (
        lambda: as_run(references()),
        lambda: references() | {"cat": {"embedding": np.full((1, 1024), np.nan)}},
        "non_finite_reference",
    ),
    "NaN on both sides": (
        lambda: as_run(references()) | {"cat": {"embedding": np.full((1, 1024), np.nan, np.float32)}},
        lambda: references() | {"cat": {"embedding": np.full((1, 1024), np.nan)}},
        "non_finite_reference",
    ),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("fault", NAMED_BY_A_CODE)
def test_a_malformed_run_is_rejected_and_named(fault: str, kind: RunKind) -> None:
    plant, reference, code = NAMED_BY_A_CODE[fault]
    judgement = verdict(plant(), reference(), kind=kind)
    assert not judgement.passed
    assert code in codes(judgement)


def tokens() -> Arrays:
    """float64 [197, 768] outputs, each row normalised as a final LayerNorm leaves it."""
    generator = np.random.default_rng(3)
    common = generator.standard_normal((197, 768))
    return {name: {"tokens": common + generator.standard_normal((197, 768))} for name in NAMES}


def test_a_zeroed_class_token_is_seen_although_the_correlation_is_good() -> None:
    run = as_run(tokens())
    for keyed in run.values():
        keyed["tokens"][0] = 0
    figures = [record.metrics["correlation"] for record in measured(run, tokens()).outputs]
    assert min(figures) > 0.997
    # also where the policy's correlation is loose enough to pass it
    loose = load_policy()
    runs = tuple(
        r.model_copy(update={"limits": {k: v for k, v in r.limits.items() if k in ("correlation", "worst_row_error")}})
        for r in loose.runs
    )
    judgement = verdict(run, tokens(), policy=loose.model_copy(update={"runs": runs, "every_run": {}}))
    (row,) = [check for check in judgement.checks if check.metric == "worst_row_error"]
    assert (row.passed, row.worst, row.index) == (False, 1.0, (0,))
    assert verdict(as_run(tokens()), tokens()).passed


@pytest.mark.parametrize("height", [300.0, 3000.0])
def test_random_channels_under_one_massive_channel_are_seen(height: float) -> None:
    # 768 channels, one at +300 on both sides, all others unrelated: correlation 0.99; at +3000, 0.9999
    generator = np.random.default_rng(9)
    reference: Arrays = {name: {"embedding": generator.standard_normal((1, 768))} for name in NAMES}
    run: Arrays = {name: {"embedding": generator.standard_normal((1, 768))} for name in NAMES}
    for arrays in (reference, run):
        for keyed in arrays.values():
            keyed["embedding"][0, 5] = height
    judgement = verdict(as_run(run), reference)
    assert not judgement.passed
    assert {"median_error", "centred_correlation"} <= failed_metrics(judgement)
    figures = [record.metrics["correlation"] for record in measured(as_run(run), reference).outputs]
    assert min(figures) > (0.98 if height == 300 else 0.9998)


def test_a_network_that_forgets_its_input_does_not_hide_a_stale_output() -> None:
    # references that share 99.999 % of their energy: any output correlates with any reference
    generator = np.random.default_rng(4)
    common = generator.standard_normal((1, 1024))
    reference = {name: {"embedding": common + 0.003 * generator.standard_normal((1, 1024))} for name in NAMES}
    run = as_run(reference)
    run["camera"], run["rocket"] = run["rocket"], run["camera"]
    figures = [record.metrics["correlation"] for record in measured(run, reference).outputs]
    assert min(figures) > 0.99998
    assert "centred_correlation" in failed_metrics(verdict(run, reference))
    run["camera"] = run["rocket"] = as_run(reference)["cat"]
    assert "repeated_outputs" in failed_metrics(verdict(run, reference))


def test_fewer_inputs_than_asked_fail_whatever_the_comparison_was_given() -> None:
    run = {name: as_run(references())[name] for name in NAMES[:4]}
    comparison = compare(run, references(), NAMES[:0], asked=run)
    judgement = judge(comparison, facts(), load_policy())
    assert "not_compared" in codes(judgement)


@pytest.mark.parametrize("seed", range(5))
def test_realistic_fp16_noise_passes(seed: int) -> None:
    """What a sound fp16 run does to an embedding must pass on every seed, or the gate is noise itself."""
    generator = np.random.default_rng(seed)
    # each of 1024 values off by 5e-4 of itself: one rounding to fp16 (2**-11)
    rounded = {
        name: {"embedding": (k["embedding"] * (1 + 5e-4 * generator.standard_normal((1, 1024)))).astype(np.float32)}
        for name, k in references().items()
    }
    assert verdict(rounded).passed
    # 0.0080 is the largest relative L2 error measured for B/16 on the software GPU in fp16, of 13 inputs
    assert verdict(with_noise(references(), 0.0080, seed=seed)).passed
    # and the limits are not slack: twice the allowed energy fails
    assert not verdict(with_noise(references(), 0.02, seed=seed)).passed


def test_flushed_subnormals_of_an_fp16_gpu_pass() -> None:
    run = as_run(references())
    for keyed in run.values():
        keyed["embedding"][np.abs(keyed["embedding"]) < 2.0**-14] = 0
    assert any((keyed["embedding"] == 0).any() for keyed in run.values())
    assert verdict(run, kind=GPU_FP16).passed
