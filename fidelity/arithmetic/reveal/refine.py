"""What masks do not show of a sum: where a mean divides, whether products are fused, which of several like orders.

All are tried, region by region, on numbers chosen so that every rounding shows: large ones that
cancel, and small ones between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fidelity.arithmetic.float16 import round_to_float16
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.accumulator import MEANS, rule_of
from fidelity.arithmetic.reveal.canonical import Kept
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, ask, same
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.survey import Line, Region, Survey
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict

_SUMS, _CORNER = 64, 384


@dataclass(frozen=True)
class Option:
    """One way to compute a region's sums."""

    order: Order
    mean: str = "total"


Place = tuple[Line, Region]
Options = dict[Place, tuple[Option, ...]]


def refine(
    survey: Survey, kept: Sequence[Kept], regions: Mapping[Line, Sequence[Region]], arithmetic: Arithmetic
) -> Inquiry[tuple[list[Kept], Options]]:
    """Which of `kept` explain every region, and each region's options under the first of them.

    Raises NotTold when none explains more than nothing; a region that the rest leaves open has no options.
    """
    places = [(line, region) for line, found in regions.items() for region in found if region.labels]
    asked = {place: _experiments(survey, place, regions[place[0]]) for place in places}
    answers = iter((yield from ask([one for place in places for one in asked[place]])))
    samples = {place: [_sample(survey.site, one, next(answers)) for one in asked[place]] for place in places}
    experiments = {place: [one for one, _ in found] for place, found in samples.items()}
    seen = {place: [numbers for _, numbers in found] for place, found in samples.items()}
    known = replace(arithmetic, rules={})
    found: list[tuple[int, Kept, Options]] = []
    for each in _flavours(survey.site, kept):
        options = {place: _explaining(survey, place, each, known, experiments[place], seen[place]) for place in places}
        found.append((sum(bool(left) for left in options.values()), each, options))
    most = max((count for count, _, _ in found), default=0)
    if most == 0:
        raise NotTold(f"{survey.site.name}: nothing explains sums of arbitrary numbers")
    if most < len(places):
        survey.findings.gap(f"{survey.site.name}: {len(places) - most} of {len(places)} regions follow no single order")
    best = [(each, options) for count, each, options in found if count == most]
    return [each for each, _ in best], best[0][1]


def _flavours(site: Site, kept: Sequence[Kept]) -> list[Kept]:
    """`kept`, and fused where that has a form; the plain ones first."""
    fused = [
        replace(each, fused=True) for each in kept if site.is_product and each.accumulator.format != "float16_corrected"
    ]
    return [*kept, *fused]


def _explaining(
    survey: Survey, place: Place, kept: Kept, known: Arithmetic, experiments: list[Experiment], seen: list[Single]
) -> tuple[Option, ...]:
    site = survey.site
    left = []
    dealt_alone = site.kind != "MEAN" and not kept.fused  # nothing but the tree shows, and that is known
    labels = sorted(place[1].labels)
    for label in labels[:1] if dealt_alone else labels:
        for mean in MEANS if site.kind == "MEAN" else MEANS[:1]:
            arithmetic = known.with_rule(site.kind, rule_of(site, kept, survey.known[label], mean))
            if all(same(y, predict(arithmetic, x)) for x, y in zip(experiments, seen, strict=True)):
                left.append(Option(survey.known[label], mean))
    return tuple(left)


def _experiments(survey: Survey, place: Place, regions: Sequence[Region]) -> list[Experiment]:
    """Arbitrary sums at a few numbers of terms of the region: its ends, and one that is no power of two."""
    (rows, columns), region = place
    later = [other.first for other in regions if other.first > region.first]
    last = min([*later, survey.lattice.terms[-1] + 1]) - 1
    inside = [terms for terms in survey.lattice.terms if region.first <= terms <= last]
    chosen = {*inside[:1], *inside[-1:], *(terms - 1 for terms in inside[-1:] if terms - 1 >= max(region.first, 3))}
    asked = []
    for terms in sorted(chosen):
        shape = Shape(rows, columns, terms)
        asked += (
            _products(survey.site, shape) if survey.site.is_product else survey.site.experiments(shape, noise(terms))
        )
    return asked


def _sample(site: Site, experiment: Experiment, seen: Single) -> tuple[Experiment, Single]:
    """A corner of a large product and its results: enough to tell by, and quick to predict under one order."""
    if not site.is_product:
        return experiment, seen
    rows, columns = seen.size // seen.shape[-1], seen.shape[-1]
    high, wide = (_CORNER, 2) if rows >= columns else (2, _CORNER)
    corner = seen.reshape(rows, columns)[:high, :wide]
    x, w = site.factors(experiment)
    smaller = site.product(np.ascontiguousarray(x[:high]), np.ascontiguousarray(w[:wide]))
    wanted = corner.reshape(output_like(smaller))
    return smaller, wanted


def output_like(experiment: Experiment) -> tuple[int, ...]:
    """The shape of a product's result."""
    x = experiment.runtime[0].shape
    if experiment.kind == "BATCH_MATMUL":
        return (*x[:-1], experiment.runtime[1].shape[-1])
    w = experiment.constant[0].shape
    return (*x[:-1], w[0]) if experiment.kind == "FULLY_CONNECTED" else (1, 1, x[2] // w[2], w[0])


def noise(terms: int) -> Single:
    """Sums whose every rounding shows, float32 [sums, terms] of float16 numbers."""
    generator = np.random.Generator(np.random.Philox(terms))
    plain = generator.standard_normal((_SUMS, terms))
    large = generator.integers(1024, 2048, (_SUMS, terms)) * generator.choice([-32, 32], (_SUMS, terms))
    large[:, -1] = np.clip(-large[:, :-1].sum(axis=1), -65504, 65504)
    mixed = np.where(generator.random((_SUMS, terms)) < 0.3, large, plain)
    ends = np.tile(np.array([[65504.0], [-65504.0]]), (1, terms))
    cancelling = _cancelling(generator, terms)
    sums = np.concatenate([plain, np.clip(large, -65504, 65504), mixed, ends, cancelling])
    return round_to_float16(np.clip(sums, -65504, 65504))


def _cancelling(generator: np.random.Generator, terms: int) -> Single:
    """Large numbers at a few places that add up to a small one, small numbers elsewhere."""
    sums = generator.standard_normal((_SUMS, terms))
    for row in sums:
        pairs = generator.permutation(terms)[: 2 * max(1, terms // 8)].reshape(-1, 2)
        size = generator.integers(1024, 2048, len(pairs)) * 32.0
        row[pairs[:, 0]], row[pairs[:, 1]] = size, -size + generator.integers(-1, 2, len(pairs)) * 32.0
    return np.asarray(sums, np.float32)


def _products(site: Site, shape: Shape) -> list[Experiment]:
    """Products of arbitrary factors, of which a third add up to little, and sums as for SUM."""
    generator = np.random.Generator(np.random.Philox(shape.terms))
    x = generator.standard_normal((shape.rows, shape.terms)).astype(np.float32)
    w = generator.standard_normal((shape.columns, shape.terms)).astype(np.float32)
    x[::3, -1] = 1
    with np.errstate(all="ignore"):
        w[:, -1] = -(x[0, :-1] * w[:, :-1]).sum(axis=1, dtype=np.float32)
    return [site.product(x, w), *site.experiments(shape, noise(shape.terms))]


def with_bias(site: Site, shape: Shape) -> list[Experiment]:
    """Products whose bias cancels a large first term, so that its place in the sum shows."""
    generator = np.random.Generator(np.random.Philox(shape.terms))
    x = np.ones((shape.rows, shape.terms), np.float32)
    w = generator.standard_normal((shape.columns, shape.terms)).astype(np.float32)
    w[:, 0] = generator.integers(1024, 2048, shape.columns) * 32.0
    return [site.product(x, w, -w[:, 0]), site.product(x[:, ::-1].copy(), w[:, ::-1].copy(), -w[:, 0])]
