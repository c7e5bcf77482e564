"""Which flips are ties, and which are real: an inversion's `error_needed` against the error that is allowed.

The allowed error of an input, as a relative L2, is what fp16 allows: the smaller of the policy's limit on
`relative_l2` and, where the device's arithmetic is known, its limit on `error_ratio` times the error that the
emulated device has on that very input. Without either nothing is allowed, and every flip is real.

    real     error_needed > allowed            no error of the allowed size does this, whatever its direction: fails
    tie      error_needed <= allowed x s       noise of the allowed size does this: told, and no fault
    aligned  in between                        an error of the allowed size can, but only one that points from the
                                               right candidate to the wrong one: suspicious

with s = min(1, 8 / sqrt(D)), D components. The part of an error e that lies along one fixed direction deviates by
|e| / sqrt(D) when e points anywhere alike, and exceeds 8 times that with a probability of at most 2 exp(-8^2 / 2)
= 2.5e-14 (a unit vector's component is sub-Gaussian with variance 1 / D), the same eight as in `tolerance`: no
flip among 10^9 inputs and labels is called aligned by chance. Rounding does not point anywhere alike in a trained
model, which is why this class is to be looked at and does not fail.

A retrieval has an error on both sides of every likeness, of which `error_needed` takes the sum and not the root
of the sum of squares: errors of different images are not independent, and where they are it errs towards a tie.

It follows that a run which meets its limits on `relative_l2` has no real flip in zero-shot: what a real one adds is
what the failure costs, in labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from fidelity.comparison.expectation import Expectation
from fidelity.comparison.judgement import Finding, FindingCode, Severity
from fidelity.comparison.metrics import ERROR_RATIO
from fidelity.comparison.policy import Limit
from fidelity.comparison.ranking import Inversion, RankedInput, Ranking
from fidelity.comparison.run_findings import some
from fidelity.record import Figure, Record

FlipKind = Literal["tie", "aligned", "real"]
Depth = Literal[1, 5]
DEPTHS: tuple[Depth, Depth] = (1, 5)
DEVIATIONS = 8.0
_ROUNDING = 2.0**-52
"""Of the scores themselves: see `slack`."""

_OF_KIND: dict[FlipKind, tuple[FindingCode, Severity, str]] = {
    "real": ("real_flip", "fail", "more than an error of the allowed size can do"),
    "aligned": ("aligned_flip", "suspicious", "more than noise of the allowed size does"),
    "tie": ("flip_within_noise", "note", "ties within the allowed error"),
}


_WHAT: dict[Depth, str] = {1: "another candidate is first", 5: "the first five come in another order"}


class Flip(Record):
    """One inversion, judged. `depth` 1: PyTorch's best candidate lost its place; 5: another of its first five."""

    input: str
    depth: Depth
    kind: FlipKind
    inversion: Inversion
    allowed: Figure


class JudgedRanking(Record):
    """A ranking, the relative L2 error that each input is allowed, and what its flips are, hardest first."""

    ranking: Ranking
    allowed: dict[str, Figure]
    flips: tuple[Flip, ...]

    @property
    def counts(self) -> dict[FlipKind, int]:
        """Flips of each kind, at any depth, the worst kind first."""
        return {kind: sum(flip.kind == kind for flip in self.flips) for kind in _OF_KIND}

    def count(self, kind: FlipKind, depth: Depth) -> int:
        """Inputs with such a flip."""
        return sum(flip.kind == kind and flip.depth == depth for flip in self.flips)


def allowed_errors(ranking: Ranking, limits: Mapping[str, Limit], expectation: Expectation | None) -> dict[str, float]:
    """The relative L2 error that fp16 allows, by input.

    A retrieval compares an image with others, so the largest of the set's errors is allowed to each.
    """
    limit = limits.get("relative_l2")
    fixed = limit.at_most if limit is not None and limit.at_most is not None else None
    factor = limits.get(ERROR_RATIO.name)
    expected: dict[str, float] = {}
    if expectation is not None and factor is not None and factor.at_most is not None:
        expected = {
            each.input: factor.at_most * each.error_expected
            for each in expectation.outputs
            if each.output == ranking.output and each.error_expected is not None
        }
    found = {}
    for each in ranking.inputs:
        known = [error for error in (fixed, expected.get(each.input)) if error is not None and not math.isnan(error)]
        found[each.input] = min(known, default=0.0)
    if ranking.task == "retrieval":
        return dict.fromkeys(found, max(found.values(), default=0.0))
    return found


def judge_ranking(ranking: Ranking, allowed: Mapping[str, float]) -> JudgedRanking:
    """The kind of every flip, under the error that each input is allowed."""
    flips = [flip for each in ranking.inputs for flip in _flips(each, allowed[each.input], ranking.components)]
    hardest = sorted(flips, key=lambda flip: -flip.inversion.error_needed)
    return JudgedRanking(ranking=ranking, allowed=dict(allowed), flips=tuple(hardest))


def _flips(each: RankedInput, allowed: float, components: int) -> list[Flip]:
    """That of the best candidate, and the hardest of the first five where it is another."""
    found: list[tuple[Depth, Inversion]] = []
    if each.first is not None:
        found.append((1, each.first))
    if each.five is not None and each.five != each.first:
        found.append((5, each.five))
    return [
        Flip(
            input=each.input,
            depth=depth,
            kind=kind_of(inversion.error_needed, allowed, components),
            inversion=inversion,
            allowed=allowed,
        )
        for depth, inversion in found
    ]


def kind_of(error_needed: float, allowed: float, components: int) -> FlipKind:
    """What an inversion is that takes such an error, where this much is allowed, of so many components."""
    if not error_needed <= allowed + slack(components):
        return "real"
    noise = allowed * min(1.0, DEVIATIONS / math.sqrt(components))
    return "tie" if error_needed <= noise + slack(components) else "aligned"


def slack(components: int) -> float:
    """What the scores' own rounding can turn round: two cosines in float64, each a sum of D products.

    The sum of D products of two vectors of norm 1 is off by D u at most, their normalisation by D u / 2 + 2 u
    each, u = 2^-53: 2 (D + D + 4) u for a difference of two scores, over at least the least distance of labels
    that a float32 text tower tells apart by more than its rounding, 2^-12.
    """
    return 2 * (components + 2) * _ROUNDING * 2**12


def ranking_findings(judged: JudgedRanking) -> tuple[Finding, ...]:
    """One finding for each kind and depth, with its hardest case, and one for inputs that could not be ranked."""
    findings = [_finding(judged, kind, depth) for kind in _OF_KIND for depth in DEPTHS if judged.count(kind, depth)]
    ranking = judged.ranking
    if ranking.unranked or not ranking.inputs:
        message = (
            f"{ranking.task}: {len(ranking.unranked)} of {ranking.asked} inputs have no output that can be ranked: "
            f"{some(ranking.unranked)}"
        )
        findings.append(
            Finding(
                code="not_ranked",
                severity="fail",
                message=message,
                output=ranking.output,
                inputs=ranking.unranked,
            )
        )
    return tuple(findings)


def _finding(judged: JudgedRanking, kind: FlipKind, depth: Depth) -> Finding:
    ranking = judged.ranking
    flips = [flip for flip in judged.flips if flip.kind == kind and flip.depth == depth]
    worst = flips[0]
    code, severity, why = _OF_KIND[kind]
    it = worst.inversion
    message = (
        f"{ranking.task}: {_WHAT[depth]} at {len(flips)} of {ranking.asked} inputs, {why}; hardest at "
        f"{worst.input}: {it.wrong!r} before {it.right!r}, margin {it.margin:.3g}, which takes a relative error of "
        f"{it.error_needed:.3g} of the {worst.allowed:.3g} allowed"
    )
    return Finding(
        code=code,
        severity=severity,
        message=message,
        output=ranking.output,
        inputs=tuple(flip.input for flip in flips),
        worst=it.error_needed,
    )
