"""The rules in company, added to a profile of single operations: an inquiry for each, a gap where one fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.reveal.company.graphs import CompanyLaboratory
from fidelity.arithmetic.reveal.company.layer_norm import find_layer_norm
from fidelity.arithmetic.reveal.company.merging import WEIGHTED, find_merging
from fidelity.arithmetic.reveal.company.softmax_read import find_read
from fidelity.arithmetic.reveal.company.softmax_threads import find_threads
from fidelity.arithmetic.reveal.evidence import Findings, Revealed
from fidelity.arithmetic.reveal.experiment import NotTold
from fidelity.arithmetic.rules import LAYER_NORM, SOFTMAX, Rule, Softmax

Step = Callable[[str], None]
Find = Callable[[Profile, CompanyLaboratory, Findings], object]
PARTS_OF_NORM = ("MEAN", "SUB", "MUL", "ADD", "RSQRT")
STAGES = ("constants taken into weights", "softmax by threads", "softmax read by another", "LayerNorm as one")


def reveal_company(
    profile: Profile, laboratory: CompanyLaboratory, findings: Findings, step: Step = lambda _: None
) -> Profile:
    """`profile`, found from single operations, with what they do in company. Never raises for a device."""
    step(STAGES[0])
    for kind in WEIGHTED:
        if kind in profile.rules:
            profile = _merged(kind, profile, laboratory, findings)
    for stage, field, find in zip(STAGES[1:3], ("shared", "shares"), (find_threads, find_read), strict=True):
        step(stage)
        if isinstance(profile.rules.get(SOFTMAX), Softmax):
            profile = _softmax(field, find, profile, laboratory, findings)
    step(STAGES[3])
    if all(kind in profile.rules for kind in PARTS_OF_NORM):
        profile = _normed(profile, laboratory, findings)
    return profile


def in_company(revealed: Revealed, laboratory: CompanyLaboratory, step: Step = lambda _: None) -> Revealed:
    """What single operations told of a device, with the rules in company, the evidence for them and their gaps."""
    findings = Findings()
    profile = reveal_company(revealed.profile, laboratory, findings, step)
    notes = (*profile.origin.notes, *findings.untold)
    return Revealed(
        profile=profile.model_copy(update={"origin": profile.origin.model_copy(update={"notes": notes})}),
        evidence=(*revealed.evidence, *findings.evidence),
        untold=(*revealed.untold, *findings.untold),
    )


def _merged(kind: str, profile: Profile, laboratory: CompanyLaboratory, findings: Findings) -> Profile:
    try:
        return _with(profile, kind, **find_merging(kind, profile, laboratory, findings))
    except NotTold as reason:
        findings.gap(f"{kind}: what it takes in: {reason}")
        return profile


def _softmax(field: str, find: Find, profile: Profile, laboratory: CompanyLaboratory, findings: Findings) -> Profile:
    try:
        return _with(profile, SOFTMAX, **{field: find(profile, laboratory, findings)})
    except NotTold as reason:
        findings.gap(f"SOFTMAX: {field} in company: {reason}")
        return profile


def _normed(profile: Profile, laboratory: CompanyLaboratory, findings: Findings) -> Profile:
    try:
        rule = find_layer_norm(profile, laboratory, findings)
    except NotTold as reason:
        findings.gap(f"{LAYER_NORM}: {reason}")
        return profile
    return profile if rule is None else profile.model_copy(update={"rules": {**profile.rules, LAYER_NORM: rule}})


def _with(profile: Profile, kind: str, **changes: Any) -> Profile:
    """The profile with other fields of one rule, checked as when read."""
    rule: Rule = profile.rules[kind]
    changed = type(rule).model_validate({**dict(rule), **changes})
    return profile.model_copy(update={"rules": {**profile.rules, kind: changed}})
