"""The rules in company, added to a profile of single operations: an inquiry for each, a gap where one fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.reveal.company.graphs import CompanyLaboratory
from fidelity.arithmetic.reveal.company.merging import WEIGHTED, find_merging
from fidelity.arithmetic.reveal.company.softmax_read import find_read
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import NotTold
from fidelity.arithmetic.rules import SOFTMAX, Rule, Softmax

Step = Callable[[str], None]
STAGES = ("constants taken into weights", "softmax read by another")


def reveal_company(
    profile: Profile, laboratory: CompanyLaboratory, findings: Findings, step: Step = lambda _: None
) -> Profile:
    """`profile`, found from single operations, with what they do in company. Never raises for a device."""
    step(STAGES[0])
    for kind in WEIGHTED:
        if kind in profile.rules:
            profile = _merged(kind, profile, laboratory, findings)
    step(STAGES[1])
    if isinstance(profile.rules.get(SOFTMAX), Softmax):
        profile = _softmax(profile, laboratory, findings)
    return profile


def _merged(kind: str, profile: Profile, laboratory: CompanyLaboratory, findings: Findings) -> Profile:
    try:
        return _with(profile, kind, **find_merging(kind, profile, laboratory, findings))
    except NotTold as reason:
        findings.gap(f"{kind}: what it takes in: {reason}")
        return profile


def _softmax(profile: Profile, laboratory: CompanyLaboratory, findings: Findings) -> Profile:
    try:
        return _with(profile, SOFTMAX, shares=find_read(profile, laboratory, findings))
    except NotTold as reason:
        findings.gap(f"SOFTMAX: stored_absorbed: {reason}")
        return profile


def _with(profile: Profile, kind: str, **changes: Any) -> Profile:
    """The profile with other fields of one rule, checked as when read."""
    rule: Rule = profile.rules[kind]
    changed = type(rule).model_validate({**dict(rule), **changes})
    return profile.model_copy(update={"rules": {**profile.rules, kind: changed}})
