"""LAYER_NORM: whether seven operations are one on this device, and how that one computes.

In float16 the seven are predicted each by its own rule; where that fails, the one that a device
puts in their place is found in float32 precision, which shows all bits of its sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.kernels import elementwise, functions, layer_norm, reductions
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.reveal.company import graphs
from fidelity.arithmetic.reveal.company.combine import combined_last
from fidelity.arithmetic.reveal.company.family import flavours, threads
from fidelity.arithmetic.reveal.company.plane import Plane, repeats, rows_of
from fidelity.arithmetic.reveal.company.territory import cases_of
from fidelity.arithmetic.reveal.conversions import ANY
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import NotTold, same
from fidelity.arithmetic.rules import LAYER_NORM, Elementwise, Function, LayerNorm, Reduction
from fidelity.arithmetic.summation import Accumulator, partial_sums

Single = graphs.Single
Variance = Literal["squares", "deviations"]
_VARIANCES: tuple[Variance, ...] = ("deviations", "squares")
_EPS = 1e-5
_FORMS = (*(form for form in ANY if form is not None and form.overflow == "infinite"), None)
_TERMS, _JUDGED = (88, 348, 1004), 8
_FIRST_ROWS = (390, 40, 8, 2)
_FRESH = ((1, 300), (3, 77), (16, 256), (20, 130), (50, 384), (150, 99), (260, 48))


@dataclass(frozen=True)
class Norm:
    """The kernel for territory.cases_of."""

    variance: Variance
    flavour: Order
    spread: float = 1

    def graph(self, x: Single) -> graphs.Company:
        return graphs.norm(x[np.newaxis], _EPS, wide=True)

    def explaining(self, orders: Sequence[Order], x: Single, seen: Single) -> list[Order]:
        sums: dict[Order, Single] = {}
        with np.errstate(all="ignore"):
            return [order for order in orders if same(self._computed(order, x, sums), seen)]

    def _computed(self, order: Order, x: Single, sums: dict[Order, Single]) -> Single:
        """As kernels.layer_norm has it; `sums` keeps what several orders have in common."""
        share = np.float32(1) / np.float32(x.shape[-1])
        dealt = replace(order, combine="running")
        if self.variance == "squares":
            if dealt not in sums:
                sums[dealt] = partial_sums(np.stack([x, x * x]), order, Accumulator())
            mean, square = _combined(sums[dealt], order)[..., np.newaxis] * share
            difference, variance = x - mean, square - mean * mean
        else:
            if dealt not in sums:
                sums[dealt] = partial_sums(x, order, Accumulator())
            difference = x - _combined(sums[dealt], order)[..., np.newaxis] * share
            squares = partial_sums(difference * difference, order, Accumulator())
            variance = _combined(squares, order)[..., np.newaxis] * share
        return np.asarray(difference * (np.float32(1) / np.sqrt(variance + np.float32(_EPS))), np.float32)


def _combined(sums: Single, order: Order) -> Single:
    """Partial sums [..., parts, lanes] to [...], as summation.combine_partial does."""
    if order.first == "lanes":
        return combined_last(combined_last(sums, order.combine_lanes, np.add), order.combine, np.add)
    return combined_last(combined_last(sums.swapaxes(-1, -2), order.combine, np.add), order.combine_lanes, np.add)


def find_layer_norm(profile: Profile, laboratory: graphs.CompanyLaboratory, findings: Findings) -> LayerNorm | None:
    """The rule of LAYER_NORM; None where each operation is computed by itself.

    Raises NotTold where neither explains what is seen, or the device has no float32 precision.
    """
    fresh = [rows_of(rows, terms, 1, 7).astype(np.float16).astype(np.float32) for rows, terms in _FRESH]
    alone = [graphs.norm(x[np.newaxis], _EPS) for x in fresh]
    seen = graphs.numbers(laboratory, alone)
    if all(same(separate(x[np.newaxis], profile), y) for x, y in zip(fresh, seen, strict=True)):
        findings.found(LAYER_NORM, f"{len(fresh)} LayerNorms", "each operation is computed by itself", "a rule for all")
        return None
    kernel = _kernel(laboratory, findings)
    gaps: list[str] = []
    plane = Plane(kernel, laboratory)
    cases = cases_of(plane, gaps)
    for gap in gaps:
        findings.gap(f"{LAYER_NORM}: {gap}")
    rule = LayerNorm(variance=kernel.variance, cases=cases)
    findings.found(
        f"rules.{LAYER_NORM}.variance, cases",
        f"{plane.shapes} shapes of rows and slices in float32 precision, thresholds by bisection",
        f"{kernel.variance}, {len(cases)} case(s)",
        f"all others of {len(threads(kernel.flavour, 1024))} orders at each shape",
    )
    read = graphs.numbers(laboratory, [graphs.norm(x[np.newaxis], _EPS, read=True) for x in fresh])
    return _stored(rule, profile, fresh, seen, read, findings)


def separate(x: Single, profile: Profile) -> Single:
    """The seven operations [1, rows, terms], each by its own rule. NotTold where the profile lacks one."""
    mean, root = profile.rules.get("MEAN"), profile.rules.get("RSQRT")
    if not isinstance(mean, Reduction) or not isinstance(root, Function):
        raise NotTold("MEAN or RSQRT has no rule of its own")
    x = rounded(x, profile.inputs)
    difference = _binary("SUB", x, reductions.reduce("MEAN", x, (2,), mean), profile)
    inside = profile.model_copy(update={"rules": {**profile.rules, "MUL": Elementwise()}})
    square = _binary("MUL", difference, difference, inside if "MUL" in mean.absorbs else profile)
    variance = reductions.reduce("MEAN", square, (2,), mean, absorbed=True)
    shifted = _binary("ADD", variance, rounded(np.full((1,), _EPS, np.float32), profile.weights), profile)
    result = _binary("MUL", difference, functions.unary("RSQRT", shifted, root), profile)
    return rounded(result, profile.outputs)


def _binary(kind: str, a: Single, b: Single, profile: Profile) -> Single:
    rule = profile.rules.get(kind)
    if not isinstance(rule, Elementwise):
        raise NotTold(f"{kind} has no rule of its own")
    return elementwise.binary(kind, a, b, rule)


def _kernel(laboratory: graphs.CompanyLaboratory, findings: Findings) -> Norm:
    """Variance and arrangement of lanes that explain a few shapes, each under some order.

    Few terms first, under which most fall; some that are alike there are not with more.
    """
    asked = [(rows, terms, seed) for terms in _TERMS for rows in _FIRST_ROWS for seed in range(repeats(rows))]
    data = [rows_of(rows, terms, 1, seed) for rows, terms, seed in asked]
    answers = graphs.numbers(laboratory, [graphs.norm(x[np.newaxis], _EPS, wide=True) for x in data])
    left = [Norm(variance, flavour) for variance, flavour in product(_VARIANCES, flavours())]
    tried = len(left)
    for terms, rows in product(_TERMS, _FIRST_ROWS):
        pairs = [(x, y[0]) for key, x, y in zip(asked, data, answers, strict=True) if key[:2] == (rows, terms)]
        x, seen = (np.concatenate([pair[place] for pair in pairs])[:_JUDGED] for place in (0, 1))
        left = [kernel for kernel in left if _fitting(kernel, x, seen)]
    if not left:
        raise NotTold("no arrangement of lanes and threads explains it in float32 precision")
    if len(left) > 1:
        findings.gap(f"{LAYER_NORM}: {len(left)} arrangements explain rows of {_TERMS} terms; the first is taken")
    experiment = f"rows of {_TERMS} terms in float32 precision"
    findings.found(f"rules.{LAYER_NORM}", experiment, str(left[0]), f"{tried - len(left)} others")
    return left[0]


def _fitting(kernel: Norm, x: Single, seen: Single) -> bool:
    """Whether some order explains it; two rows are tried first."""
    family = threads(kernel.flavour, 2 * kernel.flavour.slices(x.shape[1]))
    return bool(kernel.explaining(kernel.explaining(family, x[:2], seen[:2]), x, seen))


def _stored(
    rule: LayerNorm,
    profile: Profile,
    fresh: Sequence[Single],
    seen: Sequence[Single],
    read: Sequence[Single],
    findings: Findings,
) -> LayerNorm:
    """The rule with `stored` and `stored_absorbed`, by fresh shapes at the device's own precision."""
    add = profile.rules.get("ADD")
    if not isinstance(add, Elementwise):
        raise NotTold("ADD has no rule of its own")
    exact = [layer_norm.layer_norm(rounded(x, profile.inputs), np.float32(_EPS), rule) for x in fresh]
    scores = {form: _right([rounded(y, form) for y in exact], seen, profile) for form in ANY}
    stored = max(_FORMS, key=lambda form: scores[form])
    behind = {}
    for form in (None, *(each for each in ANY if each is not None)):
        values = [rounded(y, stored if form is None else form) for y in exact]
        behind[form] = _right([elementwise.binary("ADD", y, y * 0, add) for y in values], read, profile)
    absorbed = max(behind, key=lambda form: behind[form])
    for name, right in (("stored", scores[stored]), ("stored_absorbed", behind[absorbed])):
        if right < len(fresh):
            findings.gap(f"{LAYER_NORM}: {name} explains {right} of {len(fresh)} fresh shapes")
    findings.found(
        f"rules.{LAYER_NORM}.stored, stored_absorbed",
        f"{len(fresh)} fresh shapes, alone and read by ADD of zeros",
        f"{stored}; {absorbed or 'as alone'}",
        f"the rest of {len(ANY)} conversions",
    )
    return rule.model_copy(update={"stored": stored, "stored_absorbed": absorbed})


def _right(expected: Sequence[Single], seen: Sequence[Single], profile: Profile) -> int:
    pairs = zip(expected, seen, strict=True)
    return sum(same(rounded(y, profile.outputs)[np.newaxis], numbers) for y, numbers in pairs)
