"""The tie rule, against adversaries: nothing within the allowed error is real, and the error named is enough.

The tests of the tests are below: each mistake in `error_needed` fails one of the two laws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.comparison import retrieval as retrieval_module
from fidelity.comparison import zero_shot as zero_shot_module
from fidelity.comparison.ranking import Array, Needed, Ranking, unit
from fidelity.comparison.ranking_findings import judge_ranking, slack
from fidelity.comparison.retrieval import retrieval
from fidelity.comparison.zero_shot import zero_shot

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([1e-4, 3e-3, 0.03, 0.3])
COMPONENTS = 48


def directions(generator: np.random.Generator, count: int, common: float) -> Array:
    """Rows of norm 1 that share a part of their direction, as embeddings do."""
    rows = common * generator.standard_normal(COMPONENTS) + generator.standard_normal((count, COMPONENTS))
    return np.stack([unit(row) for row in rows])


def labelled(truth: Array, actual: Array, labels: Array) -> Ranking:
    names = tuple(f"l{k}" for k in range(len(labels)))
    return zero_shot({"x": actual}, {"x": truth}, (names, labels, "0" * 64), "embedding", ["x"])


@dataclass(frozen=True)
class Case:
    """Truth, labels and a device that is off by `size` of its norm straight from one label to a worse one."""

    truth: Array
    actual: Array
    labels: Array
    right: int
    wrong: int
    needed: float

    @property
    def ranking(self) -> Ranking:
        return labelled(self.truth, self.actual, self.labels)

    @property
    def turned(self) -> bool:
        return bool(self.actual @ self.labels[self.wrong] >= self.actual @ self.labels[self.right])

    @property
    def among_five(self) -> bool:
        return self.right in np.argsort(-(self.labels @ self.truth))[:5]


def towards(seed: int, size: float | None = None, factor: float = 1.0) -> Case:
    """A case at any scale; without a size, off by `factor` times what the pair needs."""
    generator = np.random.default_rng(seed)
    labels = directions(generator, 9, float(generator.uniform(0, 2)))
    truth = directions(generator, 1, 1)[0]
    right, wrong = (int(each) for each in generator.permutation(9)[:2])
    if truth @ labels[right] < truth @ labels[wrong]:
        right, wrong = wrong, right
    apart = labels[wrong] - labels[right]
    needed = float(-(truth @ apart) / np.linalg.norm(apart))
    scale = float(np.exp(generator.uniform(-3, 3)))
    off = factor * needed if size is None else size
    return Case(scale * truth, scale * (truth + off * unit(apart)), labels, right, wrong, needed)


def labels_within_are_no_real_flips(seed: int, size: float) -> None:
    judged = judge_ranking(towards(seed, size).ranking, {"x": size * (1 + 1e-12)})
    assert judged.counts["real"] == 0


def labels_are_turned_by_what_is_needed_and_not_by_less(seed: int) -> None:
    """A little less than is needed does not turn the pair round; a little more does, and is then real below it."""
    assert not towards(seed, factor=0.999).turned
    case = towards(seed, factor=1.001)
    assert case.turned
    if case.among_five:
        judged = judge_ranking(case.ranking, {"x": case.needed * 0.99 - 2 * slack(COMPONENTS)})
        assert judged.counts["real"] > 0


def photographs(seed: int) -> tuple[Array, tuple[int, int, int]]:
    """Images, and a query with its best and a worse candidate."""
    generator = np.random.default_rng(seed)
    rows = directions(generator, 6, float(generator.uniform(0, 1.5)))
    order = np.argsort(-(rows[1:] @ rows[0])) + 1
    return rows, (0, int(order[0]), int(order[int(generator.integers(1, 5))]))


def turned_against(rows: Array, trio: tuple[int, int, int], error: float) -> Array:
    """Each of the three images turned by `error`, the way that does most to the order of the two candidates."""
    query, right, wrong = trio
    moved = rows.copy()
    for place, way in (
        (query, rows[wrong] - rows[right]),
        (right, -rows[query]),
        (wrong, rows[query]),
    ):
        across = way - (way @ rows[place]) * rows[place]
        moved[place] = np.sqrt(1 - error**2) * rows[place] + error * unit(across)
    return moved


def searched(rows: Array, moved: Array) -> Ranking:
    truth, actual = ({f"i{k}": row for k, row in enumerate(side)} for side in (rows, moved))
    found = retrieval(actual, truth, "embedding", tuple(truth))
    assert found is not None
    return found


def images_within_are_no_real_flips(seed: int, error: float) -> None:
    rows, trio = photographs(seed)
    # turned by an angle of this sine: the image of norm 1 is off by more, that of norm cos(angle) by just as much
    found = searched(rows, turned_against(rows, trio, error))
    assert judge_ranking(found, dict.fromkeys((f"i{k}" for k in range(6)), error * (1 + 1e-9))).counts["real"] == 0


def images_that_just_flip_needed_almost_that(seed: int) -> None:
    """The least error that turns best and candidate round by its worst is not far above `error_needed`."""
    rows, trio = photographs(seed)
    low, high = 0.0, 0.99
    for _ in range(40):
        middle = (low + high) / 2
        moved = turned_against(rows, trio, middle)
        turned = moved[trio[0]] @ (moved[trio[1]] - moved[trio[2]]) <= 0
        low, high = (low, middle) if turned else (middle, high)
    found = searched(rows, turned_against(rows, trio, high * (1 + 1e-9))).inputs[0]
    assert found.first is not None
    scores = rows[1:] @ rows[0]
    needed = retrieval_module._needed(scores, rows[1:])(trio[1] - 1, np.array([trio[2] - 1]))[0]
    # the tangents are shorter than the chords by the sines of the angles between the images
    shortest = min(np.sqrt(1 - (rows[0] @ rows[k]) ** 2) for k in trio[1:])
    assert shortest * high * 0.7 <= needed <= high * (1 + 1e-9)


@given(SEEDS, SIZES)
def test_nothing_within_the_allowed_error_is_a_real_flip_of_labels(seed: int, size: float) -> None:
    labels_within_are_no_real_flips(seed, size)


@given(SEEDS)
def test_the_error_named_is_the_least_that_flips_labels(seed: int) -> None:
    labels_are_turned_by_what_is_needed_and_not_by_less(seed)


@given(SEEDS, SIZES)
def test_nothing_within_the_allowed_error_is_a_real_flip_of_images(seed: int, size: float) -> None:
    images_within_are_no_real_flips(seed, size)


@given(SEEDS)
def test_the_error_named_is_near_the_least_that_flips_images(seed: int) -> None:
    images_that_just_flip_needed_almost_that(seed)


@given(SEEDS, SIZES)
def test_an_order_is_kept_exactly_where_nothing_is_turned_round(seed: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    labels, truth = directions(generator, 9, 1), directions(generator, 1, 1)[0]
    found = labelled(truth, truth + size * unit(generator.standard_normal(COMPONENTS)), labels).inputs[0]
    assert (found.first is None) == (found.best == found.chosen)
    assert (found.five is None) == found.ordered
    assert not found.ordered or found.shared == 5


def label_mutant(wrong: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Needed]:
    def make(scores: Array, embeddings: Array) -> Needed:
        def needed(right: int, others: Array) -> Array:
            apart = np.linalg.norm(embeddings[right] - embeddings[others], axis=1)
            return np.minimum(wrong(scores[right] - scores[others], apart), 1.0)

        return needed

    return make


LABEL_MUTANTS = {
    "forgets how far the labels are apart": lambda margin, apart: margin,
    "takes the distance squared": lambda margin, apart: margin / apart**2,
    "takes both sides of the interval": lambda margin, apart: margin / (2 * apart),
    "takes half of the distance": lambda margin, apart: 2 * margin / apart,
}
IMAGE_MUTANTS = {
    "forgets the query's error": lambda margin, apart: margin / 2,
    "forgets the candidates' errors": lambda margin, apart: margin / apart,
    "forgets one candidate": lambda margin, apart: margin / (1 + apart),
    "counts the query twice": lambda margin, apart: margin / (4 + 3 * apart),
}


def the_laws_of_labels() -> None:
    for seed in range(60):
        labels_within_are_no_real_flips(seed, 0.3)
        labels_are_turned_by_what_is_needed_and_not_by_less(seed)


def the_laws_of_images() -> None:
    for seed in range(60):
        images_within_are_no_real_flips(seed, 0.3)
        images_that_just_flip_needed_almost_that(seed)


def test_the_laws_hold_on_the_cases_that_mutants_are_tried_on() -> None:
    the_laws_of_labels()
    the_laws_of_images()


@pytest.mark.parametrize("name", LABEL_MUTANTS)
def test_a_mistake_with_labels_breaks_a_law(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot_module, "_needed", label_mutant(LABEL_MUTANTS[name]))
    with pytest.raises(AssertionError):
        the_laws_of_labels()


@pytest.mark.parametrize("name", IMAGE_MUTANTS)
def test_a_mistake_with_images_breaks_a_law(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval_module, "_needed", label_mutant(IMAGE_MUTANTS[name]))
    with pytest.raises(AssertionError):
        the_laws_of_images()


def test_a_mistake_that_forgives_what_the_device_has_is_noticed() -> None:
    """Allowing the device its own error excuses every flip: any flip is within the error that made it."""
    found = towards(3, 0.9).ranking
    assert found.inputs[0].five is not None
    assert judge_ranking(found, {"x": 0.9}).counts["real"] == 0
    assert judge_ranking(found, {"x": 1e-3}).counts["real"] > 0
