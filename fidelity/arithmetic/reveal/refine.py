"""What masks do not show of a sum: where a mean divides, whether products are fused, which of several like orders.

All are tried, region by region, on numbers chosen so that every rounding shows: large ones that
cancel, and small ones between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from fidelity.arithmetic.float16 import Conversion, round_to_float16
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.accumulator import MEANS, rule_of
from fidelity.arithmetic.reveal.canonical import Kept
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, ask, output_shape, same
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.survey import Line, Region, Survey
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.rules import Product, Reduction

_FEWEST, _MOST = 3, 100
_SUMS, _CORNER, _TELLING = 64, 384, 16
ABSORBABLE: tuple[Literal["ADD", "SUB", "MUL"], ...] = ("ADD", "SUB", "MUL")


@dataclass(frozen=True)
class Option:
    """One way to compute a region's sums."""

    order: Order
    mean: str = "total"


Place = tuple[Line, Region, int]
"""A number of terms of a region of a line."""
Taken = tuple[str, bool]
"""A kind of operation, and whether it is computed inside the sum that reads it."""
Options = Mapping[Option, frozenset[Taken]]
"""What explains sums, each with what it takes to be inside the sum, or not to be."""


@dataclass(frozen=True)
class Part:
    """From `first` terms on, up to the next part; no options where nothing explains what was seen."""

    first: int
    options: Options


Parts = Mapping[Line, tuple[Part, ...]]


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
    asked = {place: _experiments(survey, place) for place in places}
    answers = iter((yield from ask([one for place in places for one in asked[place]])))
    samples = {
        place: survey.site.merged([_sample(survey.site, one, next(answers)) for one in asked[place]])
        for place in places
    }
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
    return [each for each, _ in best], {line: _divided(line, regions[line], best[0][1]) for line in regions}


def _score(options: Mapping[Place, Options]) -> tuple[int, int]:
    """How many places are explained, and in how many ways as to what is inside the sum."""
    ways = [max((len(taken) for taken in left.values()), default=0) for left in options.values()]
    return sum(way > 0 for way in ways), sum(ways)


def _divided(line: Line, regions: Sequence[Region], found: Mapping[Place, Options]) -> tuple[Part, ...]:
    """A line's regions, each divided where its numbers of terms have no option in common; ascending."""
    parts: list[Part] = []
    for region in regions:
        here = sorted(
            ((terms, it) for (at, of, terms), it in found.items() if (at, of) == (line, region)), reverse=True
        )
        inside: list[Part] = []
        current: Options = {}
        for terms, options in here:
            common = _common(current, options)
            if current and options and not common:
                inside.append(Part(terms + 1, current))
            current = common or options or current
        parts += [*[Part(region.first, current), *reversed(inside)]]
    return tuple(parts)


def _common(one: Options, other: Options) -> Options:
    """Options that explain both, and agree on what is inside the sum."""
    both = {option: one[option] & other[option] for option in one if option in other}
    return {option: taken for option, taken in both.items() if _complete(taken)}


def _complete(taken: frozenset[Taken]) -> bool:
    return len({kind for kind, _ in taken}) == len(ABSORBABLE)


def _flavours(site: Site, kept: Sequence[Kept]) -> list[Kept]:
    """`kept`, and fused where that has a form; the plain ones first."""
    fused = [
        replace(each, fused=True) for each in kept if site.is_product and each.accumulator.format != "float16_corrected"
    ]
    return [*kept, *fused]


def agreed(found: Sequence[Parts]) -> tuple[list[Parts], tuple[Literal["ADD", "SUB", "MUL"], ...]]:
    """The parts with the options left where all agree on which kinds the sum absorbs, and those kinds."""
    left = list(found)
    absorbs: list[Literal["ADD", "SUB", "MUL"]] = []
    for kind in ABSORBABLE:
        for inside in (False, True):
            fitting = [
                {line: tuple(_limited(part, (kind, inside)) for part in parts) for line, parts in each.items()}
                for each in left
            ]
            pairs_of = [
                (part, limited)
                for each, other in zip(left, fitting, strict=True)
                for line in each
                for part, limited in zip(each[line], other[line], strict=True)
            ]
            if all(limited.options or not part.options for part, limited in pairs_of):
                left = list(fitting)
                absorbs += [kind] if inside else []
                break
    return left, tuple(absorbs)


def _limited(part: Part, taken: Taken) -> Part:
    return Part(part.first, {option: all_taken for option, all_taken in part.options.items() if taken in all_taken})


def _explaining(
    survey: Survey, place: Place, kept: Kept, known: Arithmetic, seen: Sequence[tuple[Experiment, Single]]
) -> Options:
    """Options that explain one number of terms."""
    site = survey.site
    left: dict[Option, frozenset[Taken]] = {}
    # where terms enter as the accumulator holds them, one order is as good as another with the tree
    tree_alone = (site.is_product and not kept.fused) or (site.kind == "SUM" and kept.accumulator.format == "float32")
    plain = [pair for pair in seen if pair[0].before is None]
    first = sorted(place[1].labels)
    then = [] if tree_alone else sorted(survey.likely(place[0], place[2]) - place[1].labels)
    for label in (*first, *then):
        if left and label in then:
            break
        for mean in MEANS if site.kind == "MEAN" else MEANS[:1]:
            if left and tree_alone:
                left[Option(survey.known[label], mean)] = next(iter(left.values()))
                continue
            rule = rule_of(site, kept, survey.known[label], mean)
            if _explains(rule, known, site, plain):
                taken = _taken(rule, known, site, seen)
                if _complete(taken):
                    left[Option(survey.known[label], mean)] = taken
    return left


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
        chosen |= set([terms for terms in within if terms <= _MOST and telling_means(terms).size][:2])
    return sorted(chosen)


def _experiments(survey: Survey, place: Place) -> list[Experiment]:
    """Arbitrary sums of so many terms."""
    (rows, columns), _, terms = place
    shape = Shape(rows, columns, terms)
    if survey.site.is_product:
        return _products(survey.site, shape)
    known = [kind for kind in ABSORBABLE if kind in survey.arithmetic.rules]
    times = range(1 if shape.rows >= _SUMS else 4)
    inside = [pairs(survey.site, shape, kind, seed) for kind in known for seed in times]
    return [*survey.site.experiments(shape, noise(terms)), *inside]


def pairs(site: Site, shape: Shape, before: str, seed: int = 0) -> Experiment:
    """Pairs of numbers combined by `before` and then summed, whose combination has more bits than float16."""
    generator = np.random.Generator(np.random.Philox([shape.terms, seed]))
    sizes = (shape.rows, shape.terms) if site.last_axis else (shape.terms, shape.rows)
    fine = generator.integers(1024, 2048, (2, 1, 1, *sizes)) / 1024 * 2.0 ** generator.integers(0, 3, (2, 1, 1, *sizes))
    signs = generator.choice([-1, 1], sizes)
    a, b = fine if before == "MUL" else (fine[0] * signs, fine[1] * signs * (1 if before == "ADD" else -1))
    a[..., 0, 0], b[..., 0, 0] = 60000, -60000 if before == "SUB" else 60000  # beyond the range of float16
    runtime = (a.astype(np.float32), b.astype(np.float32))
    return Experiment(site.kind, runtime, axis=3 if site.last_axis else 2, before=before)


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


def noise(terms: int) -> Single:
    """Sums whose every rounding shows, float32 [sums, terms] of float16 numbers."""
    generator = np.random.Generator(np.random.Philox(terms))
    plain = generator.standard_normal((_SUMS, terms))
    large = generator.integers(1024, 2048, (_SUMS, terms)) * generator.choice([-32, 32], (_SUMS, terms))
    large[:, -1] = np.clip(-large[:, :-1].sum(axis=1), -65504, 65504)
    mixed = np.where(generator.random((_SUMS, terms)) < 0.3, large, plain)
    ends = np.tile(np.array([[65504.0], [-65504.0]]), (1, terms))
    cancelling = np.concatenate([_cancelling(generator, terms), _means(terms)])
    sums = np.concatenate([plain, np.clip(large, -65504, 65504), mixed, ends, cancelling])
    return round_to_float16(np.clip(sums, -65504, 65504))


@cache
def telling_means(terms: int) -> Single:
    """Sums of which a mean by division and one by float32(1 / terms) are stored apart; empty where none was found.

    Float32 numbers at and beside those whose mean is a float16 number, or lies between two.
    """
    whole = (terms * np.arange(1024, 4096, dtype=np.int64)).astype(np.float32)  # halves of the mean's ulp
    sums = np.concatenate([whole, np.nextafter(whole, np.float32(0)), np.nextafter(whole, np.float32(np.inf))])
    sums = sums * np.float32(2.0**-3)
    one, other = sums / np.float32(terms), sums * (np.float32(1) / np.float32(terms))
    ways = (Conversion(), Conversion("toward_zero"))
    apart = [round_to_float16(one, way) != round_to_float16(other, way) for way in ways]
    chosen = [sums[each][:: -(-int(each.sum()) // _TELLING) or 1] for each in apart]
    return np.asarray(np.concatenate(chosen), np.float32)


def _means(terms: int) -> Single:
    """The telling sums as three float16 terms each, which add up exactly in float32."""
    sums = telling_means(terms) if terms <= _MOST else np.zeros(0, np.float32)
    rows = np.zeros((sums.size, terms), np.float32)
    for place in range(3):
        rows[:, place] = round_to_float16(sums - rows.sum(axis=1, dtype=np.float32), Conversion("toward_zero"))
    return rows


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
