"""The prediction: expected outputs against truth, headroom, and a verdict before any device is there.

Judged as a run of that kind is, by the policy's fixed limits, from records alone: a stored prediction
is judged again under another policy without model, emulator or device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.profile import Profile
from fidelity.comparison.checks import check_limits
from fidelity.comparison.comparison import Comparison, compare
from fidelity.comparison.figure_findings import (
    collapse_finding,
    collapsed,
    failure_findings,
    limit_findings,
    note_findings,
)
from fidelity.comparison.judgement import Finding, Judgement
from fidelity.comparison.policy import Policy, fixed_limits
from fidelity.comparison.run_facts import RunKind
from fidelity.prediction.expected import Expected, Outputs
from fidelity.prediction.held import holds_float16
from fidelity.record import Record
from fidelity.tflite.manifest import WeightsDtype


class Prediction(Record):
    """What is expected of an artefact on a device of one profile. `comparison` is with `reference`, or None
    without one: then only overflow was judged, and the judgement says so."""

    schema_version: Literal[1] = 1
    expected: Expected
    weights_dtype: WeightsDtype
    reference: str | None
    comparison: Comparison | None
    judgement: Judgement

    @property
    def passed(self) -> bool:
        """Whether the policy holds for what the arithmetic must give."""
        return self.judgement.passed


def run_kind(profile: Profile, weights: WeightsDtype) -> RunKind:
    """The kind of run that a device of this profile makes; every profile is judged as a GPU's."""
    return RunKind(device="gpu", precision="fp16" if holds_float16(profile) else "fp32", weights=weights)


def compare_expected(
    outputs: Outputs, truth: Mapping[str, NDArray[np.float64]], output: str, photographs: Iterable[str]
) -> Comparison:
    """Expected outputs against truth, whose embeddings have the name `output` in the artefact."""
    references = {name: {output: array} for name, array in truth.items()}
    known = [name for name in photographs if name in references]
    return compare(outputs, references, known, asked=outputs)


def judge_expected(expected: Expected, comparison: Comparison | None, kind: RunKind, policy: Policy) -> Judgement:
    """The verdict on expected outputs: nothing overflows, nothing is lacking, and the fixed limits hold."""
    limits = policy.limits_of(kind)
    fixed = None if limits is None else fixed_limits(limits)
    checks = check_limits(comparison, fixed or {}) if comparison is not None else ()
    findings = [*_overflow(expected), *_lacking(expected)]
    if comparison is None:
        message = "no reference: only overflow was judged, and nothing is known of the error"
        findings.append(Finding(code="no_reference", severity="suspicious", message=message))
    else:
        how = f"under {expected.profile.name} the arithmetic itself loses it"
        findings += failure_findings(comparison.failures)
        findings += [collapse_finding(record, "expected_collapse", how) for record in collapsed(comparison)]
        findings += limit_findings(checks, fixed, kind)
        findings += note_findings(comparison, fixed or {})
    return Judgement(
        passed=not any(finding.severity == "fail" for finding in findings),
        policy=policy.name,
        device=expected.profile.name,
        kind=kind,
        checks=checks,
        findings=tuple(findings),
    )


def _overflow(expected: Expected) -> list[Finding]:
    """The first site and how many more: those behind it may only pass on what it began."""
    site = expected.first_overflow
    if site is None:
        return []
    more = sum(each.overflows for each in expected.sites) - 1
    behind = f" ({more} more sites overflow)" if more else ""
    message = f"first overflow: {site.told()}{behind}"
    return [Finding(code="overflow", severity="fail", message=message, inputs=(site.input,))]


def _lacking(expected: Expected) -> list[Finding]:
    return [
        Finding(
            code="emulator_lacks",
            severity="fail",
            message=f"op {each.operator} {each.name} cannot be emulated, and {expected.unreached} operators depend on "
            f"what cannot: {each.reason}",
        )
        for each in expected.lacking
    ]
