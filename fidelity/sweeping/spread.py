"""How outputs vary over a stream of images: sums that add up, for the metrics that no single image can show.

`input_dependence` and `frozen_share` of fidelity/comparison are over a set that is held in memory. Both follow
from sums, sums of squares and extremes by channel; sums are taken about the gallery's mean, which is near the
data's own, so that nothing cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.metrics.frozen_share import CLEAR_OF_NOISE
from fidelity.comparison.metrics.outcome import Measured, Outcome, Undefined
from fidelity.record import Record
from fidelity.sweeping.float_arrays import FloatArray

Array = NDArray[np.float64]
FEWEST = 3  # two rounded values may coincide, as in frozen_share


class Side(Record):
    """The outputs of one side, device or reference: sums by channel about the centre, squares, extremes."""

    total: FloatArray
    squares: float
    energy: float
    least: FloatArray
    greatest: FloatArray

    @classmethod
    def of(cls, rows: Array, centre: Array) -> Self:
        """Of rows [N, D], N at least 1."""
        moved = rows - centre
        return cls(
            total=FloatArray.of(moved.sum(axis=0)),
            squares=float(np.sum(np.square(moved))),
            energy=float(np.sum(np.square(rows))),
            least=FloatArray.of(rows.min(axis=0)),
            greatest=FloatArray.of(rows.max(axis=0)),
        )

    def plus(self, other: Side) -> Side:
        """Of both sets of rows."""
        return Side(
            total=FloatArray.of(self.total.array() + other.total.array()),
            squares=self.squares + other.squares,
            energy=self.energy + other.energy,
            least=FloatArray.of(np.minimum(self.least.array(), other.least.array())),
            greatest=FloatArray.of(np.maximum(self.greatest.array(), other.greatest.array())),
        )

    def reach(self) -> Array:
        """Greatest less least, by channel."""
        return self.greatest.array() - self.least.array()

    def variation(self, count: int) -> float:
        """Sum of the squared distances from the mean."""
        return max(0.0, self.squares - float(np.sum(np.square(self.total.array()))) / count)


class Spread(Record):
    """Both sides over `count` images whose outputs could be compared."""

    count: int
    actual: Side
    reference: Side

    def plus(self, other: Spread) -> Spread:
        """Of both streams. Added in the plan's order, so that roundings are the same in every run."""
        return Spread(
            count=self.count + other.count,
            actual=self.actual.plus(other.actual),
            reference=self.reference.plus(other.reference),
        )

    def input_dependence(self) -> Outcome:
        """How much outputs vary over how much references do; a constant output has exactly 0."""
        if self.count < 2:
            return Undefined(cause="too_few_inputs", why=f"{self.count} inputs, needs 2")
        if not np.any(self.reference.reach()):
            return Undefined(cause="inputs_alike", why="the references of all inputs are the same")
        if not np.any(self.actual.reach()):
            return Measured(0.0)
        reference = self.reference.variation(self.count)
        if reference == 0:
            return Undefined(cause="inputs_alike", why="the references of all inputs are the same but for rounding")
        return Measured(float(np.sqrt(self.actual.variation(self.count) / reference)))

    def frozen_share(self) -> Outcome:
        """Share of the channels that never change, of those whose reference does."""
        if self.count < FEWEST:
            return Undefined(cause="too_few_inputs", why=f"{self.count} inputs, needs {FEWEST}")
        reach = self.reference.reach()
        rms = np.sqrt(self.reference.energy / (self.count * reach.size))
        varies = (reach >= CLEAR_OF_NOISE * rms) & (reach > 0)
        if not np.any(varies):
            return Undefined(cause="inputs_alike", why="no element of the references varies over the inputs")
        frozen = np.flatnonzero(varies & (self.actual.reach() == 0))
        index = (int(frozen[0]),) if len(frozen) else ()
        return Measured(len(frozen) / int(np.count_nonzero(varies)), index=index)


def spread_of(pairs: Sequence[tuple[Array, Array]], centre: Array) -> Spread | None:
    """Of (actual, reference) rows [D]; None of no pairs."""
    if not pairs:
        return None
    actual, reference = (np.stack([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1))
    return Spread(count=len(pairs), actual=Side.of(actual, centre), reference=Side.of(reference, centre))
