"""From what every stage found to the reasons of the verdict, and the headline over them."""

from __future__ import annotations

from collections.abc import Sequence

from fidelity.gating.config import ArtefactSize
from fidelity.report.document import ArtefactReport, DeviceRun, NotTested, PredictionReport, Reason
from fidelity.report.figures import figure_text
from fidelity.rewrites.proof import Proof


def proof_reasons(proof: Proof) -> list[Reason]:
    """One for every failure of the proof."""
    return [Reason(stage="prove", severity="fail", code="not_weights_exact", message=line) for line in proof.failures]


def artefact_reasons(artefacts: Sequence[ArtefactReport], size: ArtefactSize | None) -> list[Reason]:
    """What the audits refuse, by rule, and a shipped artefact of the wrong size."""
    reasons = []
    for artefact in artefacts:
        for rule, count in artefact.audit.counts.items():
            findings = [f for f in artefact.audit.findings if f.rule == rule]
            first = findings[0]
            cure = f"; cured by {first.cure}" if first.cure else ""
            reasons.append(
                Reason(
                    stage="audit",
                    severity="fail" if first.severity == "refused" else "note",
                    code=rule,
                    message=f"{artefact.weights_dtype} artefact: {count} x {first.reason} "
                    f"(first: op {first.operator} {first.operator_name or ''}{cure})",
                )
            )
        reasons += _weights_reasons(artefact)
        shipped = artefact.weights_dtype == "float16"
        if size is not None and shipped and abs(artefact.manifest.file_size / size.bytes - 1) > size.tolerance:
            message = f"{artefact.manifest.file_size} bytes, expected {size.bytes} within {size.tolerance:.0%}"
            reasons.append(Reason(stage="convert", severity="fail", code="artefact_size", message=message))
    return reasons


def _weights_reasons(artefact: ArtefactReport) -> list[Reason]:
    """A weight with other bits than the model's, and constants that are no weight that is known."""
    found = artefact.weights.unexplained if artefact.weights is not None else ()
    return [
        Reason(
            stage="convert",
            severity="fail" if each.altered else "note",
            code="altered_weight" if each.altered else "unexplained_constant",
            message=f"{artefact.weights_dtype} artefact: {each.told()}",
        )
        for each in found
    ]


def prediction_reasons(predictions: Sequence[PredictionReport]) -> list[Reason]:
    """An overflow in the emulated arithmetic, also where the outputs survive it: the next photograph may not.

    Whatever else a prediction finds is about the outputs, which the device's own are judged beside.
    """
    return [
        Reason(
            stage="predict",
            severity=finding.severity,
            code=finding.code,
            message=f"under {each.prediction.expected.profile.name}: {finding.message}",
        )
        for each in predictions
        for finding in each.prediction.judgement.findings
        if finding.code == "overflow"
    ]


def run_reasons(runs: Sequence[DeviceRun]) -> list[Reason]:
    """Every finding of every judgement, under the run's label."""
    return [
        Reason(
            stage="compare",
            severity=finding.severity,
            code=finding.code,
            message=f"{run.label}: {finding.message}",
        )
        for run in runs
        for finding in run.judgement.findings
    ]


def missing_reasons(missing: Sequence[NotTested]) -> list[Reason]:
    """A device that was asked for and is not here: a failure to gather evidence, never a pass."""
    return [
        Reason(stage="devices", severity="fail", code="not_tested", message=f"{each.label}: {each.reason}")
        for each in missing
    ]


def headline(runs: Sequence[DeviceRun], reasons: Sequence[Reason], missing: Sequence[NotTested]) -> str:
    """One sentence that a release manager can act on."""
    failures = [reason for reason in reasons if reason.severity == "fail"]
    if not failures:
        worst = [f"{run.label} {worst_correlation(run)}" for run in runs]
        return "The artefact may be released: worst correlation " + ", ".join(worst) + "."
    collapsed = [r for r in failures if r.code == "collapse"]
    if collapsed:
        return f"Collapse: resident, and the output has nothing to do with the input. {collapsed[0].message}"
    if len(failures) == len(missing):
        return f"Not released: {len(missing)} run(s) could not be made, the others pass. {failures[0].message}"
    return f"Not released, {len(failures)} reasons; first: {failures[0].message}"


def against_expected(run: DeviceRun) -> str | None:
    """The worst error of a run over the expected one, and the share of identical bits; None without a profile."""
    if run.expected is None:
        return None
    found = [(o.ratio, o.input) for o in run.expected.outputs if o.ratio is not None]
    share = run.expected.identical_share
    if not found or share is None:
        return "nothing expected"
    value, name = max(found, key=lambda each: each[0])
    return (
        f"{figure_text(value, ideal=1.0)} x expected error ({name}), {figure_text(100 * share)} % of bits as expected"
    )


def worst_correlation(run: DeviceRun) -> str:
    """The lowest correlation of a run with its input, as text."""
    found = [(o.metrics["correlation"], o.input) for o in run.comparison.outputs if "correlation" in o.metrics]
    if not found:
        return "not known"
    value, name = min(found)
    return f"{figure_text(value, ideal=1.0)} ({name})"
