"""Whose fault is it: the arithmetic of the device, or something beyond it?

A run that misses a fixed limit with the error that its arithmetic must give needs another rewrite. One
whose error the arithmetic does not explain has something wrong with it, however small the error. And
an expected output that is itself worthless makes a ratio of one worth nothing.
"""

from __future__ import annotations

from fidelity.comparison.expectation import Expectation
from fidelity.comparison.figure_findings import collapse_finding, collapsed
from fidelity.comparison.judgement import Check, Finding, FindingCode

_NAMED: dict[str, FindingCode] = {
    "zero_expected_error": "zero_expected_error",
    "non_finite_expected": "non_finite_expected",
}


def expected_findings(
    expectation: Expectation | None, fixed: tuple[Check, ...], ratios: tuple[Check, ...]
) -> list[Finding]:
    """What the expected outputs say of a run whose policy limits the error ratio.

    Without a profile, or where the emulator lacks an operation, that limit is not judged: `suspicious`
    and no `note`, since the policy asks for it and nobody has looked.
    """
    if expectation is None:
        message = (
            "no measured arithmetic profile of this device: what its fp16 must give is not known, and the fixed limits "
            "alone decide; measure it with fidelity reveal --device DEVICE -o FILE, then use --profile FILE"
        )
        return [Finding(code="no_profile", severity="suspicious", message=message)]
    if expectation.lacking is not None:
        message = (
            f"no expected output under {expectation.profile.name}: {expectation.lacking}; fixed limits alone decide"
        )
        return [Finding(code="emulator_lacks", severity="suspicious", message=message)]
    return [*_collapse(expectation), *(finding for check in ratios for finding in _of_ratio(check, fixed, expectation))]


def _collapse(expectation: Expectation) -> list[Finding]:
    how = f"under {expectation.profile.name} the arithmetic itself loses it{_overflow(expectation)}"
    return [collapse_finding(record, "expected_collapse", how) for record in collapsed(expectation.comparison)]


def _of_ratio(check: Check, fixed: tuple[Check, ...], expectation: Expectation) -> list[Finding]:
    name, at = expectation.profile.name, ", ".join(check.inputs)
    if check.worst is None:
        cause, why = (check.undefined.cause, check.undefined.why) if check.undefined else ("empty", "not measured")
        message = f"error_ratio of {check.output!r} is undefined at {at}: {cause}, {why}"
        return [_finding(check, _NAMED.get(cause, "undefined_metric"), message)]
    times = f"the error of {check.output!r} is {check.worst:.4g} times the expected one of {name} at its worst ({at})"
    if not check.passed:
        message = f"{times}, limit {check.limit}: worse than this arithmetic explains: something is wrong"
        return [_finding(check, "worse_than_expected", message)]
    if any(other.worst is not None and not other.passed for other in fixed if other.output == check.output):
        message = (
            f"{times}: as fp16 arithmetic on this device must give, and not good enough: "
            f"rewrite{_overflow(expectation)}"
        )
        return [_finding(check, "as_expected", message)]
    if check.limit.at_most is not None and check.worst * check.limit.at_most < 1:
        message = f"{times}: better than that arithmetic can be, so the profile is another device's"
        return [_finding(check, "better_than_expected", message).model_copy(update={"severity": "suspicious"})]
    return []


def _finding(check: Check, code: FindingCode, message: str) -> Finding:
    return Finding(
        code=code,
        severity="fail",
        message=message,
        metric=check.metric,
        output=check.output,
        inputs=check.inputs,
        worst=check.worst,
        limit=check.limit,
    )


def _overflow(expectation: Expectation) -> str:
    return f" (first overflow: {expectation.overflow})" if expectation.overflow else ""
