"""SOFTMAX: one pass or two, lanes or order, exponential, what the sum is kept in, how the shares end by rows.

Its terms are powers, none negative, so masks cannot be put to it; hypotheses are crossed out on
many rows of a few terms first, then on more terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, product

import numpy as np

from fidelity.arithmetic.float16 import Conversion, round_to_float16, rounded
from fidelity.arithmetic.kernels.softmax import softmax
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.reveal.accumulator import few_terms
from fidelity.arithmetic.reveal.conversions import CONVERSIONS
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, agrees, ask, same
from fidelity.arithmetic.reveal.orders import LANES, families, matrix_of
from fidelity.arithmetic.reveal.synthetic import Arithmetic
from fidelity.arithmetic.rules import SOFTMAX, Range, Share, Softmax
from fidelity.arithmetic.summation import Accumulator

_FEW, _SOME, _MANY = 3, 12, 40
_ROWS, _FIRST = 2048, 16
_ROUNDS, _DRAWN, _COMPARED = 9, 1 << 14, 12
_INFINITE = [each for each in CONVERSIONS if each.overflow == "infinite"]
_STORED: tuple[Conversion | None, ...] = (*_INFINITE, None)
_QUOTIENTS: tuple[Conversion | None, ...] = (None, *(each for each in _INFINITE if each.subnormals == "kept"))


@cache
def forms() -> tuple[Softmax, ...]:
    """Every rule that shows on rows of three terms, but for how the shares are stored."""
    rules = []
    for exponential, quotient in product(("exact", "exp2_gallivm"), _QUOTIENTS):
        share = (Share(quotient=quotient),)
        for lanes in (1, 2, 3):
            rules.append(
                Softmax.model_validate(
                    {"passes": "online", "lanes": lanes, "exponential": exponential, "shares": share}
                )
            )
        for steps, accumulator, order in product(_STORED, _accumulators(), few_terms(_FEW)):
            if not _enters_changed(steps, accumulator) and order not in _three():
                continue
            rules.append(
                Softmax.model_validate(
                    {
                        "exponential": exponential,
                        "steps": steps,
                        "accumulator": accumulator,
                        "order": order,
                        "shares": share,
                    }
                )
            )
    return tuple(rules)


def _enters_changed(steps: Conversion | None, accumulator: Accumulator) -> bool:
    """Whether powers may be rounded or flushed as they enter a sum: then it shows which share a partial sum."""
    return accumulator.format != "float32" and (steps is None or accumulator.conversion.subnormals == "flushed")


def _accumulators() -> list[Accumulator]:
    """A sum of shares never overflows."""
    half = [Accumulator(form, each) for form in ("float16", "float16_corrected") for each in _INFINITE]
    return [Accumulator(), *half]


@cache
def _three() -> tuple[Order, ...]:
    """Orders of three terms with different trees."""
    unique: dict[bytes, Order] = {}
    for order in few_terms(_FEW):
        unique.setdefault(matrix_of(order, _FEW).tobytes(), order)
    return tuple(unique.values())


def rows_of(terms: int, count: int, seed: int) -> Single:
    """Rows whose powers are large, small, equal and below the normals, [1, 1, count, terms]."""
    generator = np.random.Generator(np.random.Philox(seed))
    spread = generator.choice([0.25, 1.0, 3.0, 6.0], (count, 1))
    rows = generator.standard_normal((count, terms)) * spread
    rows[::5] = generator.integers(-20, 1, rows[::5].shape) * 0.5
    tiny = generator.integers(-8, 8, rows[3::17].shape) * 2.0**-20
    rows[3::17] = tiny
    return round_to_float16(rows)[np.newaxis, np.newaxis]


@dataclass(frozen=True)
class Pool:
    """Rows, asked so many at a time, and what was seen of them: [1, 1, rows, terms] each."""

    rows: Single
    seen: Single

    def unexplained(self, rule: Softmax, known: Arithmetic, most: int) -> Single:
        """The first `most` rows' shares as `rule` has them before they are stored."""
        x = rounded(self.rows[:, :, :most], known.inputs)
        return softmax(x, rule.model_copy(update={"shares": (rule.shares[0].model_copy(update={"stored": None}),)}))

    def explained(self, rule: Softmax, known: Arithmetic) -> bool:
        """Whether the rule, of one share, explains every row; a few are tried first."""
        for most in (_FIRST, self.rows.shape[2]):
            value = rounded(self.unexplained(rule, known, most), rule.shares[0].stored)
            if not same(self.seen[:, :, :most], rounded(value, known.outputs)):
                return False
        return True


def _asked(requests: Sequence[tuple[int, int, int, int]]) -> Inquiry[list[Pool]]:
    """For each of (terms, rows at a time, how many, seed) that many rows or more, asked in one round."""
    return (yield from _asked_rows([(rows_of(terms, count, seed), rows) for terms, rows, count, seed in requests]))


def _asked_rows(requests: Sequence[tuple[Single, int]]) -> Inquiry[list[Pool]]:
    """Given rows, so many at a time, the last experiment filled up with the first rows."""
    pools = [np.resize(x, (1, 1, -(-x.shape[2] // rows) * rows, x.shape[3])) for x, rows in requests]
    parts = [
        [Experiment(SOFTMAX, (pool[:, :, first : first + rows],)) for first in range(0, pool.shape[2], rows)]
        for pool, (_, rows) in zip(pools, requests, strict=True)
    ]
    answers = iter((yield from ask([one for each in parts for one in each])))
    return [
        Pool(pool, np.concatenate([next(answers) for _ in each], axis=2))
        for pool, each in zip(pools, parts, strict=True)
    ]


def find_softmax(lattice: Sequence[int], arithmetic: Arithmetic, findings: Findings) -> Inquiry[Softmax]:
    """The rule of SOFTMAX, its shares by the rows in `lattice`, ascending."""
    known = replace(arithmetic, rules={})
    pools = yield from _asked([(_FEW, rows, _ROWS, 1) for rows in lattice])
    left = {rows: _explaining(pool, known) for rows, pool in zip(lattice, pools, strict=True)}
    common = set.intersection(*({_core(rule) for rule in rules} for rules in left.values()))
    if not common:
        raise NotTold("SOFTMAX: no single rule explains rows of three terms for every number of rows")
    first = {rows: next(rule.shares[0] for rule in rules if _core(rule) in common) for rows, rules in left.items()}
    cores = list(dict.fromkeys(_core(rule) for rule in forms() if _core(rule) in common))
    usual = max((rows for rows in lattice if rows <= _ROWS), default=lattice[0])
    shares = [rule.shares[0] for rule in left[usual] if _core(rule) in common]
    core = yield from _whole(cores, list(dict.fromkeys(it.to_json() for it in shares)), usual, known, findings)
    for rows, rules in left.items():
        first[rows] = next((rule.shares[0] for rule in rules if _core(rule) == _core(core)), first[rows])
    first[usual] = core.shares[0]
    cases = yield from _by_rows(core, first, known)
    findings.found(
        "rules.SOFTMAX",
        f"rows of {_FEW}, {_SOME} and {_MANY} terms for {list(lattice)} rows at a time",
        f"{core.passes}, lanes {core.lanes}, {core.exponential}, {len(cases)} share(s)",
        f"the rest of {len(forms()) * len(_STORED)} rules on {_FEW} terms, and of the orders on more",
    )
    return core.model_copy(update={"shares": cases})


def _core(rule: Softmax) -> str:
    """The rule without its share and what only more than three terms tell."""
    lanes = {"lanes": 1, "order": Order()}
    return rule.model_copy(update={"shares": (Share(),), **lanes}).to_json()


def _explaining(pool: Pool, known: Arithmetic) -> list[Softmax]:
    """The forms that explain all rows of a pool, with how their shares are stored."""
    left = []
    for rule in forms():
        value = pool.unexplained(rule, known, _FIRST)
        for stored in _STORED:
            if same(pool.seen[:, :, :_FIRST], rounded(rounded(value, stored), known.outputs)):
                share = rule.shares[0].model_copy(update={"stored": stored})
                full = rule.model_copy(update={"shares": (share,)})
                left += [full] if pool.explained(full, known) else []
    return left


def _longer(cores: Sequence[str], shares: Sequence[str], pool: Pool, known: Arithmetic) -> Iterator[Softmax]:
    """The rules for more terms that `cores` and `shares` leave, orders only where their tree explains the pool."""
    for text, share in product(cores, shares):
        core = Softmax.model_validate_json(text).model_copy(update={"shares": (Share.model_validate_json(share),)})
        if core.passes == "online":
            yield from (core.model_copy(update={"lanes": lanes}) for lanes in LANES)
            continue
        # the order of a wider sum hardly shows in float16 shares: one for each tree is enough
        narrow = core.accumulator.format == "float16"
        changed = _enters_changed(core.steps, core.accumulator)
        for same_tree in families(_SOME):
            tried = [core.model_copy(update={"order": order}) for order in same_tree]
            if not narrow:
                yield tried[0]
            elif any(pool.explained(rule, known) for rule in (tried if changed else tried[:1])):
                yield from tried


def _whole(
    cores: Sequence[str], shares: Sequence[str], rows: int, known: Arithmetic, findings: Findings
) -> Inquiry[Softmax]:
    """The rule for any number of terms: lanes, or an order, that explain rows of more terms."""
    pools = yield from _asked([(_SOME, rows, _ROWS, 2), (_MANY, rows, _ROWS, 3), (_MANY - 3, rows, _ROWS, 4)])
    left = list(_longer(cores, shares, pools[0], known))
    for pool in pools:
        left = [rule for rule in left if pool.explained(rule, known)]
    left = yield from _sharpened(left, rows, known)
    if not left:
        raise NotTold("SOFTMAX: no lanes and no order explain rows of more terms")
    ways = {
        (_core(rule), rule.lanes, rule.shares[0].to_json(), matrix_of(rule.order, _MANY).tobytes()) for rule in left
    }
    if len(ways) > 1:
        findings.gap(f"SOFTMAX: {len(ways)} rules explain all rows; the first is taken")
    return left[0]


def _sharpened(left: list[Softmax], rows: int, known: Arithmetic) -> Inquiry[list[Softmax]]:
    """Those left after rows on which they disagree, as long as such rows are found."""
    for seed in range(_ROUNDS):
        sharper = _telling(left, (_SOME, _MANY, _FEW + 2)[seed % 3], seed, known)
        if sharper is not None:
            (pool,) = yield from _asked_rows([(sharper, rows)])
            left = [rule for rule in left if pool.explained(rule, known)]
    return left


def _telling(left: Sequence[Softmax], terms: int, seed: int, known: Arithmetic) -> Single | None:
    """Rows on which the rules left do not all agree; None where many drawn ones show none."""
    if len(left) < 2:
        return None
    x = rows_of(terms, _DRAWN, 100 + seed)
    values = [_shares(x, rule, known) for rule in left[:_COMPARED]]
    apart = ~np.all([agrees(values[0], other).all(axis=(0, 1, 3)) for other in values[1:]], axis=0)
    return x[:, :, apart][:, :, :_ROWS] if apart.any() else None


def _shares(x: Single, rule: Softmax, known: Arithmetic) -> Single:
    return rounded(softmax(rounded(x, known.inputs), rule), known.outputs)


def _by_rows(core: Softmax, shares: dict[int, Share], known: Arithmetic) -> Inquiry[tuple[Share, ...]]:
    """The shares with their conditions: where two lattice numbers of rows differ, the threshold by bisection."""
    numbers = sorted(shares)
    bounds = {(low, high): (low, high) for low, high in pairwise(numbers) if shares[low] != shares[high]}
    while any(high - low > 1 for low, high in bounds.values()):
        middles = {key: (low + high) // 2 for key, (low, high) in bounds.items() if high - low > 1}
        pools = yield from _asked([(_FEW, rows, _ROWS, 1) for rows in middles.values()])
        for (key, rows), pool in zip(middles.items(), pools, strict=True):
            below = pool.explained(core.model_copy(update={"shares": (shares[key[0]],)}), known)
            low, high = bounds[key]
            bounds[key] = (rows, high) if below else (low, rows)
    cases = [
        shares[key[0]].model_copy(update={"when": {"rows": Range(at_most=low)}})
        for key, (low, _) in sorted(bounds.items())
    ]
    return (*cases, shares[numbers[-1]])
