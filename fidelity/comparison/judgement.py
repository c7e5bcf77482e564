"""What a verdict says: passed or not, every limit with its worst figure, and every finding."""

from __future__ import annotations

from typing import Literal

from fidelity.comparison.comparison import FailureCode
from fidelity.comparison.metrics.outcome import Undefined
from fidelity.comparison.policy import Limit
from fidelity.comparison.run_facts import RunKind
from fidelity.record import Figure, Record

Severity = Literal["fail", "suspicious", "note"]
"""One `fail` decides; `suspicious` may be right but must be looked at; `note` says what was not shown."""

FindingCode = Literal[
    "run_failed",  # the executor's status is not ok
    "wrong_device",  # it ran on another device than asked
    "wrong_model",  # it ran another file than asked
    "precision_unknown",
    "precision_not_had",
    "not_resident",
    "not_deterministic",
    "determinism_unknown",
    "no_limits",  # the policy does not list this kind of run
    "not_compared",  # an input that was asked for has no figures
    "outside_limit",
    "undefined_metric",
    "collapse",
    "identical_to_cpu",
    "no_profile",  # nobody has measured this device's arithmetic, so nothing is expected of it
    "emulator_lacks",  # an operation that cannot be emulated, so nothing is expected of the output
    "worse_than_expected",  # more error than the device's arithmetic explains
    "zero_expected_error",  # an error where the arithmetic makes none
    "non_finite_expected",
    "as_expected",  # outside a fixed limit, as the device's arithmetic must be
    "expected_collapse",  # what the arithmetic must give has nothing to do with the input
    "better_than_expected",  # less error than the arithmetic can give: the profile is another device's
    "overflow",  # a site that overflows when emulated
    "real_flip",  # another label or image first, by more than an error of the allowed size can do
    "aligned_flip",  # by more than noise of the allowed size does, and less than an error of that size can
    "flip_within_noise",  # a tie, as far as fp16 can tell
    "not_ranked",  # an output that labels or images cannot be ordered by
    "no_reference",  # a prediction that was held against nothing
]


class Finding(Record):
    """One thing to know about a run, in a line for a person; figure and limit where it has them."""

    code: FindingCode | FailureCode
    severity: Severity
    message: str
    metric: str | None = None
    output: str | None = None
    inputs: tuple[str, ...] = ()
    worst: Figure | None = None
    limit: Limit | None = None


class Check(Record):
    """One limit on one output: the worst figure of all inputs and where it was reached.

    `worst` is also the smallest limit that would have passed. It is None when the metric was
    undefined for some input (`undefined` says why), which no limit passes. `inputs` are those of
    the worst figure, `index` its place in the output.
    """

    metric: str
    output: str
    limit: Limit
    passed: bool
    worst: Figure | None = None
    undefined: Undefined | None = None
    inputs: tuple[str, ...] = ()
    index: tuple[int, ...] = ()


class Judgement(Record):
    """The verdict on one run under one policy. `passed` is False as soon as one finding is a fail."""

    passed: bool
    policy: str
    device: str
    kind: RunKind
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
