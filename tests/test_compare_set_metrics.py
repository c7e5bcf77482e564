"""Each metric over the set of inputs against an independent oracle, and its named refusals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from test_compare_cases import NAMES, references, with_noise

from fidelity.comparison.metrics import SET_METRICS
from fidelity.comparison.metrics.outcome import Measured, Undefined

TIGHT = 1e-12  # float64 sums over at most 8 * 1024 products

Flat = dict[str, np.ndarray]


def flat(noise: float = 0.0) -> Flat:
    """The standard references by name, or a noisy run of them."""
    arrays = with_noise(references(), noise) if noise else references()
    return {name: keyed["embedding"] for name, keyed in arrays.items()}


def measured(name: str, actual: Flat, reference: Flat) -> Measured:
    outcome = SET_METRICS[name].function(actual, reference)
    assert isinstance(outcome, Measured), outcome
    return outcome


def cause(name: str, actual: Flat, reference: Flat) -> str:
    outcome = SET_METRICS[name].function(actual, reference)
    assert isinstance(outcome, Undefined), outcome
    assert outcome.why
    return outcome.cause


def matrix(arrays: Flat) -> np.ndarray:
    return np.array([arrays[name].astype(np.float64).ravel() for name in sorted(arrays)])


def test_centred_correlation_is_the_worst_of_the_inputs() -> None:
    reference, actual = flat(), flat(0.1)
    common = matrix(reference).mean(axis=0)
    each = {
        name: scipy.stats.pearsonr(actual[name].ravel() - common, reference[name].ravel() - common).statistic
        for name in NAMES
    }
    found = measured("centred_correlation", actual, reference)
    assert found.value == pytest.approx(min(each.values()), abs=TIGHT)
    assert found.inputs == (min(each, key=each.__getitem__),)
    # noise counts more than it does with the common component in: that is the point of it
    assert found.value < min(scipy.stats.pearsonr(actual[n].ravel(), reference[n].ravel())[0] for n in NAMES)


def test_a_constant_output_has_no_centred_correlation_at_its_worst_input() -> None:
    # products with the centred references sum to zero, so one of them is zero or less: for any constant
    generator = np.random.default_rng(1)
    reference = flat()
    for constant in (reference["camera"], generator.standard_normal((1, 1024)), np.ones((1, 1024)) / 32):
        assert measured("centred_correlation", dict.fromkeys(NAMES, constant), reference).value <= TIGHT


def test_the_common_component_is_that_of_all_references_when_few_inputs_ran() -> None:
    reference, actual = flat(), flat(0.01)
    few = {name: actual[name] for name in NAMES[:2]}
    common = matrix(reference).mean(axis=0)
    expected = min(
        scipy.stats.pearsonr(few[name].ravel() - common, reference[name].ravel() - common).statistic for name in few
    )
    assert measured("centred_correlation", few, reference).value == pytest.approx(expected, abs=TIGHT)
    signal = min(np.sum((reference[n] - common) ** 2) / np.sum(reference[n] ** 2) for n in few)
    assert measured("input_signal", few, reference).value == pytest.approx(signal, rel=TIGHT)


def test_input_dependence_is_the_ratio_of_the_spreads() -> None:
    reference, actual = flat(), {name: 3 * array for name, array in flat().items()}
    assert measured("input_dependence", actual, reference).value == pytest.approx(3, rel=TIGHT)
    noisy = flat(0.5)
    expected = np.sqrt(matrix(noisy).var(axis=0).sum() / matrix(reference).var(axis=0).sum())
    assert measured("input_dependence", noisy, reference).value == pytest.approx(expected, rel=TIGHT)
    assert measured("input_dependence", dict.fromkeys(NAMES, noisy["black"] / 3), reference).value == 0


def test_repeated_outputs_counts_pairs_and_names_one() -> None:
    reference, actual = flat(), flat(0.01)
    assert measured("repeated_outputs", actual, reference) == Measured(0.0)
    actual["camera"] = actual["rocket"] = actual["cat"].copy()
    assert measured("repeated_outputs", actual, reference) == Measured(3.0, inputs=("camera", "cat"))
    same = reference | {"camera": reference["cat"], "rocket": reference["cat"]}
    assert measured("repeated_outputs", actual, same).value == 0  # the same input twice repeats rightly


def test_frozen_share_sees_one_channel_whether_dead_or_offset() -> None:
    reference = flat()
    for level in (0.0, 0.3):
        actual = flat(0.01)
        for array in actual.values():
            array[0, 17] = level
        found = measured("frozen_share", actual, reference)
        rms = np.sqrt(np.mean(matrix(reference) ** 2))
        varying = np.sum(np.ptp(matrix(reference), axis=0) >= 0.1 * rms)
        assert found == Measured(1 / varying, index=(17,))
    assert measured("frozen_share", flat(0.01), reference) == Measured(0.0)
    # an element that hardly varies may round to one value for all inputs, and is not frozen
    steady = {name: array.copy() for name, array in reference.items()}
    for number, array in enumerate(steady.values()):
        array[0, 17] = 0.03 + 1e-5 * number
    rounded = {name: np.where(np.arange(1024) == 17, 0.03, array) for name, array in steady.items()}
    assert measured("frozen_share", rounded, steady) == Measured(0.0)


def test_misplacement_is_how_much_nearer_the_wrong_reference_is() -> None:
    reference, actual = flat(), flat()
    actual["camera"], actual["rocket"] = actual["rocket"], actual["camera"]
    expected = scipy.spatial.distance.cosine(reference["camera"].ravel(), reference["rocket"].ravel())
    found = measured("misplacement", actual, reference)
    assert found.value == pytest.approx(expected, abs=TIGHT)
    assert set(found.inputs) == {"camera", "rocket"}
    assert measured("misplacement", flat(0.01), reference).value < 0


def brute_force_neighbours(arrays: Flat) -> dict[str, str]:
    names = sorted(arrays)
    distances = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(matrix(arrays), "cosine"))
    np.fill_diagonal(distances, np.inf)
    return {name: names[int(np.argmin(row))] for name, row in zip(names, distances, strict=True)}


def test_nearest_neighbours_agree_with_a_table_of_distances() -> None:
    reference, actual = flat(), flat(0.9)
    right, chosen = brute_force_neighbours(reference), brute_force_neighbours(actual)
    flips = [name for name in right if right[name] != chosen[name]]
    assert 0 < len(flips) < len(right)  # noise of 0.9 flips some and not all: the case tells apart
    agreement = measured("nearest_neighbour_agreement", actual, reference)
    assert agreement.value == pytest.approx(1 - len(flips) / len(right), abs=TIGHT)
    cosines = np.array(1 - scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(matrix(reference), "cosine")))
    index = {name: i for i, name in enumerate(sorted(reference))}
    regret = {n: cosines[index[n], index[right[n]]] - cosines[index[n], index[chosen[n]]] for n in flips}
    worst = max(regret, key=regret.__getitem__)
    found = measured("nearest_neighbour_regret", actual, reference)
    assert found.value == pytest.approx(regret[worst], abs=TIGHT)
    assert found.inputs == (worst, chosen[worst])


def test_nearest_neighbour_margin_is_that_of_the_reference_alone() -> None:
    angles = {"a": 0.0, "b": 0.3, "c": 0.5, "d": 2.0}
    reference = {name: np.array([[np.cos(t), np.sin(t)]]) for name, t in angles.items()}
    # gaps: a cos .3 - cos .5, b cos .2 - cos .3, c cos .2 - cos .5, d cos 1.5 - cos 1.7
    expected = np.cos(0.2) - np.cos(0.3)
    for actual in (reference, {name: array[:, ::-1] * 3 for name, array in reference.items()}):
        found = measured("nearest_neighbour_margin", actual, reference)
        assert found.value == pytest.approx(expected, abs=TIGHT)
        assert found.inputs == ("b",)


def test_a_tie_in_the_reference_accepts_either_and_costs_nothing() -> None:
    e = np.eye(4)
    reference = {"a": e[0], "b": e[0] + e[1], "c": e[0] + e[1], "d": e[3] + 0.1 * e[0]}
    actual = {"a": e[0], "b": e[0] + 1.1 * e[1], "c": e[0] + e[1], "d": e[3] + 0.1 * e[0]}
    assert measured("nearest_neighbour_agreement", actual, reference).value == 1
    assert measured("nearest_neighbour_regret", actual, reference) == Measured(0.0)
    assert measured("nearest_neighbour_margin", actual, reference).value == 0


def test_a_tie_among_actual_outputs_counts_as_its_worst() -> None:
    reference = flat()
    constant = dict.fromkeys(NAMES, reference["camera"])
    assert measured("nearest_neighbour_agreement", constant, reference).value == 0
    cosines = 1 - scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(matrix(reference), "cosine"))
    off = np.where(np.eye(len(cosines), dtype=bool), np.nan, cosines)
    worst = np.max(np.nanmax(off, axis=1) - np.nanmin(off, axis=1))
    assert measured("nearest_neighbour_regret", constant, reference).value == pytest.approx(worst, abs=TIGHT)


@pytest.mark.parametrize("name", SET_METRICS)
def test_sets_that_prove_nothing_are_named(name: str) -> None:
    reference, actual = flat(), flat(0.01)
    assert cause(name, {}, reference) == "too_few_inputs"
    bad = actual | {"camera": np.full((1, 1024), np.nan)}
    assert cause(name, bad, reference) == "non_finite_actual"
    assert cause(name, actual, reference | {"camera": np.full((1, 1024), np.inf)}) == "non_finite_reference"
    assert cause(name, actual | {"camera": np.zeros((1024, 1))}, reference) == "shape_mismatch"


@pytest.mark.parametrize("name", ["centred_correlation", "input_signal", "input_dependence", "frozen_share"])
def test_references_that_do_not_depend_on_the_input_are_named(name: str) -> None:
    alike = dict.fromkeys(NAMES, flat()["camera"])
    assert cause(name, flat(0.01), alike) == "inputs_alike"


def test_a_reference_equal_to_the_mean_has_no_centred_correlation() -> None:
    generator = np.random.default_rng(2)
    middle, way = generator.standard_normal((2, 1, 64))
    reference = {"left": middle - way, "middle": middle, "right": middle + way}
    assert cause("centred_correlation", reference, reference) == "inputs_alike"


@pytest.mark.parametrize(
    ("name", "fewest"),
    [
        ("input_dependence", 2),
        ("repeated_outputs", 2),
        ("frozen_share", 3),
        ("nearest_neighbour_agreement", 3),
        ("nearest_neighbour_regret", 3),
        ("nearest_neighbour_margin", 3),
    ],
)
def test_each_metric_says_how_few_inputs_are_too_few(name: str, fewest: int) -> None:
    reference, actual = flat(), flat(0.01)
    enough = {n: actual[n] for n in NAMES[:fewest]}
    too_few = {n: actual[n] for n in NAMES[: fewest - 1]}
    measured(name, enough, reference)
    assert cause(name, too_few, reference) == "too_few_inputs"


@pytest.mark.parametrize("name", ["centred_correlation", "input_signal", "misplacement"])
def test_one_reference_has_no_common_component(name: str) -> None:
    reference, actual = flat(), flat(0.01)
    assert cause(name, {"cat": actual["cat"]}, {"cat": reference["cat"]}) == "too_few_inputs"


@pytest.mark.parametrize(
    "name",
    ["misplacement", "nearest_neighbour_agreement", "nearest_neighbour_regret", "nearest_neighbour_margin"],
)
def test_zero_vectors_have_no_direction(name: str) -> None:
    reference, actual = flat(), flat(0.01)
    zero = {"cat": np.zeros((1, 1024))}
    assert cause(name, actual | zero, reference) == "zero_actual"
    assert cause(name, actual | zero, reference | zero) == "zero_reference"


def test_the_order_of_the_inputs_changes_no_bit() -> None:
    reference, actual = flat(), flat(0.1)
    backwards = {name: actual[name] for name in reversed(NAMES)}
    for metric in SET_METRICS.values():
        assert metric.function(backwards, reference) == metric.function(actual, reference)
        assert metric.meaning.endswith(".")
