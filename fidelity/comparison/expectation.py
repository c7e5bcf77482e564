"""The third side of a comparison: what the device's own arithmetic must give, beside what it gave.

`expectation` measures, as `compare` does, and knows no limits. What it records is all that a verdict
needs, so that a stored run is judged again without emulating anything.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fidelity.comparison.comparison import Comparison, Outputs
from fidelity.comparison.metrics.error_ratio import error_ratio
from fidelity.comparison.metrics.outcome import Measured, RealArray, Undefined
from fidelity.comparison.metrics.relative_l2 import relative_l2
from fidelity.record import Figure, Record


class ProfileId(Record):
    """The arithmetic profile that expected outputs were computed under."""

    name: str
    sha256: str
    measured: bool


class ExpectedOutput(Record):
    """One output of one input, three ways. An error is None where it is undefined; so is a ratio, with its cause.

    `identical_share`: elements of the device that are the expected ones bit for bit; None for another shape.
    """

    input: str
    output: str
    error_expected: Figure | None
    error_actual: Figure | None
    ratio: Figure | None
    undefined: Undefined | None
    identical_share: Figure | None


class Expectation(Record):
    """What one run's device must give under its profile. `comparison` holds expected against truth.

    `overflow` is the first site that overflows, in a line for a person; `lacking` why there are no
    expected outputs, where the emulator does not have an operation.
    """

    profile: ProfileId
    outputs: tuple[ExpectedOutput, ...]
    comparison: Comparison
    overflow: str | None = None
    lacking: str | None = None

    @property
    def identical_share(self) -> float | None:
        """The least share of identical elements of any input; None when none was compared."""
        shares = [output.identical_share or 0.0 for output in self.outputs]
        return min(shares) if shares else None


def expected_outputs(
    actual: Outputs, expected: Outputs, truth: Outputs, asked: Iterable[str]
) -> tuple[ExpectedOutput, ...]:
    """Every output that all three sides have, of every input asked for, in name order."""
    return tuple(
        _three_ways(name, key, actual[name][key], expected[name][key], truth[name][key])
        for name in sorted(set(asked) & set(actual) & set(expected) & set(truth))
        for key in sorted(set(actual[name]) & set(expected[name]) & set(truth[name]))
    )


def _three_ways(name: str, key: str, actual: RealArray, expected: RealArray, truth: RealArray) -> ExpectedOutput:
    ratio = error_ratio(actual, expected, truth)
    return ExpectedOutput(
        input=name,
        output=key,
        error_expected=_figure(relative_l2(expected, truth)),
        error_actual=_figure(relative_l2(actual, truth)),
        ratio=_figure(ratio),
        undefined=ratio if isinstance(ratio, Undefined) else None,
        identical_share=identical_share(actual, expected),
    )


def _figure(outcome: Measured | Undefined) -> float | None:
    return outcome.value if isinstance(outcome, Measured) else None


def same_bits(one: RealArray, other: RealArray) -> bool:
    """Whether two arrays are equal bit for bit, NaN included."""
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def identical_share(actual: RealArray, expected: RealArray) -> float | None:
    """Share of elements with the same bits: NaN equals a NaN of the same bits, 0 is not -0."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype or actual.size == 0:
        return None
    one, other = (np.ascontiguousarray(side).reshape(-1, 1).view(np.uint8) for side in (actual, expected))
    return float(np.mean(np.all(one == other, axis=1)))
