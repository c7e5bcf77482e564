"""SUM and MEAN: accumulator, orders over either axis, where a mean divides, and what is computed inside or behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fidelity.arithmetic.float16 import Conversion
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal import canonical
from fidelity.arithmetic.reveal.accumulator import find_kept
from fidelity.arithmetic.reveal.canonical import Kept
from fidelity.arithmetic.reveal.conversions import ANY, lossy
from fidelity.arithmetic.reveal.elimination import settle
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, together
from fidelity.arithmetic.reveal.parts import ABSORBABLE, agreed
from fidelity.arithmetic.reveal.sight import Lattice
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.survey import Survey
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.reveal.territory import Territory, cases_of, explore
from fidelity.arithmetic.rules import MeanCase, Reduction


def find_reduction(
    kind: str, lattice: Lattice, arithmetic: Arithmetic, findings: Findings, likely: Sequence[Order] = ()
) -> Inquiry[Reduction]:
    """The rule of SUM or MEAN. `arithmetic` has the elementwise rules that are known; `likely` as in Survey."""
    found = yield from together(
        {
            axis: _explored(Site(kind, axis == "last"), lattice, arithmetic, findings, likely)
            for axis in ("last", "other")
        }
    )
    territories = {axis: each for axis, each in found.items() if isinstance(each, Territory)}
    if not territories:
        raise next(each for each in found.values() if isinstance(each, NotTold))
    for axis, each in found.items():
        if isinstance(each, NotTold):
            findings.gap(f"{kind}, {axis} axis: {each}; the rule of the other is taken")
    options, absorbs = agreed([each.parts for each in territories.values()])
    territories = {axis: replace(each, parts=it) for (axis, each), it in zip(territories.items(), options, strict=True)}
    cases = {axis: tuple(_mean_cases(each)) for axis, each in territories.items()}
    last = cases.get("last") or cases["other"]
    other = cases.get("other") or cases["last"]
    kept = _common(kind, list(territories.values()), findings)
    rule = Reduction(accumulator=kept.accumulator, stored=kept.stored, last_axis=last, other_axis=other)
    rule = canonical.reduction(kind, rule, arithmetic).model_copy(update={"absorbs": absorbs})
    rule = yield from _followed(kind, lattice, rule, arithmetic, findings)
    findings.found(
        f"rules.{kind}.last_axis, other_axis",
        f"masks over {len(lattice.rows) * len(lattice.terms)} shapes and either axis, thresholds by bisection",
        f"{len(last)} and {len(other)} case(s), means divide as {sorted({case.mean for case in (*last, *other)})}",
        "every other tree at the shapes asked",
    )
    return rule


def _explored(
    site: Site, lattice: Lattice, arithmetic: Arithmetic, findings: Findings, likely: Sequence[Order]
) -> Inquiry[Territory]:
    widest = Shape(lattice.rows[-1], 1, lattice.terms[-1])
    kept = yield from find_kept(site, widest, arithmetic, findings)
    flushed = lossy(arithmetic.inputs) or lossy(kept[0].stored) or lossy(arithmetic.outputs)
    survey = Survey(site, lattice, kept[0], flushed, arithmetic, findings, likely)
    return (yield from explore(survey, kept, arithmetic))


def _mean_cases(territory: Territory) -> Iterator[MeanCase]:
    for when, option in cases_of(territory):
        yield MeanCase.model_validate({"when": when, "order": option.order, "mean": option.mean})


def _common(kind: str, territories: list[Territory], findings: Findings) -> Kept:
    """What both axes keep their sums in."""
    common = [kept for kept in territories[0].kept if all(kept in other.kept for other in territories[1:])]
    if not common:
        findings.gap(f"{kind}: another accumulator or conversion over another axis; those of the last axis are taken")
    return (common or territories[0].kept)[0]


def _followed(
    kind: str, lattice: Lattice, rule: Reduction, arithmetic: Arithmetic, findings: Findings
) -> Inquiry[Reduction]:
    """The rule with `stored_absorbed`, told by a sum that an ADD alone reads; a gap where that is refused."""
    stored = None
    for each in ABSORBABLE:
        if each not in arithmetic.rules:
            findings.gap(f"{kind}: whether it absorbs {each}: that has no rule")
    if "ADD" in arithmetic.rules:
        answer = (yield from together({"behind": _behind(kind, lattice, rule, arithmetic)}))["behind"]
        if isinstance(answer, NotTold):
            findings.gap(f"{kind}: stored_absorbed: {answer}")
        else:
            stored = answer.stored_absorbed
    findings.found(
        f"rules.{kind}.absorbs, stored_absorbed",
        "ADD, SUB and MUL read by the sum alone; the sum read by an ADD alone",
        f"computed inside: {', '.join(rule.absorbs) or 'none'}; stored behind: {stored or 'as alone'}",
        "the same with a rounding more, or another",
    )
    return rule.model_copy(update={"stored_absorbed": stored})


def _behind(kind: str, lattice: Lattice, rule: Reduction, arithmetic: Arithmetic) -> Inquiry[Reduction]:
    alone = Kept(rule.accumulator, rule.stored)
    forms: dict[Conversion | None, None] = {None: None}
    for each in ANY:
        forms.setdefault(canonical.behind(kind, rule.model_copy(update={"stored_absorbed": each}), alone, arithmetic))
    rules = [rule.model_copy(update={"stored_absorbed": each}) for each in forms]
    first = []
    for sums in np.array_split(_stored(lattice.terms[-1]), 8):
        x = np.zeros((lattice.rows[-1], lattice.terms[-1]), np.float32)
        x[: sums.shape[0]] = sums[: lattice.rows[-1]]
        zeros = np.zeros((1, 1, lattice.rows[-1], 1), np.float32)
        first.append(Experiment(kind, (x[np.newaxis, np.newaxis], zeros), axis=3, after="ADD"))
    found = yield from settle(rules, lambda each, it: predict(arithmetic.with_rule(kind, each), it), first)
    return found[0]


def _stored(terms: int) -> Single:
    """Sums that conversions to float16 tell apart: between neighbours, beyond the range, below the normals."""
    generator = np.random.Generator(np.random.Philox(6))
    drawn = generator.integers(1024, 2048, (64, terms)) / 1024 * 2.0 ** generator.integers(-2, 3, (64, terms))
    few = np.zeros((48, terms))
    few[:, 0] = generator.integers(1024, 2048, 48) * 2.0**-24
    few[:, 1] = -generator.integers(1024, 2048, 48) * 2.0**-24
    few[32:] *= terms  # for means
    few[:8, :2] = 65504
    few[8:16, :2] = -65504
    return np.concatenate([drawn, few]).astype(np.float16).astype(np.float32)
