"""Functions of one number, on every float16 value; powers on many.

The algorithm that explains most values is taken and the rest are listed, so that the rule is
exact for every value whatever the device does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.kernels.functions import unary
from fidelity.arithmetic.reveal.canonical import power
from fidelity.arithmetic.reveal.conversions import ANY
from fidelity.arithmetic.reveal.elementwise import operands
from fidelity.arithmetic.reveal.elimination import settle
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, agrees, ask, same
from fidelity.arithmetic.reveal.synthetic import Arithmetic, bits, predict
from fidelity.arithmetic.rules import POWER, Function, FunctionName

_OF_POWERS: FunctionName = "exp2_of_log2"
ALGORITHMS = tuple(name for name in get_args(FunctionName) if name != _OF_POWERS)
_EVERY = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
ARGUMENTS: Single = _EVERY[~np.isnan(_EVERY)].reshape(1, 1, -1, 2)
"""Every float16 number, infinities too; NaN of any bits gives NaN."""
_SENT: Single = np.clip(ARGUMENTS, np.float32(-1e30), np.float32(1e30))
"""What is given to the device, which takes no infinity: one that saturates never sees it."""


@cache
def value(kind: str, rule: Function) -> Single:
    """What a rule without exceptions gives for ARGUMENTS; cached, since all are tried on every device."""
    return unary(kind, ARGUMENTS, rule)


def find_function(kind: str, arithmetic: Arithmetic, findings: Findings) -> Inquiry[Function]:
    """The rule of one function: algorithm, conversion and the arguments where the device differs."""
    (seen,) = yield from ask([Experiment(kind, (_SENT,))])
    if seen.shape != ARGUMENTS.shape:
        raise NotTold(f"{kind}: the answer has shape {seen.shape}")
    arrive = reached(arithmetic)
    best, wrong = _closest(kind, seen, arrive)
    rule = best
    if wrong.any():
        if best.stored is None or not np.array_equal(rounded(seen[wrong], ANY[0]), seen[wrong], equal_nan=True):
            raise NotTold(f"{kind}: float32 results that none of {', '.join(ALGORITHMS)} explains")
        pairs = zip(bits(ARGUMENTS[wrong]), bits(seen[wrong]), strict=True)
        rule = best.model_copy(update={"exceptions": tuple(sorted(pairs))})
    findings.found(
        f"rules.{kind}",
        f"all {ARGUMENTS.size} float16 numbers",
        f"{best.function}, stored {best.stored}, {int(wrong.sum())} exceptions",
        f"{len(ALGORITHMS) * len(ANY) - 1} other pairs of algorithm and conversion have as many exceptions or more",
    )
    return rule


def reached(arithmetic: Arithmetic) -> NDArray[np.bool_]:
    """Arguments that enter as they are."""
    return agrees(rounded(_SENT, arithmetic.inputs), ARGUMENTS)


def _candidates(kind: str) -> Iterator[tuple[Function, Single]]:
    for stored in ANY:
        for function in ALGORITHMS:
            rule = Function(function=function, stored=stored)
            yield rule, value(kind, rule)


def _closest(kind: str, seen: Single, arrive: NDArray[np.bool_]) -> tuple[Function, NDArray[np.bool_]]:
    """The rule with the fewest exceptions, and where those are; the first of equals."""
    best: tuple[int, Function, NDArray[np.bool_]] | None = None
    for rule, expected in _candidates(kind):
        wrong = arrive & ~agrees(seen, expected)
        count = int(wrong.sum())
        if best is None or count < best[0]:
            best = (count, rule, wrong)
        if count == 0:
            break
    if best is None:
        raise NotTold(f"{kind}: no algorithm to try")
    return best[1], best[2]


def find_power(arithmetic: Arithmetic, findings: Findings) -> Inquiry[Function]:
    """The rule of POW, from powers of many numbers and square roots."""
    base, _ = operands(seed=1)
    base = np.where(rounded(base, arithmetic.inputs) == 0, np.float32(1), base)
    exponents = np.resize(np.array([2, 3, -1, 0.5, 0.25, 1.5, -0.5, 0], np.float32), base.shape)
    roots = np.concatenate([np.abs(base), np.full_like(base[..., :1, :], -1e30)], axis=2)
    first = [Experiment(POWER, (base, exponents)), Experiment(POWER, (roots, np.full_like(roots, 0.5)))]
    rules = [Function(function=function, stored=stored) for stored in ANY for function in ("exact", _OF_POWERS)]
    known = replace(arithmetic, rules={})
    rules = [
        Function.model_validate_json(each)
        for each in dict.fromkeys(power(rule, arithmetic).to_json() for rule in rules)
    ]
    found = yield from settle(rules, lambda rule, it: predict(known.with_rule(POWER, rule), it), first)
    (zeros,) = yield from ask([nought := Experiment(POWER, (np.zeros_like(exponents), exponents))])
    if not same(zeros, predict(known.with_rule(POWER, found[0]), nought)):
        findings.gap(f"{POWER}: powers of zero are not those of the rule that explains all others")
    seen = f"{found[0].function}, stored {found[0].stored}"
    findings.found(
        f"rules.{POWER}", f"powers of {base.size} numbers", seen, f"{len(rules) - len(found)} of {len(rules)} rules"
    )
    return found[0]
