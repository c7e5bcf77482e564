"""Labels and images in order: agreement by hand, ties and real flips, and what the verdict says of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_compare_cases import GPU_FP16, POLICY

from fidelity.comparison.comparison import Comparison
from fidelity.comparison.expectation import Expectation, ExpectedOutput, ProfileId
from fidelity.comparison.ranking import Ranking
from fidelity.comparison.ranking_findings import allowed_errors, judge_ranking, kind_of, ranking_findings
from fidelity.comparison.retrieval import error_of_chord, retrieval
from fidelity.comparison.zero_shot import zero_shot
from fidelity.errors import BadInput

NAMES = ("cat", "dog", "car")
AXES = np.eye(3)


def row(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float64)


def classified(truth: np.ndarray, actual: np.ndarray, labels: np.ndarray = AXES) -> Ranking:
    names = NAMES[: len(labels)] if len(labels) <= 3 else tuple(f"l{k}" for k in range(len(labels)))
    return zero_shot({"x": actual}, {"x": truth}, (names, labels, "0" * 64), "embedding", ["x"])


def test_a_flip_by_hand() -> None:
    (found,) = classified(row(0.8, 0.6, 0), row(0.6, 0.8, 0)).inputs
    assert (found.best, found.chosen, found.shared, found.ordered) == ("cat", "dog", 3, False)
    assert found.margin == pytest.approx(0.2)
    assert found.first is not None
    assert (found.first.right, found.first.wrong) == ("cat", "dog")
    assert found.first.margin == pytest.approx(0.2)
    assert found.first.error_needed == pytest.approx(0.2 / math.sqrt(2))
    assert found.five == found.first


def test_it_is_the_margin_to_the_label_that_overtook_not_to_the_second() -> None:
    (found,) = classified(row(0.72, 0.69, 0.05), row(0.5, 0.4, 0.6)).inputs
    assert found.chosen == "car"
    assert found.first is not None
    assert found.first.wrong == "car"
    norm = np.linalg.norm([0.72, 0.69, 0.05])
    assert found.margin == pytest.approx(0.03 / norm)
    assert found.first.margin == pytest.approx(0.67 / norm)


@pytest.mark.parametrize("scale", [0.5, 1.0, 300.0])
def test_the_scale_of_an_embedding_decides_nothing(scale: float) -> None:
    truth, actual = row(0.8, 0.6, 0), row(0.6, 0.8, 0)
    assert classified(scale * truth, actual).inputs[0].margin == pytest.approx(0.2)
    assert classified(truth, scale * actual).inputs[0].first == classified(truth, actual).inputs[0].first


def test_the_order_below_the_first_is_told_apart_from_the_set() -> None:
    labels = np.eye(7)
    truth = row(0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    (swapped,) = classified(truth, row(0.7, 0.6, 0.4, 0.5, 0.3, 0.2, 0.1), labels).inputs
    assert (swapped.first, swapped.shared, swapped.ordered) == (None, 5, False)
    assert swapped.five is not None
    assert (swapped.five.right, swapped.five.wrong) == ("l2", "l3")
    (lost,) = classified(truth, row(0.7, 0.6, 0.5, 0.4, 0.15, 0.2, 0.1), labels).inputs
    assert (lost.shared, lost.ordered) == (4, False)
    (below,) = classified(truth, row(0.7, 0.6, 0.5, 0.4, 0.3, 0.1, 0.2), labels).inputs
    assert (below.shared, below.ordered, below.five) == (5, True, None)


def test_a_constant_output_agrees_nowhere_and_a_tie_in_truth_is_right_either_way() -> None:
    (flat,) = classified(row(0.8, 0.6, 0), row(1, 1, 1)).inputs
    assert flat.chosen == "car"
    assert flat.first is not None
    (zero,) = classified(row(0.8, 0.6, 0), row(0, 0, 0)).inputs
    assert zero.first is not None
    (tied,) = classified(row(0.6, 0.6, 0), row(0.6, 0.7, 0)).inputs
    assert (tied.first, tied.ordered, tied.margin) == (None, True, 0)


@pytest.mark.parametrize(
    "actual", [row(np.nan, 0, 1), row(np.inf, 0, 1), row(1, 0), None], ids=["nan", "inf", "shape", "missing"]
)
def test_what_cannot_be_ranked_fails_by_name(actual: np.ndarray | None) -> None:
    outputs = {"x": row(1, 0.1, 0), "y": actual}
    given = {name: array for name, array in outputs.items() if array is not None}
    truth = {name: row(1, 0.1, 0) for name in outputs}
    found = zero_shot(given, truth, (NAMES, AXES, "0" * 64), "embedding", outputs)
    assert (found.unranked, found.asked, found.top1) == (("y",), 2, 1)
    (finding,) = ranking_findings(judge_ranking(found, {"x": 0.1}))
    assert (finding.code, finding.severity, finding.inputs) == ("not_ranked", "fail", ("y",))


def test_no_inputs_at_all_is_no_agreement() -> None:
    found = zero_shot({}, {"x": row(1, 0, 0)}, (NAMES, AXES, "0" * 64), "embedding", [])
    assert [finding.code for finding in ranking_findings(judge_ranking(found, {}))] == ["not_ranked"]


def test_labels_of_another_model_are_refused() -> None:
    with pytest.raises(BadInput, match="an embedding of 2, the labels have 3"):
        classified(row(1, 0), row(1, 0))


@pytest.mark.parametrize(
    ("needed", "allowed", "components", "kind"),
    [
        (0.0021, 0.01, 1024, "tie"),  # 8 / 32 of 0.01 is 0.0025
        (0.0026, 0.01, 1024, "aligned"),
        (0.0099, 0.01, 1024, "aligned"),
        (0.0101, 0.01, 1024, "real"),
        (0.0099, 0.01, 64, "tie"),  # with few components noise reaches the whole bound
        (0.0101, 0.01, 64, "real"),
        (1e-4, 0.0, 1024, "real"),  # nothing allowed
        (float("nan"), 0.01, 1024, "real"),
        (0.5, float("nan"), 1024, "real"),
    ],
)
def test_kinds(needed: float, allowed: float, components: int, kind: str) -> None:
    assert kind_of(needed, allowed, components) == kind


def expectation(error: float | None) -> Expectation:
    nothing = Comparison(asked=(), photographs=(), outputs=(), sets=(), failures=())
    known = ExpectedOutput(
        input="x",
        output="embedding",
        error_expected=error,
        error_actual=error,
        ratio=1.0,
        undefined=None,
        identical_share=1.0,
    )
    profile = ProfileId(name="p", sha256="0" * 64, measured=True)
    return Expectation(profile=profile, outputs=(known,), comparison=nothing)


def test_what_is_allowed() -> None:
    found = classified(row(0.8, 0.6, 0), row(0.6, 0.8, 0))
    limits = POLICY.limits_of(GPU_FP16)
    assert limits is not None
    assert allowed_errors(found, limits, None) == {"x": 0.01414}
    assert allowed_errors(found, limits, expectation(0.003)) == {"x": pytest.approx(0.006)}
    assert allowed_errors(found, limits, expectation(0.5)) == {"x": 0.01414}  # as expected is not yet good enough
    assert allowed_errors(found, limits, expectation(None)) == {"x": 0.01414}
    assert allowed_errors(found, {}, expectation(0.003)) == {"x": 0.0}  # no limit, so nothing is excused


def test_the_largest_allowed_error_of_the_set_goes_for_a_retrieval() -> None:
    arrays = {name: row(*values) for name, values in (("x", (1, 0, 0)), ("y", (0.9, 0.1, 0)), ("z", (0, 1, 0.1)))}
    found = retrieval(arrays, arrays, "embedding", tuple(arrays))
    assert found is not None
    limits = POLICY.limits_of(GPU_FP16)
    assert limits is not None
    assert set(allowed_errors(found, limits, expectation(0.003)).values()) == {0.01414}
    assert (found.top1, found.same_order, found.candidates) == (3, 3, 2)


def test_the_findings_of_a_real_flip_and_of_a_tie() -> None:
    found = classified(row(0.8, 0.6, 0), row(0.6, 0.8, 0))
    (real,) = ranking_findings(judge_ranking(found, {"x": 0.14}))
    assert (real.code, real.severity, real.inputs) == ("real_flip", "fail", ("x",))
    assert "'dog' before 'cat'" in real.message
    assert real.worst == pytest.approx(0.2 / math.sqrt(2))
    (tie,) = ranking_findings(judge_ranking(found, {"x": 0.15}))
    assert (tie.code, tie.severity) == ("flip_within_noise", "note")


def test_a_photograph_that_is_lost_is_missing_from_the_others_lists_too() -> None:
    arrays = {name: row(*np.eye(4)[k] + 0.1) for k, name in enumerate("abcd")}
    found = retrieval({**arrays, "d": row(np.nan, 0, 0, 1)}, arrays, "embedding", tuple("abcd"))
    assert found is not None
    assert found.unranked == ("d",)
    assert len(found.inputs) == 3
    assert retrieval(arrays, arrays, "embedding", ("a", "b")) is None
    all_lost = retrieval({}, arrays, "embedding", ("a", "b", "c"))
    assert all_lost is not None
    assert all_lost.unranked == ("a", "b", "c")


def test_a_chord_and_its_error() -> None:
    angles = np.array([0.0, 0.01, 0.5, math.pi / 2, 2.0, math.pi])
    assert error_of_chord(2 * np.sin(angles / 2)) == pytest.approx([*np.sin(angles[:3]), 1.0, 1.0, 1.0])
