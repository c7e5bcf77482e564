"""Numbers that show every rounding of a sum: large ones that cancel, small ones between, means that fall apart.

What a hypothesis must explain beside the masks. Drawn from fixed seeds: the same for every device.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from fidelity.arithmetic.float16 import Conversion, round_to_float16
from fidelity.arithmetic.reveal.experiment import Experiment, Single
from fidelity.arithmetic.reveal.sites import Shape, Site

MOST_TOLD = 100
"""Up to this many terms a mean by division is told from one by multiplication."""
_SUMS, _TELLING = 64, 16


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
    sums = telling_means(terms) if terms <= MOST_TOLD else np.zeros(0, np.float32)
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


def arbitrary_products(site: Site, shape: Shape) -> list[Experiment]:
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
