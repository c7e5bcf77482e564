"""What masks do not show of a sum: where a mean divides, whether products are fused, which of several like orders.

All are tried, region by region, on numbers chosen so that every rounding shows: large ones that
cancel, and small ones between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fidelity.arithmetic.reveal.accumulator import MEANS, rule_of
from fidelity.arithmetic.reveal.canonical import Kept
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, ask, output_shape, same
from fidelity.arithmetic.reveal.orders import dealing
from fidelity.arithmetic.reveal.parts import ABSORBABLE, Option, Options, Parts, Place, Taken, complete, divided
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.stress import MOST_TOLD, arbitrary_products, noise, pairs, telling_means
from fidelity.arithmetic.reveal.survey import Line, Region, Survey
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.rules import Product, Reduction

_FEWEST, _TELLING = 3, 6
_SUMS, _CORNER = 64, 384


def refine(
    survey: Survey, kept: Sequence[Kept], regions: Mapping[Line, Sequence[Region]], arithmetic: Arithmetic
) -> Inquiry[tuple[list[Kept], Parts]]:
    """Which of `kept` explain most, and each line's parts under the first of them.

    Regions are divided where no one option explains all of their numbers of terms. Raises NotTold
    when nothing is explained.
    """
    places = [
        (line, region, terms)
        for line, found in regions.items()
        for region in found
        if region.labels
        for terms in _numbers(survey, region, found)
    ]
    samples = yield from _seen(survey, places)
    found: list[tuple[tuple[int, int], Kept, dict[Place, Options]]] = []
    for each in _flavours(survey.site, kept):
        options = {place: _explaining(survey, place, each, arithmetic, samples[place]) for place in places}
        found.append((_score(options), each, options))
    most = max((score for score, _, _ in found), default=(0, 0))
    if most[0] == 0:
        raise NotTold(f"{survey.site.name}: nothing explains sums of arbitrary numbers")
    if most[0] < len(places):
        survey.findings.gap(
            f"{survey.site.name}: {len(places) - most[0]} of {len(places)} shapes follow no single order"
        )
    best = [(each, options) for score, each, options in found if score == most]
    return [each for each, _ in best], {line: divided(line, regions[line], best[0][1]) for line in regions}


def explained_at(
    survey: Survey, kept: Kept, places: Sequence[Place], arithmetic: Arithmetic
) -> Inquiry[dict[Place, Options]]:
    """What explains arbitrary sums at each place."""
    samples = yield from _seen(survey, places)
    return {place: _explaining(survey, place, kept, arithmetic, samples[place]) for place in places}


def _seen(survey: Survey, places: Sequence[Place]) -> Inquiry[dict[Place, list[tuple[Experiment, Single]]]]:
    """Arbitrary sums at each place, and what the device made of them."""
    asked = {place: _experiments(survey, place) for place in places}
    answers = iter((yield from ask([one for place in places for one in asked[place]])))
    return {
        place: survey.site.merged([_sample(survey.site, one, next(answers)) for one in asked[place]])
        for place in places
    }


def _score(options: Mapping[Place, Options]) -> tuple[int, int]:
    """How many places are explained, and in how many ways as to what is inside the sum."""
    ways = [max((len(taken) for taken in left.values()), default=0) for left in options.values()]
    return sum(way > 0 for way in ways), sum(ways)


def _flavours(site: Site, kept: Sequence[Kept]) -> list[Kept]:
    """`kept`, and fused where that has a form; the plain ones first."""
    fused = [
        replace(each, fused=True) for each in kept if site.is_product and each.accumulator.format != "float16_corrected"
    ]
    return [*kept, *fused]


def _explaining(
    survey: Survey, place: Place, kept: Kept, known: Arithmetic, seen: Sequence[tuple[Experiment, Single]]
) -> Options:
    """Options that explain one number of terms."""
    site = survey.site
    left: dict[Option, frozenset[Taken]] = {}
    # where terms enter as the accumulator holds them, one order is as good as another with the tree
    tree_alone = (site.is_product and not kept.fused) or (site.kind == "SUM" and kept.accumulator.format == "float32")
    plain = [pair for pair in seen if pair[0].before is None]
    for label in _likeliest_first(survey, place, tree_alone, left):
        for mean in MEANS if site.kind == "MEAN" else MEANS[:1]:
            if left and tree_alone:
                left[Option(survey.known[label], mean)] = next(iter(left.values()))
                continue
            rule = rule_of(site, kept, survey.known[label], mean)
            if _explains(rule, known, site, plain):
                taken = _taken(rule, known, site, seen)
                if complete(taken):
                    left[Option(survey.known[label], mean)] = taken
    return left


def _likeliest_first(survey: Survey, place: Place, tree_alone: bool, left: Options) -> Iterator[int]:
    """The region's orders; while nothing is left, those that explain this shape, then all with its tree."""
    line, region, terms = place
    yield from sorted(region.labels)
    if not left and not tree_alone:
        yield from sorted(survey.likely(line, terms) - region.labels)
    if not left and not tree_alone:
        yield from sorted(survey.variants(region.labels, terms))


def _taken(
    rule: Product | Reduction, known: Arithmetic, site: Site, seen: Sequence[tuple[Experiment, Single]]
) -> frozenset[Taken]:
    """For each kind before the sum, whether it may be inside, may not be, or both."""
    found: list[Taken] = []
    for kind in ABSORBABLE:
        here = [pair for pair in seen if pair[0].before == kind]
        for inside in (False, True):
            way = rule
            if inside and isinstance(rule, Reduction):
                way = Reduction.model_validate({**rule.model_dump(), "absorbs": (kind,)})
            if _explains(way, known, site, here):
                found.append((kind, inside))
    return frozenset(found)


def _explains(
    rule: Product | Reduction, known: Arithmetic, site: Site, seen: Sequence[tuple[Experiment, Single]]
) -> bool:
    arithmetic = known.with_rule(site.kind, rule)
    return all(same(y, predict(arithmetic, x)) for x, y in seen)


def _numbers(survey: Survey, region: Region, regions: Sequence[Region]) -> list[int]:
    """Numbers of terms of a region: those of the lattice, and some that are no power of two."""
    later = [other.first for other in regions if other.first > region.first]
    last = min([*later, survey.lattice.terms[-1] + 1]) - 1
    inside = {terms for terms in survey.ladder if region.first <= terms <= last}
    if survey.site.is_product:
        inside = {min(inside), max(inside)} if inside else set()
    chosen = inside | {terms - 1 for terms in inside if terms - 1 >= max(region.first, _FEWEST)}
    if survey.site.kind == "MEAN":
        within = range(max(region.first, _FEWEST), last + 1)
        chosen |= set([terms for terms in within if terms <= MOST_TOLD and telling_means(terms).size][:2])
    return sorted(chosen | _dealt_apart(survey, region, range(max(region.first, _FEWEST), last + 1)))


def _dealt_apart(survey: Survey, region: Region, within: range) -> set[int]:
    """A few numbers of terms that tell all ways of dealing apart that any number in reach does."""
    orders = [survey.known[label] for label in sorted(region.labels)]
    sizes = [terms for terms in within if terms <= MOST_TOLD]
    chosen: list[int] = []
    for _ in range(_TELLING if len(orders) > 1 and sizes else 0):
        told = {tuple(dealing(order, terms) for terms in chosen) for order in orders}
        more = {terms: len({tuple(dealing(it, at) for at in (*chosen, terms)) for it in orders}) for terms in sizes}
        best = max(sizes, key=lambda terms: more[terms])
        if more[best] == len(told):
            break
        chosen.append(best)
    return set(chosen)


def _experiments(survey: Survey, place: Place) -> list[Experiment]:
    """Arbitrary sums of so many terms."""
    (rows, columns), _, terms = place
    shape = Shape(rows, columns, terms)
    if survey.site.is_product:
        return arbitrary_products(survey.site, shape)
    known = [kind for kind in ABSORBABLE if kind in survey.arithmetic.rules]
    times = range(1 if shape.rows >= _SUMS else 4)
    inside = [pairs(survey.site, shape, kind, seed) for kind in known for seed in times]
    return [*survey.site.experiments(shape, noise(terms)), *inside]


def _sample(site: Site, experiment: Experiment, seen: Single) -> tuple[Experiment, Single]:
    """A corner of a large product and its results: enough to tell by, and quick to predict under one order."""
    if not site.is_product:
        return experiment, seen
    rows, columns = seen.size // seen.shape[-1], seen.shape[-1]
    high, wide = (_CORNER, 2) if rows >= columns else (2, _CORNER)
    corner = seen.reshape(rows, columns)[:high, :wide]
    x, w = site.factors(experiment)
    smaller = site.product(np.ascontiguousarray(x[:high]), np.ascontiguousarray(w[:wide]))
    wanted = corner.reshape(output_shape(smaller))
    return smaller, wanted
