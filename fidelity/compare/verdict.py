"""The verdict on one run: fail-closed, and the worst of all inputs decides.

Everything is judged from records: the comparison, the run's facts and the policy. So a stored run
is judged again without a device, and a verdict under a stricter policy needs no new run.
"""

from __future__ import annotations

from collections.abc import Mapping

from fidelity.compare.checks import check_limits
from fidelity.compare.comparison import Comparison, Failure, Outputs
from fidelity.compare.judgement import Check, Finding, Judgement
from fidelity.compare.policy import Limit, Policy
from fidelity.compare.run_facts import RunFacts
from fidelity.compare.run_findings import (
    determinism_findings,
    identity_findings,
    precision_findings,
    residency_findings,
    some,
)

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


def judge(comparison: Comparison, facts: RunFacts, policy: Policy, also: tuple[Finding, ...] = ()) -> Judgement:
    """The verdict on one run.

    `also` are findings from elsewhere that belong to this run (see `identical_to_cpu`). It passes
    when no finding is a `fail`: the run is ok, on the device, model and precision asked for, fully
    resident when on a GPU, deterministic; every input asked for is compared without a Failure; and
    each limit that the policy has for this kind of run holds for the worst input.
    """
    limits = policy.limits_of(facts.kind)
    checks = check_limits(comparison, limits or {})
    findings = (
        *identity_findings(facts),
        *precision_findings(facts, policy.require),
        *residency_findings(facts, policy.require),
        *determinism_findings(facts, policy.require),
        *_failure_findings(comparison.failures),
        *_coverage_findings(comparison, facts),
        *_collapse_findings(comparison, facts),
        *_limit_findings(checks, limits, facts),
        *_note_findings(comparison, limits or {}),
        *also,
    )
    return Judgement(
        passed=not any(finding.severity == "fail" for finding in findings),
        policy=policy.name,
        device=facts.device_asked,
        kind=facts.kind,
        checks=checks,
        findings=findings,
    )


def identical_to_cpu(cpu: Outputs, gpu: Outputs) -> tuple[Finding, ...]:
    """A `suspicious` finding when some input's outputs are the same bits on the CPU and on the GPU.

    Two implementations that sum in different orders do not agree in every bit of an embedding, in
    fp32 either: most likely the graph ran on the CPU both times. Inputs that only one side has are
    left to `compare`.
    """
    shared = sorted(name for name in set(cpu) & set(gpu) if cpu[name] and set(cpu[name]) == set(gpu[name]))
    same = tuple(
        name
        for name in shared
        if all(
            array.dtype == gpu[name][key].dtype
            and array.shape == gpu[name][key].shape
            and array.tobytes() == gpu[name][key].tobytes()
            for key, array in cpu[name].items()
        )
    )
    if not same:
        return ()
    message = f"{len(same)} of {len(shared)} inputs gave the same bits on CPU and GPU: it probably fell back"
    return (Finding(code="identical_to_cpu", severity="suspicious", message=message, inputs=same),)


def _failure_findings(failures: tuple[Failure, ...]) -> list[Finding]:
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


def _coverage_findings(comparison: Comparison, facts: RunFacts) -> list[Finding]:
    """Every input asked of the device has figures, whatever the comparison was told to ask for."""
    compared = {record.input for record in comparison.outputs}
    absent = tuple(name for name in sorted({*facts.asked, *comparison.asked}) if name not in compared)
    if facts.asked and not absent:
        return []
    message = f"{len(absent)} inputs that were asked for have no figures: {some(absent)}"
    if not facts.asked:
        message = "the run was asked for no inputs"
    return [Finding(code="not_compared", severity="fail", message=message, inputs=absent)]


def _collapse_findings(comparison: Comparison, facts: RunFacts) -> list[Finding]:
    """Resident and unrelated to the input: the failure that residency alone would call a success."""
    if facts.kind.device != "gpu" or facts.residency is None or not facts.residency.full:
        return []
    nodes = f"{facts.residency.nodes_on_device} of {facts.residency.nodes_total} nodes resident"
    findings = []
    for record in comparison.sets:
        worst = record.metrics.get("centred_correlation")
        if worst is None or not worst < UNRELATED:
            continue
        at = record.at.get("centred_correlation", ())
        message = (
            f"{nodes}, and the output {record.output!r} of {some(at)} has nothing to do with the input: "
            f"correlation {worst:.3f} once the inputs' common component is removed"
        )
        findings.append(
            Finding(
                code="collapse",
                severity="fail",
                message=message,
                metric="centred_correlation",
                output=record.output,
                inputs=at,
                worst=worst,
            )
        )
    return findings


def _limit_findings(checks: tuple[Check, ...], limits: Mapping[str, Limit] | None, facts: RunFacts) -> list[Finding]:
    if limits is None:
        message = f"the policy has no limits for a run of the kind {facts.kind}"
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


def _note_findings(comparison: Comparison, limits: Mapping[str, Limit]) -> list[Finding]:
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
