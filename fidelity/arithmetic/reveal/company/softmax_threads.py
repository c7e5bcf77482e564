"""Softmax.shared: how an online softmax deals a row's slices to threads, by rows and slices.

Found in float32 precision, where the shares of a row show its sum to the bit. Which lanes and which
exponential are known from the operation alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.kernels import softmax
from fidelity.arithmetic.kernels.softmax_statistics import running_statistics
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.reveal.company import graphs
from fidelity.arithmetic.reveal.company.combine import combined_last
from fidelity.arithmetic.reveal.company.family import threads
from fidelity.arithmetic.reveal.company.plane import Plane, rows_of
from fidelity.arithmetic.reveal.company.territory import cases_of
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import NotTold, same
from fidelity.arithmetic.rules import SOFTMAX, Case, Softmax
from fidelity.arithmetic.special import exp2_gallivm

Single = graphs.Single
_LOG2_E = np.float32(1.442695040888963)
_FRESH = ((1, 300), (3, 77), (16, 256), (20, 130), (50, 384), (150, 99), (260, 48), (300, 300), (1100, 50))


@dataclass(frozen=True)
class Threads:
    """The kernel for territory.cases_of: the rule with everything kept in float32."""

    rule: Softmax
    spread: float = 0

    @property
    def flavour(self) -> Order:
        return Order(lanes=self.rule.lanes)

    def graph(self, x: Single) -> graphs.Company:
        return graphs.softmax(x[np.newaxis, np.newaxis], wide=True)

    def explaining(self, orders: Sequence[Order], x: Single, seen: Single) -> list[Order]:
        found = []
        states: dict[int, Single] = {}
        for order in orders:
            if order.parts not in states:
                states[order.parts] = np.stack(running_statistics(x, order, self._power))
            greatest, sums = combined_last(states[order.parts], order.combine, self._merged)
            powers = self._power(x - greatest[:, np.newaxis])
            if same(powers * (np.float32(1) / sums)[:, np.newaxis], seen):
                found.append(order)
        return found

    def _merged(self, left: Single, right: Single) -> Single:
        """Two threads' greatest number and sum, [2, ...] each, as the kernel adds them."""
        most = np.maximum(left[0], right[0])
        scales = self._power(np.stack([left[0], right[0]]) - most)
        return np.stack([most, left[1] * scales[0] + right[1] * scales[1]])

    def _power(self, x: Single) -> Single:
        """e^x as kernels.softmax has it."""
        if self.rule.exponential == "exp2_gallivm":
            return exp2_gallivm(x * _LOG2_E)
        return np.exp(x.astype(np.float64)).astype(np.float32)


def find_threads(profile: Profile, laboratory: graphs.CompanyLaboratory, findings: Findings) -> tuple[Case, ...]:
    """`shared` of SOFTMAX; empty where every row is one thread's, or where the softmax has two passes.

    Raises NotTold where nothing explains what is seen, or the device has no float32 precision.
    """
    rule = profile.rules.get(SOFTMAX)
    if not isinstance(rule, Softmax):
        raise NotTold("SOFTMAX has no rule of its own")
    if rule.passes != "online":
        return ()
    gaps: list[str] = []
    plane = Plane(Threads(rule), laboratory)
    cases = cases_of(plane, gaps)
    for gap in gaps:
        findings.gap(f"{SOFTMAX}: {gap}")
    if all(case.order.parts == 1 for case in cases):
        cases = ()
    findings.found(
        f"rules.{SOFTMAX}.shared",
        f"{plane.shapes} shapes of rows and slices in float32 precision, thresholds by bisection",
        f"{len(cases)} case(s)" if cases else "every row is one thread's",
        f"all others of {len(threads(Order(lanes=rule.lanes), 1024))} orders at each shape",
    )
    _verified(rule.model_copy(update={"shared": cases}), profile, laboratory, findings)
    return cases


def _verified(rule: Softmax, profile: Profile, laboratory: graphs.CompanyLaboratory, findings: Findings) -> None:
    """A gap where the rule fails at fresh shapes at the device's own precision."""
    fresh = [rows_of(rows, terms, 1, 7)[np.newaxis, np.newaxis].astype(np.float16) for rows, terms in _FRESH]
    inputs = [x.astype(np.float32) for x in fresh]
    seen = graphs.numbers(laboratory, [graphs.softmax(x) for x in inputs])
    expected = [rounded(softmax.softmax(rounded(x, profile.inputs), rule), profile.outputs) for x in inputs]
    wrong = [shape for shape, y, numbers in zip(_FRESH, expected, seen, strict=True) if not same(y, numbers)]
    if wrong:
        findings.gap(f"{SOFTMAX}: of {len(_FRESH)} fresh shapes, not explained (rows, terms): {wrong}")
