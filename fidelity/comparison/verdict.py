"""The verdict on one run: fail-closed, and the worst of all inputs decides.

Everything is judged from records: the comparison, the run's facts and the policy. So a stored run
is judged again without a device, and a verdict under a stricter policy needs no new run.
"""

from __future__ import annotations

from fidelity.comparison.checks import check_limits, check_ratio
from fidelity.comparison.comparison import Comparison, Outputs
from fidelity.comparison.expectation import Expectation, same_bits
from fidelity.comparison.expected_findings import expected_findings
from fidelity.comparison.figure_findings import (
    collapse_finding,
    collapsed,
    failure_findings,
    limit_findings,
    note_findings,
)
from fidelity.comparison.judgement import Finding, Judgement, Severity
from fidelity.comparison.metrics import ERROR_RATIO
from fidelity.comparison.policy import Policy, fixed_limits
from fidelity.comparison.run_facts import RunFacts
from fidelity.comparison.run_findings import (
    determinism_findings,
    identity_findings,
    precision_findings,
    residency_findings,
    some,
)
from fidelity.devices.job import PrecisionHad


def judge(
    comparison: Comparison,
    facts: RunFacts,
    policy: Policy,
    also: tuple[Finding, ...] = (),
    expectation: Expectation | None = None,
) -> Judgement:
    """The verdict on one run.

    `also` are findings from elsewhere that belong to this run (see `identical_to_cpu`), `expectation`
    what its device's arithmetic must give, where that is known. It passes when no finding is a `fail`:
    the run is ok, on the device, model and precision asked for, fully resident when on a GPU,
    deterministic; every input asked for is compared without a Failure; each fixed limit that the
    policy has for this kind of run holds for the worst input; and its error is not beyond the limit
    times the expected one. Either alone can fail it.
    """
    limits = policy.limits_of(facts.kind)
    fixed = fixed_limits(limits or {})
    checks = check_limits(comparison, fixed)
    ratio = (limits or {}).get(ERROR_RATIO.name)
    ratios = check_ratio(comparison, expectation, ratio) if expectation and ratio else ()
    findings = (
        *identity_findings(facts),
        *precision_findings(facts, policy.require),
        *residency_findings(facts, policy.require),
        *determinism_findings(facts, policy.require),
        *failure_findings(comparison.failures),
        *_coverage_findings(comparison, facts),
        *_collapse_findings(comparison, facts),
        *limit_findings(checks, None if limits is None else fixed, facts.kind),
        *(expected_findings(expectation, checks, ratios) if ratio else ()),
        *note_findings(comparison, fixed),
        *also,
    )
    return Judgement(
        passed=not any(finding.severity == "fail" for finding in findings),
        policy=policy.name,
        device=facts.device_asked,
        kind=facts.kind,
        checks=(*checks, *ratios),
        findings=findings,
    )


def identical_to_cpu(cpu: Outputs, gpu: Outputs, precision: PrecisionHad) -> tuple[Finding, ...]:
    """A finding when some input's outputs are the same bits on the CPU and on the GPU: most likely the graph ran on
    the CPU both times.

    It fails a run that had `precision` fp16, which does not give float32's bits. Two implementations in fp32 that sum
    in different orders do not agree in every bit of an embedding either, but they may: that is `suspicious`. Inputs
    that only one side has are left to `compare`.
    """
    shared = sorted(name for name in set(cpu) & set(gpu) if cpu[name] and set(cpu[name]) == set(gpu[name]))
    same = tuple(name for name in shared if all(same_bits(array, gpu[name][key]) for key, array in cpu[name].items()))
    if not same:
        return ()
    message = f"{len(same)} of {len(shared)} inputs gave the same bits on CPU and GPU: it probably fell back"
    severity: Severity = "fail" if precision == "fp16" else "suspicious"
    return (Finding(code="identical_to_cpu", severity=severity, message=message, inputs=same),)


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
    return [collapse_finding(record, "collapse", nodes) for record in collapsed(comparison)]
