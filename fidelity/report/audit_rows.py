"""The findings of an audit with those that say the same together: one reason may hold at 136 places."""

from __future__ import annotations

from dataclasses import dataclass

from fidelity.tflite.audit import AuditReport
from fidelity.tflite.finding import AuditFinding


@dataclass(frozen=True)
class AuditRow:
    """Findings of one rule, severity, reason and cure, in the order of the file."""

    rule: str
    severity: str
    reason: str
    cure: str | None
    findings: tuple[AuditFinding, ...]


def audit_rows(audit: AuditReport) -> tuple[AuditRow, ...]:
    """What the delegate refuses first, then the warnings; within each the most frequent first."""
    groups: dict[tuple[str, str, str, str | None], list[AuditFinding]] = {}
    for finding in audit.findings:
        key = (finding.rule, finding.severity, finding.reason, finding.cure)
        groups.setdefault(key, []).append(finding)
    rows = [AuditRow(*key, tuple(findings)) for key, findings in groups.items()]
    return tuple(sorted(rows, key=lambda row: (row.severity != "refused", -len(row.findings))))
