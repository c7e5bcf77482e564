"""What sums are kept in: width, rounding, saturation, subnormals; told on sums of one, two and three terms.

So few terms have so few orders that all of them are tried: what a sum is kept in is known before
its order is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import permutations, product
from typing import get_args

import numpy as np

from fidelity.arithmetic.order import Combining, Dealing, Order
from fidelity.arithmetic.reveal import canonical
from fidelity.arithmetic.reveal.canonical import Kept
from fidelity.arithmetic.reveal.conversions import ANY, CONVERSIONS, FLUSHED
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, ask, same
from fidelity.arithmetic.reveal.orders import dealing, matrix_of
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.rules import Case, MeanCase, Product, Reduction
from fidelity.arithmetic.summation import Accumulator

MEANS = ("total", "partials", "quotient")


@cache
def every() -> tuple[Kept, ...]:
    """Every pair that shows, in canonical form."""
    pairs: dict[Kept, None] = {}
    for stored in ANY:
        pairs.setdefault(Kept(Accumulator(), stored))
    for conversion, stored, form in product(CONVERSIONS, (None, FLUSHED), ("float16", "float16_corrected")):
        accumulator = Accumulator("float16" if form == "float16" else "float16_corrected", conversion)
        pairs.setdefault(Kept(*canonical.accumulated(accumulator, stored)))
    return tuple(pairs)


def rule_of(site: Site, kept: Kept, order: Order, mean: str = "total") -> Product | Reduction:
    """A rule with one order for every shape."""
    if site.is_product:
        cases = (Case(order=order),)
        return Product(accumulator=kept.accumulator, fused=kept.fused, stored=kept.stored, cases=cases)
    means = (MeanCase.model_validate({"order": order, "mean": mean}),)
    return Reduction(accumulator=kept.accumulator, stored=kept.stored, last_axis=means, other_axis=means)


@cache
def few_terms(count: int) -> tuple[Order, ...]:
    """One order for each way in which `count` terms can be dealt to partial sums and added."""
    unique: dict[tuple[bytes, bytes], Order] = {}
    for order in _small_orders():
        key = (dealing(order, count), matrix_of(order, count).tobytes())
        unique.setdefault(key, order)
    return tuple(unique.values())


def _small_orders() -> Iterator[Order]:
    ways: tuple[Combining, ...] = get_args(Combining)
    for lanes, parts, deal, combine in product((1, 2, 3, 4), range(1, 33), get_args(Dealing), ways):
        yield Order(lanes, False, parts, deal, combine)
        for combine_lanes in ways if lanes > 1 else ():
            yield Order(lanes, True, parts, deal, combine, combine_lanes, "parts")
            yield Order(lanes, True, parts, deal, combine, combine_lanes, "lanes")


def find_kept(site: Site, shape: Shape, arithmetic: Arithmetic, findings: Findings) -> Inquiry[list[Kept]]:
    """What `site` may keep its sums in, at the rows and columns of `shape`: all that explain so few terms."""
    known = replace(arithmetic, rules={})
    left = list(every())
    batteries = (_one_term(), _two_terms(), _three_terms())
    asked = [_experiments(site, shape, terms) for terms in batteries]
    seen = yield from ask([experiment for experiments in asked for experiment in experiments])
    answers = iter(seen)
    for experiments, terms in zip(asked, batteries, strict=True):
        merged = site.merged([(experiment, next(answers)) for experiment in experiments])
        alone, results = [one for one, _ in merged], [numbers for _, numbers in merged]
        left = [kept for kept in left if _explains(site, kept, known, alone, results, terms.shape[-1])]
    if not left:
        raise NotTold(f"{site.name}: no accumulator explains sums of one, two and three terms")
    found = left[0]
    findings.found(
        f"rules.{site.kind}.accumulator",
        f"{site.name}: {sum(terms[..., 0].size for terms in batteries)} sums of one, two and three terms",
        f"{found.accumulator}, stored {found.stored}",
        f"{len(every()) - len(left)} of {len(every())} accumulators with their conversions",
    )
    return left


def _explains(
    site: Site, kept: Kept, known: Arithmetic, experiments: list[Experiment], seen: list[Single], count: int
) -> bool:
    """Whether some order of so few terms gives all that was seen."""
    means = MEANS if site.kind == "MEAN" else MEANS[:1]
    for order, mean in product(few_terms(count), means):
        arithmetic = known.with_rule(site.kind, rule_of(site, kept, order, mean))
        if all(same(y, predict(arithmetic, x)) for x, y in zip(experiments, seen, strict=True)):
            return True
    return False


def _experiments(site: Site, shape: Shape, terms: Single) -> list[Experiment]:
    """Terms [2, sums, K] as factors of a product, or their products as the terms of a sum."""
    if not site.is_product:
        return site.experiments(shape._replace(terms=terms.shape[-1]), terms[0] * terms[1])
    experiments = []
    for factors in np.array_split(terms, -(-terms.shape[1] // shape.rows), axis=1):
        x, w = (
            np.zeros((shape.rows, terms.shape[-1]), np.float32),
            np.zeros((shape.columns, terms.shape[-1]), np.float32),
        )
        x[: factors.shape[1]] = factors[0]
        w[: factors.shape[1]] = factors[1][: shape.columns]
        experiments.append(site.product(x, w))
    return experiments


def _one_term() -> Single:
    """Products of one term: to be rounded, beyond the range, below the normals."""
    generator = np.random.Generator(np.random.Philox(11))
    fine = 1 + generator.integers(0, 1024, (2, 16, 1)) / 1024
    large = fine * 2.0 ** np.arange(0, 16)[:, np.newaxis] * np.array([1, -1])[:, np.newaxis, np.newaxis]
    large = np.minimum(np.abs(large), 60000) * np.sign(large)
    small = fine * 2.0 ** -np.arange(6, 14).repeat(2)[:, np.newaxis]
    return np.asarray(np.concatenate([fine, large, small], axis=1), np.float32)


def _two_terms() -> Single:
    """Sums of two: of numbers far apart, beyond the range, of subnormals, of differences."""
    rows = [
        (131008, 131008),
        (1, 2.0**-11),
        (1, 3 * 2.0**-12),
        (1, 2.0**-12),
        (-1, -3 * 2.0**-12),
        (2049 / 2048 * 2048, 1),
        (1025, 0.75),
    ]
    rows += [(65504, 16), (65504, 15), (65504, 32), (65504, 65504), (-65504, -100), (60000, 6000), (-40000, -40000)]
    rows += [(2.0**-15, 2.0**-15), (3 * 2.0**-24, 2.0**-20), (2.0**-13, -1.5 * 2.0**-14), (1.5 * 2.0**-14, -(2.0**-14))]
    generator = np.random.Generator(np.random.Philox(12))
    drawn = generator.integers(1024, 2048, (46, 2)) / 1024 * 2.0 ** generator.integers(-4, 5, (46, 2))
    terms = np.concatenate([np.array(rows), drawn]).astype(np.float32)
    terms[1:] = terms[1:].astype(np.float16).astype(np.float32)
    scale = np.where(np.abs(terms) < 2.0**-9, np.float32(2.0**-7), np.float32(1))  # products of normals below them
    return np.stack([terms / scale, scale])


def _three_terms() -> Single:
    """Three numbers in every order: what is lost beside a large one, and kept by wider sums."""
    triples = [(49152, 0.5, -49152), (49152, 2.0**-6, -49152), (1.5 * 2.0**-14, -(2.0**-14), 2.0**-12)]
    triples += [(49152, 2.0**-11, -49152), (65504, 65504, -65504), (2048, 1, -2046), (4096, 3, -4090)]
    terms = [order for three in triples for order in permutations(three)]
    sums = np.asarray(terms, np.float32)
    return np.stack([sums, np.ones_like(sums)])
