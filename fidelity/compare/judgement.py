"""What a verdict says: passed or not, every limit with its worst figure, and every finding."""

from __future__ import annotations

from typing import Literal

from fidelity.compare.comparison import FailureCode
from fidelity.compare.metrics.outcome import Undefined
from fidelity.compare.policy import Limit
from fidelity.compare.run_facts import RunKind
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
