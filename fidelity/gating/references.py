"""The reference of a comparison: a source model run in float64 here, or a committed golden."""

from __future__ import annotations

from pathlib import Path

from fidelity.errors import BadInput
from fidelity.gating.single import Reference


def find_reference(
    text: str, weights: str, seed: int, images: Path, names: tuple[str, ...] | None, goldens: Path
) -> Reference:
    """`golden:NAME`, read and checked byte for byte, or `timm:NAME`, built and run. Raises BadInput."""
    if text.startswith("golden:"):
        from fidelity.golden import embeddings, read_golden  # noqa: PLC0415

        manifest, arrays = read_golden(goldens, text.removeprefix("golden:"))
        return Reference(embeddings(arrays), manifest.subject.weights_sha256, text)
    if text.startswith("timm:"):
        from fidelity.models.subject import build_subject, truth  # noqa: PLC0415 - torch is an extra

        subject = build_subject(text, weights, seed, images, names)
        return Reference(truth(subject), subject.record.weights_sha256, text, subject)
    raise BadInput(f"reference {text!r}: expected timm:NAME or golden:NAME")
