"""Settle one of several hypotheses: predict, look, cross out; then ask only where the rest disagree.

Every hypothesis is a rule that the emulator can compute, so a hypothesis that survives explains
every number seen, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, ask, same

H = TypeVar("H")
Predict = Callable[[H, Experiment], Single]
Look = Callable[[Single], Single]


@dataclass(frozen=True)
class Crossed:
    """How many hypotheses one experiment crossed out, and the experiment in words."""

    experiment: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.experiment}: {self.before} -> {self.after}"


def survivors(
    hypotheses: Sequence[H], predict: Predict[H], experiments: Sequence[Experiment], seen: Sequence[Single]
) -> list[H]:
    """Those whose predictions all equal what was seen."""
    left = list(hypotheses)
    for experiment, numbers in zip(experiments, seen, strict=True):
        left = [hypothesis for hypothesis in left if same(numbers, predict(hypothesis, experiment))]
    return left


def settle(
    hypotheses: Sequence[H],
    predict: Predict[H],
    first: Sequence[Experiment],
    more: Callable[[Sequence[H]], Sequence[Experiment]] = lambda left: (),
    rounds: int = 4,
) -> Inquiry[list[H]]:
    """The hypotheses that explain all experiments: `first`, then `more(left)` while several are left.

    `more` gives experiments on which those left disagree, or none when it finds none. Raises NotTold
    when nothing is left: the device follows none of the hypotheses.
    """
    seen = yield from ask(first)
    left = survivors(hypotheses, predict, first, seen)
    for _ in range(rounds):
        if len(left) < 2:
            break
        experiments = more(left)
        if not experiments:
            break
        seen = yield from ask(experiments)
        left = survivors(left, predict, experiments, seen)
    if not left:
        raise NotTold(f"none of {len(hypotheses)} rules explains what was seen")
    return left


def told_apart(left: Sequence[H], predict: Predict[H], experiments: Sequence[Experiment]) -> list[Experiment]:
    """Those of the experiments on which not all hypotheses predict the same."""
    useful = []
    for experiment in experiments:
        base = predict(left[0], experiment)
        if any(not same(base, predict(other, experiment)) for other in left[1:]):
            useful.append(experiment)
    return useful
