"""compare: everything wrong with a run is named, and what is right is measured all the same."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from test_compare_cases import NAMES, PHOTOGRAPHS, Arrays, as_run, measured, references, with_noise

from fidelity.comparison.comparison import Comparison, compare
from fidelity.comparison.metrics import OUTPUT_METRICS, SET_METRICS
from fidelity.errors import BadInput


def failures(comparison: Comparison) -> list[tuple[str, str | None, str | None]]:
    return [(failure.code, failure.input, failure.output) for failure in comparison.failures]


def test_a_sound_run_has_every_figure_and_no_failure() -> None:
    comparison = measured(with_noise(references(), 0.005))
    assert comparison.failures == ()
    assert comparison.asked == NAMES
    assert [record.input for record in comparison.outputs] == list(NAMES)
    for record in comparison.outputs:
        assert list(record.metrics) == list(OUTPUT_METRICS)
        assert not record.undefined
    (over_set,) = comparison.sets
    assert over_set.inputs == NAMES
    assert list(over_set.metrics) == list(SET_METRICS)


def test_every_metric_is_either_a_figure_or_has_a_cause() -> None:
    run = as_run(references())
    run["cat"]["embedding"][:] = 0.25
    run["black"]["embedding"][0, 0] = np.nan
    comparison = measured(run)
    for record in comparison.outputs:
        assert set(record.metrics) | set(record.undefined) == set(OUTPUT_METRICS)
        assert not set(record.metrics) & set(record.undefined)
        assert not any(math.isnan(figure) for figure in record.metrics.values())


def test_what_is_missing_or_extra_is_named_and_the_rest_measured() -> None:
    run = as_run(references())
    del run["camera"]
    run["cat"] = {}
    run["black"]["logits"] = np.zeros((1, 3), np.float32)
    run["unasked"] = run["white"]
    comparison = measured(run)
    assert failures(comparison) == [
        ("missing_input", "camera", None),
        ("extra_input", "unasked", None),
        ("extra_output", "black", "logits"),
        ("missing_output", "cat", "embedding"),
    ]
    rest = [name for name in NAMES if name not in ("camera", "cat")]
    assert [record.input for record in comparison.outputs] == rest
    assert comparison.sets[0].inputs == tuple(rest)


def test_shape_dtype_nan_and_zero_reference_are_all_collected_in_one_pass() -> None:
    reference, run = references(), as_run(references())
    run["astronaut"]["embedding"] = run["astronaut"]["embedding"].reshape(1024, 1)
    run["black"]["embedding"] = run["black"]["embedding"].astype(np.float16)
    run["camera"]["embedding"][0, 3] = np.inf
    reference["cat"]["embedding"][:] = 0
    reference["coffee"]["embedding"][0, 1] = np.nan
    reference["noise"]["embedding"] = np.ones((1, 1024), np.int64)
    comparison = measured(run, reference)
    assert failures(comparison) == [
        ("shape_mismatch", "astronaut", "embedding"),
        ("dtype_mismatch", "black", "embedding"),
        ("non_finite_actual", "camera", "embedding"),
        ("zero_reference", "cat", "embedding"),
        ("non_finite_reference", "coffee", "embedding"),
        ("dtype_mismatch", "noise", "embedding"),
    ]
    by_name = {record.input: record for record in comparison.outputs}
    assert by_name["rocket"].metrics["correlation"] == pytest.approx(1, abs=1e-12)
    assert by_name["astronaut"].undefined["correlation"].cause == "shape_mismatch"
    assert by_name["camera"].metrics["non_finite_share"] == 1 / 1024
    assert comparison.sets[0].inputs == ("black", "cat", "noise", "rocket", "white")


def test_a_float64_output_is_not_the_float32_of_the_contract() -> None:
    comparison = compare(references(), references(), PHOTOGRAPHS)
    assert {failure.code for failure in comparison.failures} == {"dtype_mismatch"}
    assert compare(references(), references(), PHOTOGRAPHS, dtype="float64").failures == ()


def test_nothing_at_all_is_a_failure() -> None:
    for actual, reference, asked in (({}, {}, None), (as_run(references()), references(), ())):
        comparison = compare(actual, reference, (), asked=asked)
        assert failures(comparison) == [("empty_set", None, None)]
    assert len(failures(compare({}, references(), PHOTOGRAPHS))) == len(NAMES)


def test_an_input_without_a_reference_is_a_failure() -> None:
    comparison = compare(as_run(references()), references(), PHOTOGRAPHS, asked=[*NAMES, "zebra"])
    assert failures(comparison) == [("no_reference", "zebra", None), ("missing_input", "zebra", None)]
    emptied = references() | {"cat": {}}
    assert ("no_reference", "cat", None) in failures(measured(as_run(references()), emptied))


def test_a_run_of_few_inputs_is_compared_with_the_common_component_of_all() -> None:
    run = as_run(references())
    few = {name: run[name] for name in NAMES[:3]}
    comparison = compare(few, references(), PHOTOGRAPHS, asked=few)
    assert comparison.failures == ()
    assert comparison.asked == NAMES[:3]
    assert comparison.sets[0].metrics["centred_correlation"] == pytest.approx(1, abs=1e-12)
    # two photographs are among the three: no neighbour but the other one
    assert comparison.sets[0].undefined["nearest_neighbour_regret"].cause == "too_few_inputs"


def test_neighbours_are_taken_among_the_photographs_only() -> None:
    reference = references()
    # two stress inputs that are alike but for rounding, which may swap them as neighbours of each other only
    reference["white"]["embedding"] = reference["black"]["embedding"] * (1 + 1e-9)
    run = as_run(references())
    run["white"], run["black"] = run["black"], run["white"]
    assert measured(run, reference).sets[0].metrics["nearest_neighbour_agreement"] == 1


def test_an_unknown_photograph_is_the_callers_mistake() -> None:
    with pytest.raises(BadInput, match="photograph 'zebra'"):
        compare(as_run(references()), references(), ["zebra"])


def test_several_outputs_are_each_compared_and_judged_over_the_set() -> None:
    generator = np.random.default_rng(0)
    reference: Arrays = {
        name: {"tokens": generator.standard_normal((1, 5, 16)), **keyed} for name, keyed in references().items()
    }
    comparison = measured(as_run(reference), reference)
    assert [record.output for record in comparison.sets] == ["embedding", "tokens"]
    assert len(comparison.outputs) == 2 * len(NAMES)


def test_a_stored_comparison_reads_back_with_its_nan_and_infinities(tmp_path) -> None:
    reference = references()
    reference["cat"]["embedding"][0, 0] = 0
    run = as_run(references())
    run["black"]["embedding"][0, 0] = -np.inf
    comparison = measured(run, reference)
    path = tmp_path / "comparison.json"
    comparison.write(path)
    assert Comparison.read(path) == comparison
    assert comparison.outputs[3].metrics["largest_relative_error"] == math.inf
    assert json.loads(path.read_text())["outputs"][3]["metrics"]["largest_relative_error"] == "Infinity"
    # no metric gives NaN, but a record that holds one must keep it
    record = comparison.outputs[0].model_copy(update={"metrics": {"correlation": math.nan}})
    again = type(record).model_validate_json(record.to_json())
    assert math.isnan(again.metrics["correlation"])


def test_the_same_arrays_give_the_same_bytes_in_any_order() -> None:
    run = with_noise(references(), 0.005)
    backwards = {name: run[name] for name in reversed(NAMES)}
    shuffled = {name: references()[name] for name in reversed(NAMES)}
    one = measured(run).to_json()
    assert compare(backwards, shuffled, reversed(PHOTOGRAPHS)).to_json() == one
    assert Comparison.model_validate_json(one).to_json() == one
