"""The verdict on one run of a bare artefact: the policy's limits where they apply, steps and full scale where not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.comparison import Comparison, compare
from fidelity.comparison.expectation import Expectation
from fidelity.comparison.judgement import Check, Finding, Judgement
from fidelity.comparison.metrics import ERROR_RATIO, OUTPUT_METRICS, SET_METRICS
from fidelity.comparison.metrics.outcome import Undefined
from fidelity.comparison.policy import Limit, Policy, RunLimits, fixed_limits
from fidelity.comparison.run_facts import RunFacts
from fidelity.comparison.verdict import judge
from fidelity.gating.bare.outputs import Measured
from fidelity.gating.bare.tolerances import rms_steps, worst_steps
from fidelity.gating.bare.truth import FEW

Array = NDArray[Any]
Outputs = Mapping[str, Mapping[str, Array]]
POOLED = "all sets"
"""Stands for every set of inputs at once, as one input."""

_OF_EMBEDDINGS = ("nearest_neighbour_regret", "nearest_neighbour_agreement", "nearest_neighbour_margin")
_ALWAYS = ("relative_l2", "non_finite_share", "saturated_share")
_FULL_SCALE = 3.0
"""Times the policy's relative L2: a logit of up to 12 that is off by e of itself moves a probability by at most
12 e / 4; further out the logistic function is flatter than 1e-5."""


def judged(
    measured: Mapping[str, Measured],
    actual: Outputs,
    truth: Outputs,
    facts: RunFacts,
    policy: Policy,
    expectation: Expectation | None,
    also: tuple[Finding, ...] = (),
) -> tuple[Comparison, Judgement]:
    """Every output compared with the truth and judged in its unit. `actual` and `truth` are in real numbers by set
    and output.

    The findings about the run itself are those of any other run. Limits that the truth cannot have (a number
    has no correlation, like outputs no signal) are left out and told as a note; the length of the error never is.
    """
    comparisons: list[Comparison] = []
    judgements: list[Judgement] = []
    for name, each in measured.items():
        ours = {which: {name: outputs[name]} for which, outputs in truth.items()}
        theirs = {which: {k: v for k, v in outputs.items() if k == name} for which, outputs in actual.items()}
        if each.unit == "relative L2" and all(outputs[name].size < FEW for outputs in ours.values()):
            theirs, ours = _pooled(name, theirs, ours), _pooled(name, ours, ours)
        found = compare(theirs, ours, (), asked=ours, dtype=_dtype_of(each))
        limits, left_out = _limits(each, found, ours, name, policy.limits_of(facts.kind))
        own = policy if limits is None else _with_limits(policy, facts, limits)
        kept = _applicable(found, each, ours, theirs)
        of_this = expectation and _of_output(expectation, name)
        asked = facts.model_copy(update={"asked": found.asked})
        notes = (*also, *_told(left_out, name))
        judgement = judge(kept, asked, own, notes, of_this if of_this and of_this.lacking is None else None)
        if each.unit != "relative L2":
            judgement = _with_steps_or_scale(judgement, each, theirs, ours, policy, facts)
        comparisons.append(kept)
        judgements.append(judgement)
    return _together(comparisons), _joined(judgements, expectation, actual, measured, policy, facts)


def _dtype_of(each: Measured) -> str:
    """Of the real numbers: float16 stays what it is."""
    if each.quantization is not None:
        return "float32"
    return each.dtype if each.dtype.startswith("float") else "float64"


def _pooled(name: str, outputs: Outputs, like: Outputs) -> dict[str, dict[str, Array]]:
    """An output of few numbers over all sets, one row a set; nothing where one is missing or of another shape."""
    rows = [outputs[which][name].reshape(-1) for which in sorted(like) if name in outputs.get(which, {})]
    if len(rows) != len(like) or len({row.size for row in rows}) != 1:
        return {POOLED: {}}
    return {POOLED: {name: np.stack(rows)}}


def _limits(
    each: Measured, found: Comparison, truth: Outputs, name: str, limits: Mapping[str, Limit] | None
) -> tuple[dict[str, Limit] | None, tuple[str, ...]]:
    """The limits that apply to this output, and the names of those that the truth itself cannot have."""
    if limits is None:
        return None, ()
    if each.unit != "relative L2":
        return {metric: limits[metric] for metric in ("non_finite_share",) if metric in limits}, ()
    references = {which: outputs[name] for which, outputs in truth.items()}
    kept, left = {}, []
    for metric, limit in limits.items():
        if metric in _OF_EMBEDDINGS or (metric == "worst_row_error" and _row(references) < FEW):
            continue
        if metric in _ALWAYS or metric == ERROR_RATIO.name or _defined(metric, references):
            kept[metric] = limit
        else:
            left.append(metric)
    return kept, tuple(left)


def _row(references: Mapping[str, Array]) -> int:
    return min(array.shape[-1] if array.ndim > 1 else array.size for array in references.values())


def _defined(metric: str, references: Mapping[str, Array]) -> bool:
    """Whether a metric has a figure for the truth held against itself, at every set."""
    if metric in OUTPUT_METRICS:
        function = OUTPUT_METRICS[metric].function
        return not any(isinstance(function(array, array), Undefined) for array in references.values())
    return not isinstance(SET_METRICS[metric].function(references, references), Undefined)


def _with_limits(policy: Policy, facts: RunFacts, limits: Mapping[str, Limit]) -> Policy:
    """The policy with just these limits for this kind of run."""
    run = RunLimits.model_construct(kind=facts.kind, limits=dict(limits))
    return policy.model_copy(update={"every_run": {}, "runs": (run,)})


def _applicable(found: Comparison, each: Measured, truth: Outputs, actual: Outputs) -> Comparison:
    """The comparison as far as it is about this output.

    Without failures that only say that a relative error has nothing to be relative to: the truth is zero, and the
    device gave zero too, or the output is judged in another unit. Without what only embeddings have, and without
    measures over a set of one.
    """
    excused = {
        which
        for which in truth
        if each.unit != "relative L2" or not any(np.any(array) for array in actual.get(which, {}).values())
    }
    failures = tuple(f for f in found.failures if f.code != "zero_reference" or f.input not in excused)
    sets = tuple(
        record.model_copy(update={"undefined": {k: v for k, v in record.undefined.items() if k not in _OF_EMBEDDINGS}})
        for record in found.sets
        if found.asked != (POOLED,) and each.unit == "relative L2"
    )
    return found.model_copy(update={"failures": failures, "sets": sets})


def _told(left_out: tuple[str, ...], name: str) -> list[Finding]:
    """One note for the limits that the truth itself cannot be held to."""
    if not left_out:
        return []
    message = f"not limited for {name!r}, since the truth itself has no such figure: {', '.join(left_out)}"
    return [Finding(code="undefined_metric", severity="note", message=message, output=name)]


def _with_steps_or_scale(
    judgement: Judgement, each: Measured, actual: Outputs, truth: Outputs, policy: Policy, facts: RunFacts
) -> Judgement:
    """The judgement with this output's own limits: on steps, or on the absolute error over a scale of 1."""
    unit, bounds = each.step or 1.0, _bounds(each, policy, facts)
    if bounds is None:
        return judgement
    checks, findings = list(judgement.checks), list(judgement.findings)
    for metric, limit in bounds.items():
        figures = {which: _figure(metric, each.name, actual.get(which, {}), truth[which], unit) for which in truth}
        at = max(figures, key=lambda which: figures[which])
        worst = figures[at]
        passed = worst <= limit
        check = Check(
            metric=metric,
            output=each.name,
            limit=Limit(at_most=limit),
            passed=passed,
            worst=worst if math.isfinite(worst) else None,
            undefined=None
            if math.isfinite(worst)
            else Undefined(cause="non_finite_actual", why="missing or not finite"),
            inputs=(at,),
        )
        checks.append(check)
        if not passed:
            message = f"{metric} of {each.name!r} is {worst:.9g} at {at}, limit at most {limit:.9g}"
            findings.append(
                Finding(
                    code="outside_limit", severity="fail", message=message, metric=metric, output=each.name,
                    inputs=(at,), worst=worst, limit=Limit(at_most=limit),
                )
            )  # fmt: skip
    passed = not any(finding.severity == "fail" for finding in findings)
    return judgement.model_copy(update={"checks": tuple(checks), "findings": tuple(findings), "passed": passed})


def _bounds(each: Measured, policy: Policy, facts: RunFacts) -> dict[str, float] | None:
    """By metric; None where the policy has no limits for this kind of run, which `judge` has told."""
    limits = policy.limits_of(facts.kind)
    if limits is None:
        return None
    if each.unit == "steps":
        roundings = each.depth.step_roundings
        return {"worst_steps": worst_steps(roundings), "rms_steps": rms_steps(roundings)}
    length = limits.get("relative_l2")
    return {"full_scale_error": _FULL_SCALE * (length.at_most if length and length.at_most else 0.0)}


def _figure(metric: str, name: str, actual: Mapping[str, Array], truth: Mapping[str, Array], unit: float) -> float:
    """Of one set; infinite for what is missing, of another shape or not finite."""
    if name not in actual or actual[name].shape != truth[name].shape or not np.isfinite(actual[name]).all():
        return math.inf
    error = np.abs(actual[name].astype(np.float64) - truth[name].astype(np.float64)) / unit
    if error.size == 0:
        return math.inf
    if metric == "rms_steps":
        return float(np.sqrt(np.mean(np.square(error))))
    # the quotient of two float32 differences is next to a whole number of steps, not on it
    return float(np.max(error if metric == "full_scale_error" else np.rint(error)))


def _of_output(expectation: Expectation, name: str) -> Expectation:
    return expectation.model_copy(
        update={"outputs": tuple(each for each in expectation.outputs if each.output == name)}
    )


def _together(comparisons: list[Comparison]) -> Comparison:
    """One record of all outputs."""
    return Comparison(
        asked=tuple(sorted({name for each in comparisons for name in each.asked})),
        photographs=(),
        outputs=tuple(record for each in comparisons for record in each.outputs),
        sets=tuple(record for each in comparisons for record in each.sets),
        failures=tuple(failure for each in comparisons for failure in each.failures),
    )


def _joined(
    judgements: list[Judgement],
    expectation: Expectation | None,
    actual: Outputs,
    measured: Mapping[str, Measured],
    policy: Policy,
    facts: RunFacts,
) -> Judgement:
    """One judgement of all outputs: what is said of the run is said once, and what is extra or lacking too."""
    findings: dict[str, Finding] = {}
    for finding in (finding for each in judgements for finding in each.findings):
        findings.setdefault(finding.model_dump_json(), finding)
    told = list(findings.values())
    extra = sorted({key for outputs in actual.values() for key in outputs if key not in measured})
    if extra:
        message = f"the device gave outputs that the file does not have: {extra[:4]}"
        told.append(Finding(code="extra_output", severity="fail", message=message))
    ratio = ERROR_RATIO.name in fixed_missing(policy, facts)
    if ratio and expectation is not None and expectation.lacking is not None:
        told = [each for each in told if each.code != "no_profile"]
        message = (
            f"no expected output under {expectation.profile.name}: {expectation.lacking}; fixed limits alone decide"
        )
        told.append(Finding(code="emulator_lacks", severity="suspicious", message=message))
    first = judgements[0]
    return first.model_copy(
        update={
            "passed": not any(finding.severity == "fail" for finding in told),
            "checks": tuple(check for each in judgements for check in each.checks),
            "findings": tuple(told),
        }
    )


def fixed_missing(policy: Policy, facts: RunFacts) -> frozenset[str]:
    """The limits of this kind of run that are on how an output compares with the expected one."""
    limits = policy.limits_of(facts.kind) or {}
    return frozenset(limits) - frozenset(fixed_limits(limits))
