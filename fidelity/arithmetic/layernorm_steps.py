"""The steps of a norm under a profile, with the largest magnitude that each reaches in every row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import LARGEST, SMALLEST_NORMAL, rounded
from fidelity.arithmetic.kernels import elementwise, functions, reductions
from fidelity.arithmetic.observe import Observer, Part
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import Elementwise, Function, Reduction
from fidelity.errors import BadInput

Single = NDArray[np.float32]
ROOT = "variance + eps"
_LARGEST32 = float(np.finfo(np.float32).max)
_NORMAL32 = float(np.finfo(np.float32).smallest_normal)


class Steps:
    """Computes a norm's steps under a profile and keeps the largest magnitude of every step, row by row."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.seen: dict[str, NDArray[np.float64]] = {}
        self.largest: dict[str, float] = {}
        self.smallest: dict[str, float] = {}

    def enter(self, rows: Single) -> Single:
        """The rows as the device holds them."""
        x = rounded(rows, self._profile.inputs)
        self._see("row", x, self._profile.inputs is not None)
        return x

    def constant(self, value: float) -> Single:
        """A number of the graph."""
        return rounded(np.full((1, 1), value), self._profile.weights)

    def binary(self, label: str, kind: str, a: Single, b: Single) -> Single:
        """An elementwise step."""
        rule = self._rule(kind)
        if not isinstance(rule, Elementwise):
            raise AssertionError(f"{kind} is not elementwise")
        y = elementwise.binary(kind, a, b, rule, self._observer(label, rule.steps is not None))
        self._see(label, y, rule.stored is not None)
        return y

    def mean(self, label: str, x: Single) -> Single:
        """MEAN of every row; its accumulator is a step of its own."""
        rule = self._rule("MEAN")
        if not isinstance(rule, Reduction):
            raise AssertionError("MEAN is no reduction")
        observe = self._observer(f"sum of the {label}", rule.accumulator.format != "float32")
        y = reductions.reduce("MEAN", x, (1,), rule, observe=observe)
        self._see(label, y, rule.stored is not None or rule.accumulator.format != "float32")
        return y

    def rsqrt(self, x: Single) -> Single:
        """One over the root."""
        rule = self._rule("RSQRT")
        if not isinstance(rule, Function):
            raise AssertionError("RSQRT is no function")
        y = functions.unary("RSQRT", x, rule)
        self._see("reciprocal root", y, rule.stored is not None)
        return y

    def overflows(self, wide: Steps, *, excused: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Rows in which a step is not finite, or would be larger than its format has.

        What the root makes of a vanished variance is no overflow: such rows are excused from its step on.
        """
        over = np.zeros(len(excused), np.bool_)
        behind = False
        for label, seen in self.seen.items():
            here = ~np.isfinite(seen) | (wide.seen[label] > self.largest[label])
            over |= here & ~excused if behind else here
            behind = behind or label == ROOT
        return over

    def _rule(self, kind: str) -> object:
        if kind not in self._profile.rules:
            raise BadInput(f"profile {self._profile.name} has no rule for {kind}, which a LayerNorm needs")
        return self._profile.rules[kind]

    def _observer(self, label: str, half: bool) -> Observer:
        def observe(part: Part, values: Single) -> None:
            if part in ("sum", "difference"):
                self._see(label, values, half)

        return observe

    def _see(self, label: str, values: Single, half: bool) -> None:
        rows = np.abs(values.reshape(values.shape[0], -1)).astype(np.float64).max(axis=1)
        self.seen[label] = np.maximum(self.seen.get(label, np.zeros(1)), rows)
        self.largest[label] = min(self.largest.get(label, np.inf), LARGEST if half else _LARGEST32)
        self.smallest[label] = max(self.smallest.get(label, 0.0), SMALLEST_NORMAL if half else _NORMAL32)
