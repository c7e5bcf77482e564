"""Reveal on devices whose arithmetic is known: random ones exactly, and none when it does not look.

2 random devices in CI, 100 with HYPOTHESIS_PROFILE=long.

The devices and what is left out of them: reveal_profiles.py. "Exactly": compare.differences finds nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from reveal_profiles import REACH, Draw

from fidelity.arithmetic.float16 import IEEE, Conversion
from fidelity.arithmetic.order import Order, tree
from fidelity.arithmetic.profile import Origin
from fidelity.arithmetic.reveal import compare, products, reveal
from fidelity.arithmetic.reveal.compare import differences
from fidelity.arithmetic.reveal.evidence import Revealed
from fidelity.arithmetic.reveal.experiment import Experiment, NotTold, Refusal, Result, conduct
from fidelity.arithmetic.reveal.masks import Mask, masks_for
from fidelity.arithmetic.reveal.orders import orders_of
from fidelity.arithmetic.reveal.synthetic import Arithmetic, SyntheticLaboratory, arithmetic_of
from fidelity.arithmetic.reveal.tree import Counts, Inquiry, meeting, reveal_tree
from fidelity.arithmetic.rules import Range
from fidelity.arithmetic.summation import Accumulator, total

ORIGIN = Origin(kind="declared", source="a test", date="2026-11-25")
PROFILES = range(100) if os.environ.get("HYPOTHESIS_PROFILE") == "long" else (8, 10)  # 100 take half an hour


def revealed(device: Arithmetic, *kinds: str) -> Revealed:
    return reveal.reveal(SyntheticLaboratory(device), REACH, "synthetic", ORIGIN, kinds or None)


@pytest.mark.parametrize("seed", PROFILES)
def test_a_random_profile_is_revealed_exactly(seed: int) -> None:
    device = Draw(seed).arithmetic()
    assert differences(device, arithmetic_of(revealed(device).profile), REACH) == []


def test_evidence_names_every_field_and_gaps_are_notes_of_the_profile() -> None:
    found = revealed(Draw(0).arithmetic())
    fields = " ".join(one.field for one in found.evidence)
    assert all(name in fields for name in ("inputs", "weights", "outputs", *found.profile.rules))
    assert found.untold == found.profile.origin.notes
    assert any(line.startswith("shapes looked at") for line in found.untold)


@pytest.mark.parametrize(
    "order",
    [
        Order(),
        Order(lanes=4, parts=8, combine="halves"),
        Order(lanes=4, lanes_apart=True, parts=3, dealing="block", combine="fours", combine_lanes="neighbours"),
        Order(lanes=2, lanes_apart=True, parts=20, combine="neighbours", combine_lanes="halves", first="lanes"),
    ],
)
@pytest.mark.parametrize(
    "accumulator",
    [
        Accumulator("float32"),
        Accumulator("float16"),
        Accumulator("float16", Conversion("toward_zero", "saturate", "flushed")),
        Accumulator("float16_corrected"),
    ],
)
def test_masks_give_the_whole_tree(order: Order, accumulator: Accumulator) -> None:
    terms = 44
    masks = masks_for(accumulator, mean=False, flushed=False, terms=terms)

    def measure(asked: list[Mask]) -> Inquiry[Counts]:
        yield []
        return masks.outside(asked, total(masks.terms(asked, terms), order, accumulator), 1.0)

    found = conduct(reveal_tree(measure, terms, masks.most), SyntheticLaboratory(Arithmetic()))
    assert np.array_equal(meeting(found, terms), meeting(tree(order, terms), terms))
    assert any(
        np.array_equal(meeting(tree(it, terms), terms), meeting(found, terms))
        for it in orders_of(meeting(found, terms))
    )


def test_sums_that_hide_their_order_are_not_guessed() -> None:
    with pytest.raises(NotTold, match="loses nothing"):
        masks_for(Accumulator("float16_corrected", Conversion(overflow="saturate")), mean=False, flushed=False, terms=8)


class Sabotaged(SyntheticLaboratory):
    """Answers, but one kind of experiment with what an exact device would say."""

    def run(self, experiments: Sequence[Experiment]) -> list[Result]:
        exact = SyntheticLaboratory(Arithmetic(rules={}))
        answers = super().run(experiments)
        return [
            exact.run([one])[0] if one.kind == "RESHAPE" else it for one, it in zip(experiments, answers, strict=True)
        ]


def test_a_device_that_is_looked_at_less_is_not_revealed() -> None:
    """The comparison is no formality: it fails where an answer is another device's."""
    device = replace(Draw(1).arithmetic(), outputs=Conversion(subnormals="flushed"), inputs=IEEE)
    found = reveal.reveal(Sabotaged(device), REACH, "sabotaged", ORIGIN, ("ADD",))
    assert any(line.startswith("outputs") for line in differences(device, arithmetic_of(found.profile), REACH))


def test_ignoring_the_bias_loses_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "with_bias", lambda *_: [])
    lost = 0
    for seed in range(6):
        device = Draw(seed).arithmetic()
        found = arithmetic_of(revealed(device, "FULLY_CONNECTED").profile)
        lost += any("FULLY_CONNECTED" in line for line in differences(device, found, REACH))
    assert lost > 0


class Untrusted(SyntheticLaboratory):
    """Refuses, or answers nonsense, by kind."""

    def run(self, experiments: Sequence[Experiment]) -> list[Result]:
        return [self._nonsense(one, it) for one, it in zip(experiments, super().run(experiments), strict=True)]

    @staticmethod
    def _nonsense(experiment: Experiment, answer: Result) -> Result:
        wrong: dict[str, Result] = {
            "DIV": Refusal("no such operation"),
            "FULLY_CONNECTED": np.full((2, 2), np.nan, np.float32),
            "SUM": np.zeros(0, np.float32),
            "EXP": np.full(3, 7, np.float32),
            "SOFTMAX": answer if isinstance(answer, Refusal) else np.full_like(answer, np.nan),
            "TANH": np.zeros(4, np.float64),  # type: ignore[dict-item]
        }
        return wrong.get(experiment.kind, answer)


def test_nonsense_and_refusals_become_named_gaps() -> None:
    found = reveal.reveal(Untrusted(Draw(2).arithmetic()), REACH, "untrusted", ORIGIN)
    for kind in ("DIV", "FULLY_CONNECTED", "SUM", "EXP", "SOFTMAX", "TANH"):
        assert kind not in found.profile.rules
        assert any(line.startswith(f"{kind}: no rule") for line in found.untold), kind
    assert "MUL" in found.profile.rules


def test_shapes_that_stand_for_all_miss_no_case() -> None:
    """Each rule's choice at a number is that at some number that is looked at, on random conditions."""
    generator = np.random.Generator(np.random.Philox(11))
    for _ in range(50):
        ranges = [
            Range(at_least=int(low), at_most=int(low + width), multiple_of=int(times) if times > 1 else None)
            for low, width, times in generator.integers(1, [60, 40, 5], (3, 3))
        ]
        told = {tuple(each.holds(number) for each in ranges) for number in compare._telling(3, 90, ranges)}
        assert told == {tuple(each.holds(number) for each in ranges) for number in range(3, 91)}
        assert len(compare._telling(3, 90, [Range(at_most=40)])) == 2
