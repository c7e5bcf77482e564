"""What the figures of a comparison say, whoever made the outputs: a device, or its emulation."""

from __future__ import annotations

from collections.abc import Mapping

from fidelity.comparison.comparison import Comparison, Failure, SetComparison
from fidelity.comparison.judgement import Check, Finding, FindingCode
from fidelity.comparison.policy import Limit
from fidelity.comparison.run_facts import RunKind
from fidelity.comparison.run_findings import some

UNRELATED = 0.5
"""A centred correlation below this is called a collapse.

Its square is the share of the variation over inputs that the input explains: under 0.5, three
quarters of what is left of the output come from elsewhere. A constant output has 0 or less at its
worst input, exactly; one unrelated to the input deviates by 1/sqrt(1024) = 0.03. Measured on B/16
over 13 inputs: 0.9999 for the real software GPU in fp16; with massive weights and the sum of
squares emulated in fp16, 0.47 at a peak of 150, where some inputs are lost, and -0.05, -0.21,
-0.20 at 175, 200, 235, where all are. The plain correlation cannot decide it: the mean of the
references, a constant, has 0.77 to 0.87 with each photograph's.
"""


def collapsed(comparison: Comparison) -> list[SetComparison]:
    """The outputs that have nothing to do with the input any more."""
    return [
        record
        for record in comparison.sets
        if (worst := record.metrics.get("centred_correlation")) is not None and worst < UNRELATED
    ]


def collapse_finding(record: SetComparison, code: FindingCode, how: str) -> Finding:
    """One collapsed output, and `how` that came: in words that go before it."""
    at, worst = record.at.get("centred_correlation", ()), record.metrics["centred_correlation"]
    message = (
        f"{how}, and the output {record.output!r} of {some(at)} has nothing to do with the input: "
        f"correlation {worst:.3f} once the inputs' common component is removed"
    )
    return Finding(
        code=code,
        severity="fail",
        message=message,
        metric="centred_correlation",
        output=record.output,
        inputs=at,
        worst=worst,
    )


def failure_findings(failures: tuple[Failure, ...]) -> list[Finding]:
    """One finding for each code and output, however many inputs it concerns."""
    groups: dict[tuple[str, str | None], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.code, failure.output), []).append(failure)
    findings = []
    for (_, output), group in groups.items():
        inputs = tuple(failure.input for failure in group if failure.input is not None)
        where = f" (output {output!r})" if output is not None else ""
        more = f", at {len(group)} inputs: {some(inputs)}" if len(group) > 1 else ""
        at = f", at {inputs[0]}" if len(group) == 1 and output is not None and inputs else ""
        findings.append(
            Finding(
                code=group[0].code,
                severity="fail",
                message=f"{group[0].message}{where}{more}{at}",
                output=output,
                inputs=inputs,
            )
        )
    return findings


def limit_findings(checks: tuple[Check, ...], limits: Mapping[str, Limit] | None, kind: RunKind) -> list[Finding]:
    """One finding for each limit that does not hold, or that there are none for this kind of run."""
    if limits is None:
        message = f"the policy has no limits for a run of the kind {kind}"
        return [Finding(code="no_limits", severity="fail", message=message)]
    return [_limit_finding(check) for check in checks if not check.passed]


def _limit_finding(check: Check) -> Finding:
    at = f" at {some(check.inputs)}" if check.inputs else ""
    if check.worst is None:
        why = f"{check.undefined.cause}, {check.undefined.why}" if check.undefined else "not measured"
        message = f"{check.metric} of {check.output!r} is undefined{at}: {why}"
    else:
        place = f" {list(check.index)}" if check.index else ""
        message = f"{check.metric} of {check.output!r} is {check.worst:.9g}{at}{place}, limit {check.limit}"
    return Finding(
        code="undefined_metric" if check.worst is None else "outside_limit",
        severity="fail",
        message=message,
        metric=check.metric,
        output=check.output,
        inputs=check.inputs,
        worst=check.worst,
        limit=check.limit,
    )


def note_findings(comparison: Comparison, limits: Mapping[str, Limit]) -> list[Finding]:
    """What could not be measured over the set and no limit asks for, so that nobody takes it as shown."""
    return [
        Finding(
            code="undefined_metric",
            severity="note",
            message=f"{metric} of {record.output!r} was not measured: {reason.why}",
            metric=metric,
            output=record.output,
        )
        for record in comparison.sets
        for metric, reason in record.undefined.items()
        if metric not in limits
    ]
