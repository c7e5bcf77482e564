"""The clean models of a selftest, one a seed: built, converted together, with the truth about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fidelity.cache import Cache
from fidelity.gating.artefacts import OUTPUT, provenance_of
from fidelity.models.subject import Subject, build_subject, truth
from fidelity.models.threads import SMALL
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import write_manifest
from fidelity.tflite.structure import Graph

if TYPE_CHECKING:
    from torch import nn

    from fidelity.progress import Step
    from fidelity.rewrites.contract import Rewrite


@dataclass(frozen=True)
class Specimen:
    """One model with its float16 artefact. `truth` is PyTorch in float64 by input."""

    seed: int
    subject: Subject
    tower: nn.Module
    truth: Mapping[str, NDArray[np.float64]]
    artefact: Path

    @property
    def graph(self) -> Graph:
        """The artefact's graph."""
        return read_graph(self.artefact)

    @property
    def input(self) -> str:
        """The name of the artefact's input."""
        ((name, _),) = self.graph.signature().inputs
        return name

    @property
    def looked_at(self) -> str:
        """The input that effects are measured and faults located at."""
        inputs = self.subject.inputs
        return next(iter(inputs.photographs or tuple(inputs.arrays)))


Tampered = tuple[str, "nn.Module", Subject]
"""A further model to convert: a name for it, its tower, and the subject that it is a wrong form of."""


def build_subjects(source: str, seeds: Sequence[int], images: Path, step: Step) -> list[Subject]:
    """The source with the seeded weights of each seed."""
    found = []
    for seed in seeds:
        step(f"seed {seed}")
        found.append(build_subject(source, "seeded", seed, images, None))
    return found


def specimens(
    subjects: Sequence[Subject], rewrites: tuple[Rewrite, ...], more: Sequence[Tampered], cache: Cache, step: Step
) -> tuple[list[Specimen], dict[str, Path]]:
    """Every subject converted, and the artefacts of further models by name."""
    from fidelity.gating.artefacts import tower_of  # noqa: PLC0415 - torch is an extra

    towers = [tower_of(subject, rewrites) for subject in subjects]
    wanted = [(f"seed-{s.record.seed}", tower, s) for s, tower in zip(subjects, towers, strict=True)]
    folder = _converted([*wanted, *more], rewrites, cache, step)
    found = []
    for (name, tower, subject), seed in zip(wanted, (s.record.seed for s in subjects), strict=True):
        found.append(Specimen(seed, subject, tower, truth(subject), folder / f"{name}.tflite"))
    return found, {name: folder / f"{name}.tflite" for name, _, _ in more}


def _converted(wanted: Sequence[Tampered], rewrites: tuple[Rewrite, ...], cache: Cache, step: Step) -> Path:
    """The folder of all artefacts, float16, each with its manifest."""
    provenances = {name: provenance_of(subject.record, rewrites) for name, _, subject in wanted}

    def make(folder: Path) -> None:
        _convert(wanted, folder, step)
        for name, provenance in provenances.items():
            write_manifest(folder / f"{name}.tflite", provenance)

    key = {name: provenance.model_dump(mode="json") for name, provenance in provenances.items()}
    return cache.entry("selftest", key, make)


def _convert(wanted: Sequence[Tampered], folder: Path, step: Step) -> None:
    import torch  # noqa: PLC0415 - an extra, needed only where something is converted

    from fidelity.tflite.convert import Wanted, convert_many  # noqa: PLC0415

    models = []
    for name, tower, subject in wanted:
        contract = subject.record.contract
        sample = {contract.name: torch.zeros(contract.shape, dtype=torch.float32)}
        models.append(Wanted(tower, sample, folder / f"{name}.tflite", (OUTPUT,)))
    log = folder / "convert.log"
    if wanted[0][2].record.parameters <= SMALL:
        convert_many(models, weights_dtype="float16", processes=2, log=log, on_stage=step)
        return
    for each in models:
        convert_many([each], weights_dtype="float16", log=log, on_stage=step)
