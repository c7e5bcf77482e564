"""Clean models: what must pass, on every device and for every seed; anything else is a false alarm."""

from __future__ import annotations

from fidelity.report.document import DeviceRun
from fidelity.rewrites.contract import Rewrite
from fidelity.selftest.records import CleanRow
from fidelity.selftest.rig import Rig
from fidelity.selftest.specimen import Specimen
from fidelity.selftest.weights import altered

FIGURES = ("correlation", "relative_l2", "error_ratio")
"""What a clean row tells: how near, how far, and how far beside what the arithmetic must give."""


def clean_proof(specimen: Specimen, rewrites: tuple[Rewrite, ...]) -> CleanRow:
    """The proof of the rewrites with this seed's weights, and the artefact's constants beside them."""
    from fidelity.selftest.modules import proof_of  # noqa: PLC0415 - torch is an extra

    proof = proof_of(specimen.subject, rewrites)
    wrong = tuple(each.told() for each in altered(specimen.graph, specimen, rewrites))
    why = (*proof.failures, *wrong)
    worst = {dtype: max(getattr(site, dtype).worst for site in proof.sites) for dtype in ("float64", "float32")}
    return CleanRow(seed=specimen.seed, device="model", passed=proof.passed and not wrong, worst=worst, why=why)


def clean_run(rig: Rig, specimen: Specimen, spec: str) -> CleanRow:
    """The artefact on a device, judged as the gate does."""
    execution = rig.run(specimen, specimen.artefact, spec)
    predicted = rig.predicted(specimen, specimen.artefact, execution)
    return clean_row(specimen.seed, rig.judged(specimen, specimen.artefact, spec, execution, predicted))


def clean_row(seed: int, run: DeviceRun) -> CleanRow:
    """One run of a clean model."""
    judgement = run.judgement
    worst = {c.metric: c.worst for c in judgement.checks if c.metric in FIGURES and c.worst is not None}
    why = tuple(f.message for f in judgement.findings if f.severity != "note")
    return CleanRow(seed=seed, device=run.device, passed=judgement.passed, worst=worst, why=why)
