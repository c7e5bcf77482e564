"""Where two devices' arithmetic differs, as far as a reach of shapes goes: what "revealed exactly" means.

Rules are compared in canonical form; orders by the trees that they stand for, at every shape of
the reach; functions by their values for every float16 number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from fidelity.arithmetic.kernels.functions import unary
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal import canonical
from fidelity.arithmetic.reveal.experiment import agrees
from fidelity.arithmetic.reveal.functions import ARGUMENTS, reached
from fidelity.arithmetic.reveal.orders import dealing, matrix_of
from fidelity.arithmetic.reveal.reveal import Reach
from fidelity.arithmetic.reveal.sight import Lattice
from fidelity.arithmetic.reveal.stress import telling_means
from fidelity.arithmetic.reveal.synthetic import Arithmetic
from fidelity.arithmetic.rules import (
    POWER,
    Case,
    Elementwise,
    Function,
    MeanCase,
    Product,
    Range,
    Reduction,
    Rule,
    Softmax,
    chosen,
)

_FEWEST = 3  # sums of fewer terms have one tree
_SOFTMAX_TERMS = 37


def differences(device: Arithmetic, found: Arithmetic, reach: Reach) -> list[str]:
    """One line for each way in which `found` gives other bits than `device`; empty when it gives the same."""
    lines = []
    for field in ("inputs", "weights"):
        if getattr(device, field) != getattr(found, field):
            lines.append(f"{field}: {getattr(found, field)}, is {getattr(device, field)}")
    if canonical.outputs_seen(device) != canonical.outputs_seen(found):
        lines.append(f"outputs: {found.outputs}, is {device.outputs}")
    for kind, rule in device.rules.items():
        other = found.rules.get(kind)
        if other is None:
            lines.append(f"{kind}: no rule")
        else:
            lines += [f"{kind}: {line}" for line in _rules(kind, rule, other, (device, found), reach)]
    return lines


def _rules(kind: str, rule: Rule, other: Rule, both: tuple[Arithmetic, Arithmetic], reach: Reach) -> Iterator[str]:
    if isinstance(rule, Elementwise) and isinstance(other, Elementwise):
        one, two = canonical.elementwise(kind, rule, both[0]), canonical.elementwise(kind, other, both[1])
        yield from () if one == two else (f"{two}, is {one}",)
    elif isinstance(rule, Function) and isinstance(other, Function):
        yield from _functions(kind, rule, other, both)
    elif isinstance(rule, Product) and isinstance(other, Product):
        yield from _products(kind, rule, other, both, reach.products[kind])
    elif isinstance(rule, Reduction) and isinstance(other, Reduction):
        yield from _reductions(kind, rule, other, both, reach.sums)
    elif isinstance(rule, Softmax) and isinstance(other, Softmax):
        yield from _softmaxes(rule, other, both, reach.softmax_rows)
    else:
        yield f"a {other.rule} rule, is {rule.rule}"


def _functions(kind: str, rule: Function, other: Function, both: tuple[Arithmetic, Arithmetic]) -> Iterator[str]:
    if kind == POWER:
        one, two = canonical.power(rule, both[0]), canonical.power(other, both[1])
        yield from () if one == two else (f"{two}, is {one}",)
        return
    values = [
        canonical.function_values(unary(kind, ARGUMENTS, each), side)
        for each, side in zip((rule, other), both, strict=True)
    ]
    wrong = int((reached(both[0]) & ~agrees(*values)).sum())
    if wrong:
        yield f"{wrong} values differ"


def _products(
    kind: str, rule: Product, other: Product, both: tuple[Arithmetic, Arithmetic], lattice: Lattice
) -> Iterator[str]:
    one, two = canonical.product(kind, rule, both[0]), canonical.product(kind, other, both[1])
    fused = one.fused or two.fused
    alone = {"cases": (), "fused": False}
    if one.model_copy(update={**alone, "cases": rule.cases[-1:]}) != two.model_copy(
        update={**alone, "cases": rule.cases[-1:]}
    ):
        yield f"{two.model_dump(exclude={'cases'})}, is {one.model_dump(exclude={'cases'})}"
    told = False
    for rows, columns, terms in _shapes(lattice, (*one.cases, *two.cases)):
        a, b = (chosen(each.cases, rows=rows, columns=columns, terms=terms).order for each in (one, two))
        if not _alike(a, b, terms, dealt=fused and one.fused == two.fused):
            yield f"at {rows} rows, {columns} columns, {terms} terms: {b}, is {a}"
            return
        told = told or len(set(a.sums_of_terms(terms).tolist())) < terms
    if one.fused != two.fused and told:
        yield f"fused {two.fused}, is {one.fused}"


def _reductions(
    kind: str, rule: Reduction, other: Reduction, both: tuple[Arithmetic, Arithmetic], lattice: Lattice
) -> Iterator[str]:
    one, two = canonical.reduction(kind, rule, both[0]), canonical.reduction(kind, other, both[1])
    one, two = (each.model_copy(update={"absorbs": _inside(each, both[0], lattice)}) for each in (one, two))
    alone = {"last_axis": rule.last_axis[-1:], "other_axis": rule.other_axis[-1:]}
    if one.model_copy(update=alone) != two.model_copy(update=alone):
        outside = {"last_axis", "other_axis"}
        yield f"{two.model_dump(exclude=outside)}, is {one.model_dump(exclude=outside)}"
    for axis in ("last_axis", "other_axis"):
        yield from _sums(axis, (one, two), kind, lattice)


def _inside(rule: Reduction, device: Arithmetic, lattice: Lattice) -> tuple[str, ...]:
    """The kinds that show as computed inside the sum.

    A term that is alone in its partial sum is rounded as it enters a float16 sum; so where all are,
    and the kind by itself rounds likewise, there is nothing to see.
    """
    if rule.accumulator.format != "float16":
        return rule.absorbs
    for axis, (rows, columns, terms) in product(
        ("last_axis", "other_axis"), _shapes(lattice, (*rule.last_axis, *rule.other_axis))
    ):
        order = chosen(getattr(rule, axis), rows=rows, columns=columns, terms=terms).order
        if len(set(order.sums_of_terms(terms).tolist())) < terms:
            return rule.absorbs
    inner = rule.accumulator.conversion
    alone = {kind: device.rules.get(kind) for kind in rule.absorbs}
    stored = {
        kind: canonical.elementwise(kind, it, device).stored
        for kind, it in alone.items()
        if isinstance(it, Elementwise)
    }
    like = {
        kind for kind, it in stored.items() if it and (it.rounding, it.overflow) == (inner.rounding, inner.overflow)
    }
    return tuple(kind for kind in rule.absorbs if kind not in like)


def _sums(axis: str, rules: tuple[Reduction, Reduction], kind: str, lattice: Lattice) -> Iterator[str]:
    wide = rules[0].accumulator.format == "float32"
    for rows, columns, terms in _shapes(lattice, [case for each in rules for case in getattr(each, axis)]):
        a, b = (chosen(getattr(each, axis), rows=rows, columns=columns, terms=terms) for each in rules)
        means = {_mean(kind, each, terms, wide) for each in (a, b)}
        if len(means) > 1 or not _alike(a.order, b.order, terms, dealt=means == {"partials"}):
            yield f"{axis} at {rows} rows, {terms} terms: {b.mean} {b.order}, is {a.mean} {a.order}"
            return


def _mean(kind: str, case: MeanCase, terms: int, wide: bool) -> str:
    """Where a mean divides, as it shows: one partial sum is the whole, and some divisions round as products do."""
    if kind != "MEAN":
        return "total"
    exact = terms & (terms - 1) == 0
    single = len(set(case.order.sums_of_terms(terms).tolist())) == 1
    if case.mean == "partials" and (single or (exact and wide)):
        return "total"
    if case.mean == "quotient" and (exact or (wide and not telling_means(terms).size)):
        return "total"
    return case.mean


def _softmaxes(
    rule: Softmax, other: Softmax, both: tuple[Arithmetic, Arithmetic], rows: tuple[int, ...]
) -> Iterator[str]:
    one, two = canonical.softmax(rule, both[0]), canonical.softmax(other, both[1])
    alone = {"order": Order(), "shares": rule.shares[-1:]}
    if one.model_copy(update=alone) != two.model_copy(update=alone):
        yield f"{two}, is {one}"
    if one.accumulator.format == "float16" and not _alike(one.order, two.order, _SOFTMAX_TERMS, dealt=False):
        yield f"{two.order}, is {one.order}"
    for count in range(rows[0], rows[-1] + 1):
        a, b = (chosen(each.shares, rows=count, columns=1, terms=_FEWEST) for each in (one, two))
        if (a.quotient, a.stored) != (b.quotient, b.stored):
            yield f"shares at {count} rows: {b}, is {a}"
            return


def _shapes(lattice: Lattice, cases: Iterable[Case | MeanCase]) -> Iterator[tuple[int, int, int]]:
    """Every number of terms of the reach, and of rows and columns one for each way in which `cases` choose by them."""
    conditions = [case.when for case in cases]
    rows, columns = (
        _telling(numbers[0], numbers[-1], [when[variable] for when in conditions if variable in when])
        for variable, numbers in (("rows", lattice.rows), ("columns", lattice.columns))
    )
    yield from product(rows, columns, range(max(_FEWEST, lattice.terms[0]), lattice.terms[-1] + 1))


def _telling(low: int, high: int, ranges: Sequence[Range]) -> list[int]:
    """Numbers from `low` to `high` that stand for all: between two bounds only the remainders count."""
    bounds = {low, *(each.at_least or low for each in ranges), *((each.at_most or low - 1) + 1 for each in ranges)}
    starts = sorted(bound for bound in bounds if low <= bound <= high)
    period = math.lcm(*(each.multiple_of or 1 for each in ranges))
    ends = [*starts[1:], high + 1]
    return [
        number for start, end in zip(starts, ends, strict=True) for number in range(start, min(end, start + period))
    ]


def _alike(a: Order, b: Order, terms: int, *, dealt: bool) -> bool:
    """Whether two orders add so many terms alike, and deal them alike where that matters."""
    if a == b:
        return True
    if dealt and dealing(a, terms) != dealing(b, terms):
        return False
    return matrix_of(a, terms).tobytes() == matrix_of(b, terms).tobytes()
