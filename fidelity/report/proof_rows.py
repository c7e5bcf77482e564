"""The proof in a few rows: for each rewrite, the blocks and the whole model, the worst that was found.

A proof has some sixty comparisons. What a person asks first is how near the worst of each kind came
to what rounding allows, and where.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fidelity.rewrites.proof import Decision, Difference, Proof, SiteProof


@dataclass(frozen=True)
class WorstSite:
    """The site that came nearest to what is allowed, or farthest past it, at one precision."""

    path: str
    difference: Difference


@dataclass(frozen=True)
class ProofRow:
    """A group of comparisons: how many, the worst in each precision, and whether none failed."""

    title: str
    sites: int
    calls: int
    float64: WorstSite
    float32: WorstSite
    found: str
    passed: bool


@dataclass(frozen=True)
class Refused:
    """Modules that a rewrite did not take, for one reason."""

    rewrite: str
    module: str
    reason: str
    paths: tuple[str, ...]


def proof_rows(proof: Proof) -> tuple[ProofRow, ...]:
    """One row for the modules of each rewrite, one for the blocks, one for the whole model; groups
    without a comparison have none."""
    taken = {(d.rewrite, d.path) for d in proof.decisions if d.refused is None}
    replaced = {path for _, path in taken}
    groups = [
        (f"{contract.name} modules", [s for s in proof.sites if (contract.name, s.path) in taken])
        for contract in proof.contracts
    ]
    groups.append(("whole blocks", [s for s in proof.sites if s.path and s.path not in replaced]))
    groups.append(("the whole model", [s for s in proof.sites if not s.path]))
    return tuple(_row(title, sites) for title, sites in groups if sites)


def _row(title: str, sites: list[SiteProof]) -> ProofRow:
    return ProofRow(
        title=title,
        sites=len(sites),
        calls=sum(site.calls for site in sites),
        float64=_worst(sites, "float64"),
        float32=_worst(sites, "float32"),
        found=", ".join(sorted({site.exactness.value for site in sites})),
        passed=all(site.counter_example is None and site.calls > 0 for site in sites),
    )


def _worst(sites: Iterable[SiteProof], precision: Literal["float64", "float32"]) -> WorstSite:
    found = [WorstSite(site.path, getattr(site, precision)) for site in sites]
    return max(found, key=lambda site: _share(site.difference))


def _share(difference: Difference) -> float:
    """The difference as a share of what is allowed; what cannot be compared is the worst."""
    if math.isnan(difference.worst) or not difference.allowed > 0:
        return math.inf if difference.worst != 0 else 0.0
    return difference.worst / difference.allowed


def taken_paths(proof: Proof, rewrite: str) -> tuple[str, ...]:
    """The modules that a rewrite replaced."""
    return tuple(d.path for d in proof.decisions if d.rewrite == rewrite and d.refused is None)


def refused_groups(proof: Proof) -> tuple[Refused, ...]:
    """The decisions against a rewrite, those with the same reason together, in the proof's order."""
    groups: dict[tuple[str, str, str], list[Decision]] = {}
    for decision in proof.decisions:
        if decision.refused is not None:
            groups.setdefault((decision.rewrite, decision.module, decision.refused), []).append(decision)
    return tuple(Refused(*key, tuple(d.path for d in group)) for key, group in groups.items())
