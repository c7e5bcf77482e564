"""Faults in the rewritten torch model, judged by the proof of the rewrites: weights bit for bit, sites side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fidelity.errors import BadInput
from fidelity.faults.modules import MODULES
from fidelity.faults.rewrites import PlantedRewrite
from fidelity.models.counter_random import uniform_integers
from fidelity.models.tower import ImageTower
from fidelity.rewrites.apply import RewrittenModel, apply_rewrites
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.proof import Proof
from fidelity.rewrites.prove import Subject as ProofSubject
from fidelity.rewrites.prove import prove
from fidelity.selftest.records import FaultRow, Localised, Seen, fault_row

if TYPE_CHECKING:
    from torch import nn

    from fidelity.models.subject import Subject

MATTERS = 1e-4
"""Relative L2 of the output: what no rounding in float32 makes, and the proof must see whatever its size."""


@dataclass(frozen=True)
class PlantedModel:
    """The rewrites, of which one has a fault at one site, and the model that they make."""

    path: str
    rewrites: tuple[Rewrite, ...]
    model: nn.Module


def plant(subject: Subject, rewrites: Sequence[Rewrite], fault: str, seed: int) -> PlantedModel:
    """The fault at a drawn site where it matters. Raises BadInput where it can have no effect on this model."""
    clean = apply_rewrites(subject.model, rewrites)
    for path, drawn in _draws(clean.sites, fault, seed):
        wrong = _with(clean, rewrites, path, fault, drawn)
        try:
            made = apply_rewrites(subject.model, wrong)
        except ValueError:
            continue
        if fault == "overflow" or _moved(subject, clean.model, made.model) > MATTERS:
            return PlantedModel(path, wrong, made.model)
    raise BadInput(f"{subject.record.source}: the fault {fault} has no effect at any rewritten module")


def module_rows(subject: Subject, rewrites: Sequence[Rewrite], fault: str, seed: int) -> list[FaultRow]:
    """One fault of the model, and what the proof says of it: a single row."""
    planted = plant(subject, rewrites, fault, seed)
    proof = proof_of(subject, planted.rewrites)
    return [fault_row(fault, "model", None, planted.path, seen_by_proof(proof), localised(proof, planted.path))]


def tower(planted: PlantedModel) -> nn.Module:
    """What is converted of a planted model."""
    return ImageTower(planted.model).eval()


def proof_of(subject: Subject, rewrites: Sequence[Rewrite]) -> Proof:
    """The proof, as the gate makes it, on the first photograph."""
    inputs = subject.inputs
    first = next(iter(inputs.photographs or tuple(inputs.arrays)))
    record = subject.record
    return prove(ProofSubject(subject.model, record.source, record.weights), rewrites, inputs.only((first,))).proof


def seen_by_proof(proof: Proof) -> list[Seen]:
    """Everything that a proof has against the rewritten model."""
    found = [
        Seen(
            check="side_by_side",
            severity="fail",
            metric="row_difference",
            worst=site.counter_example.difference,
            limit=f"at most {site.counter_example.allowed:.3g}",
            message=f"{site.path or 'the whole model'} on {site.counter_example.input}",
        )
        for site in sorted(proof.sites, key=lambda site: -len(site.path))
        if site.counter_example is not None
    ]
    weights = proof.weights_map
    wrong = [t.tensor for t in weights.tensors if t.bits_equal is False]
    told = [f"{name} has not the bits of its origin" for name in wrong]
    told += [f"{name} is lost" for name in weights.lost] + [f"{name} has no origin" for name in weights.unexplained]
    found += [Seen(check="weights_map", severity="fail", message=each) for each in told]
    if not proof.passed and not found:
        found += [Seen(check="proof", severity="fail", message=each) for each in proof.failures or ("no call",)]
    return found


def localised(proof: Proof, path: str) -> Localised | None:
    """The innermost sites that fail, and the modules of weights with other bits."""
    failed = [site.path for site in proof.sites if site.counter_example is not None]
    inner = {p for p in failed if not any(o != p and (not p or o.startswith(f"{p}.")) for o in failed)}
    wrong = [t.tensor for t in proof.weights_map.tensors if t.bits_equal is False]
    if not inner and not wrong:
        return None
    blamed = sorted(inner) or wrong
    exact = inner <= {path} and all(name.startswith(f"{path}.") for name in wrong)
    return Localised(kind="rewrite", where=", ".join(blamed), exact=exact)


def _with(clean: RewrittenModel, rewrites: Sequence[Rewrite], path: str, fault: str, drawn: int) -> tuple[Rewrite, ...]:
    """The rewrites, of which the last one that is applied at the site has the fault."""
    last = [each.rewrite for each in clean.decisions if each.path == path and each.refused is None][-1]
    return tuple(PlantedRewrite(r, path, fault, drawn) if r.contract.name == last else r for r in rewrites)


def _draws(sites: Sequence[str], fault: str, seed: int) -> Iterator[tuple[str, int]]:
    """Every site once, in a drawn order, with a drawn number for each."""
    if fault not in MODULES:
        raise BadInput(f"fault {fault!r} is none of a module")
    words = uniform_integers(seed, f"selftest model {fault}", 2 * len(sites))
    for place in np.argsort(words[: len(sites)], kind="stable"):
        yield sites[place], int(words[len(sites) + place] >> np.uint64(33))


def _moved(subject: Subject, right: nn.Module, wrong: nn.Module) -> float:
    """How far the output is from the right one, at the first input; infinite for NaN."""
    import torch  # noqa: PLC0415 - beside the other torch of this file's imports it is used for this alone

    first = next(iter(subject.inputs.photographs or tuple(subject.inputs.arrays)))
    image = torch.from_numpy(subject.inputs.arrays[first])
    with torch.no_grad():
        a, b = right(image), wrong(image)
    moved = float((b - a).norm() / a.norm())
    return moved if np.isfinite(moved) else float("inf")
