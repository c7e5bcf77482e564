"""Elementwise kinds: which steps round, how, and whether a division multiplies by a reciprocal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from fidelity.arithmetic.reveal import canonical
from fidelity.arithmetic.reveal.conversions import ANY
from fidelity.arithmetic.reveal.elimination import settle
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, Single
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.rules import Elementwise

_PAIRS = 2048


def operands(seed: int) -> tuple[Single, Single]:
    """Pairs, [1, 1, n, 4]: any float16 bits, ratios near 1, sums beyond the range, products below it."""
    generator = np.random.Generator(np.random.Philox(seed))
    every = generator.integers(0, 1 << 16, (2, _PAIRS), dtype=np.uint16).view(np.float16).astype(np.float32)
    a, b = np.where(np.isfinite(every), every, 1)
    near = (1 + generator.integers(0, 1024, (2, _PAIRS)) / 1024) * 2.0 ** generator.integers(-14, 16, _PAIRS)
    large = generator.integers(1024, 2048, (2, 512)) * 32.0 * generator.choice([-1, 1], (2, 512))
    small = generator.integers(1, 2048, (2, 512)) * 2.0**-24
    scaled = np.stack([small[0] * 2.0 ** generator.integers(0, 12, 512), generator.integers(1, 2048, 512) / 16.0])
    tied = np.concatenate([_ties(generator), _whole(generator)], axis=1)
    low = np.concatenate([a, near[0], large[0], small[0], scaled[0], tied[0], near[0]])
    high = np.concatenate([b, near[1], large[1], small[1], scaled[1], tied[1], -near[1]])
    wide = generator.standard_normal((2, 1024)) * 2.0 ** generator.integers(-30, 20, 1024)
    low, high = (np.concatenate(both).astype(np.float32) for both in ((low, wide[0]), (high, wide[1])))
    return low.reshape(1, 1, -1, 4), high.reshape(1, 1, -1, 4)


def _ties(generator: np.random.Generator) -> Single:
    """Pairs whose quotient lies exactly between two subnormals."""
    divisor = generator.choice([3, 5, 6, 7, 10, 12, 14, 20], 512) * 2.0 ** generator.integers(0, 12, 512)
    odd = 2 * generator.integers(0, 30, 512) + 1
    return np.asarray([divisor * odd * 2.0**-25, divisor], np.float32)


def _whole(generator: np.random.Generator) -> Single:
    """Pairs whose quotient is a float16 number."""
    quotient, divisor = generator.integers(1, 8, 512), generator.integers(32, 256, 512)
    return np.asarray([quotient * divisor, divisor], np.float32)


def hypotheses(kind: str, arithmetic: Arithmetic) -> list[Elementwise]:
    """Every rule for `kind` that shows, in canonical form."""
    unique: dict[Elementwise, None] = {}
    for rule in _every(kind):
        unique.setdefault(canonical.elementwise(kind, rule, arithmetic))
    return list(unique)


def _every(kind: str) -> Iterable[Elementwise]:
    stepped = kind == "SQUARED_DIFFERENCE"
    for stored in ANY:
        for steps in ANY if stepped else (None,):
            yield Elementwise(steps=steps, stored=stored)
        for steps in ANY if kind == "DIV" else ():
            yield Elementwise(steps=steps, stored=stored, division="reciprocal")


def find_elementwise(kind: str, arithmetic: Arithmetic, findings: Findings) -> Inquiry[Elementwise]:
    """The rule of one kind with two runtime operands."""
    rules = hypotheses(kind, arithmetic)
    first = Experiment(kind, operands(seed=len(kind)))
    known = replace(arithmetic, rules={})
    found = yield from settle(rules, lambda rule, it: predict(known.with_rule(kind, rule), it), [first])
    if len(found) > 1:
        findings.gap(f"{kind}: {len(found)} rules explain all {first.runtime[0].size} pairs; the first is taken")
    seen = f"{found[0].model_dump_json(exclude={'rule'})} explains every pair"
    findings.found(f"rules.{kind}", f"{first.runtime[0].size} pairs of numbers", seen, f"{len(rules) - 1} other rules")
    return found[0]
