"""What the facts of a run say before any figure is looked at: status, model, device, precision,
residency and determinism."""

from __future__ import annotations

from fidelity.comparison.judgement import Finding
from fidelity.comparison.policy import Requirements
from fidelity.comparison.run_facts import RunFacts, device_family


def identity_findings(facts: RunFacts) -> list[Finding]:
    """The run ended well, on the device and with the model that were asked for."""
    findings = []
    if facts.status != "ok":
        message = f"the run on {facts.device_asked} ended as {facts.status}: {facts.error or 'no reason given'}"
        findings.append(Finding(code="run_failed", severity="fail", message=message))
    if facts.kind.device != device_family(facts.device_asked):
        message = f"{facts.device_asked} was asked for and {facts.kind.device} ran"
        findings.append(Finding(code="wrong_device", severity="fail", message=message))
    if facts.model_sha256_had != facts.model_sha256_asked:
        had, asked = facts.model_sha256_had[:12], facts.model_sha256_asked[:12]
        message = f"the model that ran has sha256 {had}..., asked was {asked}...: a stale file"
        findings.append(Finding(code="wrong_model", severity="fail", message=message))
    return findings


def precision_findings(facts: RunFacts, require: Requirements) -> list[Finding]:
    """The precision really had is known, and the one asked for.

    `default` on a GPU asks for fp16 where the driver has it, so fp32 there is no error of the
    device; it says nothing of fp16 all the same.
    """
    had, asked = facts.kind.precision, facts.precision_asked
    if had == "unknown":
        message = "it is not known which precision the device computed in, so no limit applies"
        return [Finding(code="precision_unknown", severity="fail", message=message)]
    if asked == "fp32" and had != "fp32":
        message = f"fp32 was asked for and the device computed {had}"
        return [Finding(code="precision_not_had", severity="fail", message=message)]
    if facts.kind.device == "gpu" and asked == "default" and had == "fp32":
        message = "the device computed fp32 where fp16 was to be tested: this proves nothing about fp16"
        severity = "fail" if require.fp16 else "suspicious"
        return [Finding(code="precision_not_had", severity=severity, message=message)]
    return []


def residency_findings(facts: RunFacts, require: Requirements) -> list[Finding]:
    """On a GPU, every node ran there in one partition; otherwise what it refused, most first."""
    if facts.kind.device != "gpu" or not require.residency:
        return []
    residency = facts.residency
    if residency is None:
        message = "no residency was reported: a correlation without residency is not a result"
        return [Finding(code="not_resident", severity="fail", message=message)]
    if residency.full:
        return []
    refusals = sorted(residency.refusals, key=lambda refusal: (-refusal.count, refusal.op, refusal.reason))
    why = "; ".join(f"{r.count} x {r.op}: {r.reason}" for r in refusals[:3]) or "no refusal was reported"
    message = (
        f"{residency.nodes_on_device} of {residency.nodes_total} nodes on the device, in "
        f"{residency.partitions} partitions ({why})"
    )
    return [Finding(code="not_resident", severity="fail", message=message)]


def determinism_findings(facts: RunFacts, require: Requirements) -> list[Finding]:
    """Some input ran twice and no repeat differed in any bit."""
    if not require.determinism:
        return []
    differing = tuple(name for name, same in sorted(facts.deterministic.items()) if same is False)
    if differing:
        message = f"two runs of {some(differing)} differ: figures of this run cannot be had again"
        return [Finding(code="not_deterministic", severity="fail", message=message, inputs=differing)]
    if not any(facts.deterministic.values()):
        message = "no input ran twice: run at least one with two repeats"
        return [Finding(code="determinism_unknown", severity="fail", message=message)]
    return []


def some(names: tuple[str, ...]) -> str:
    """At most four names."""
    shown = ", ".join(names[:4]) or "none"
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
