"""Make the artefacts of a rewritten model, once: a float32 .tflite, its float16 cast, manifest, audit."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.cache import Cache
from fidelity.errors import EnvironmentMissing
from fidelity.models.subject import Subject, SubjectRecord
from fidelity.tflite.manifest import (
    AppliedRewrite,
    Provenance,
    WeightsDtype,
    read_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    from torch import nn

    from fidelity.progress import Step
    from fidelity.rewrites.contract import Rewrite

OUTPUT = "embedding"


def file_name(subject: SubjectRecord, weights_dtype: WeightsDtype) -> str:
    """What the artefact is called: the model's name and the dtype of its weights."""
    model = subject.source.removeprefix("timm:").split("?", maxsplit=1)[0]
    return f"{model}_{'fp16' if weights_dtype == 'float16' else 'fp32'}.tflite"


def provenance_of(record: SubjectRecord, rewrites: Sequence[Rewrite]) -> Provenance:
    """What the manifest of an artefact of this model tells of where it comes from."""
    return Provenance(
        source=record.source,
        weights=record.weights,
        weights_sha256=record.weights_sha256,
        rewrites=tuple(AppliedRewrite(name=r.contract.name, version=r.contract.version) for r in rewrites),
        scaling=record.contract.scaling,
    )


def make_artefact(
    subject: Subject, rewrites: Sequence[Rewrite], weights_dtype: WeightsDtype, cache: Cache, step: Step
) -> Path:
    """The artefact in the cache, converted first if it is not there; its manifest lies beside it."""
    record = subject.record
    provenance = provenance_of(record, rewrites)
    key = {**provenance.model_dump(mode="json"), "contract": record.contract.model_dump(mode="json")}
    name = file_name(record, weights_dtype)

    def convert_float32(folder: Path) -> None:
        _convert(subject, rewrites, folder / name, step)
        write_manifest(folder / name, provenance)

    def cast_float16(folder: Path) -> None:
        from fidelity.tflite.convert import cast_weights  # noqa: PLC0415 - needs the extra

        source = make_artefact(subject, rewrites, "float32", cache, step)
        step("cast weights to float16")
        cast_weights(source, folder / name, log=folder / "cast.log")
        write_manifest(folder / name, provenance)

    make = convert_float32 if weights_dtype == "float32" else cast_float16
    artefact = cache.entry("artefact", {**key, "weights_dtype": weights_dtype}, make) / name
    read_manifest(artefact)
    return artefact


def tower_of(subject: Subject, rewrites: Sequence[Rewrite]) -> nn.Module:
    """The module that is converted: the rewritten model, normalising its output."""
    from fidelity.models.tower import ImageTower  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.apply import apply_rewrites  # noqa: PLC0415

    return ImageTower(apply_rewrites(subject.model, rewrites).model).eval()


def _convert(subject: Subject, rewrites: Sequence[Rewrite], path: Path, step: Step) -> None:
    import torch  # noqa: PLC0415 - an extra, needed only where something is converted

    from fidelity.tflite.convert import convert  # noqa: PLC0415

    contract = subject.record.contract
    tower = tower_of(subject, rewrites)
    sample = torch.zeros(contract.shape, dtype=torch.float32)
    convert(
        tower,
        {contract.name: sample},
        path,
        outputs=(OUTPUT,),
        log=path.with_name("convert.log"),
        on_stage=step,
    )


def copy_artefact(artefact: Path, target: Path) -> None:
    """Give the user an artefact of the cache under the name asked for, with its manifest."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artefact, partial)
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise EnvironmentMissing(f"{target}: cannot be written: {error.strerror}") from error
    write_manifest(target, read_manifest(artefact).provenance)
