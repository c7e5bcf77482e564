"""Error of the device over that of its emulation: is this error what the arithmetic must give?

Three sides: truth (PyTorch in float64), expected (the emulated device), actual (the device). An error
limit alone cannot tell rounding from a fault; how many times the expected error it is, can.
"""

from __future__ import annotations

from fidelity.comparison.metrics.outcome import Cause, Measured, Outcome, RealArray, Undefined
from fidelity.comparison.metrics.relative_l2 import relative_l2

_OF_EXPECTED: dict[Cause, Cause] = {"non_finite_actual": "non_finite_expected"}


def error_ratio(actual: RealArray, expected: RealArray, truth: RealArray) -> Outcome:
    """Relative L2 error of the device over that of the emulated device, [0, inf); 1 is as expected.

    Equal errors have exactly 1, also where both are zero: nothing is wrong and nothing was to be.
    An error where none is expected has no ratio (`zero_expected_error`): infinity would say by how
    much, and nothing says that. Undefined where either error is. Blind to an expected output that is
    itself worthless: a device that collapses as predicted has 1, so that fixed limits must stand too.
    """
    of_actual, of_expected = relative_l2(actual, truth), relative_l2(expected, truth)
    if isinstance(of_actual, Undefined):
        return of_actual
    if isinstance(of_expected, Undefined):
        cause = _OF_EXPECTED.get(of_expected.cause, of_expected.cause)
        return Undefined(cause=cause, why=f"expected: {of_expected.why}")
    if of_actual.value == of_expected.value:
        return Measured(1.0)
    if of_expected.value == 0:
        why = f"no error is expected, and the device has {of_actual.value:.3g}"
        return Undefined(cause="zero_expected_error", why=why)
    return Measured(of_actual.value / of_expected.value)
