"""Label embeddings: every label in every template through the text tower, and their mean.

As in CLIP's zero-shot classification: each prompt's embedding is normalised, a label's are averaged, the mean
is normalised. The tower runs in float32, as it does wherever an application makes such constants; what follows
is in float64. Both sides of a comparison use the stored result, so its last bits are nobody's error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fidelity.errors import BadInput
from fidelity.models.label_set import LabelRecord, unsound
from fidelity.models.prompts import prompt
from fidelity.models.text_source import TextSource, open_clip
from fidelity.models.text_weights import build_text_tower
from fidelity.models.weights import Weights, weights_sha256
from fidelity.npy import npy_bytes

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fidelity.progress import Step

BATCH = 64
"""Prompts a run of the tower: 64 x 32 tokens of width 1024 keep the activations below 100 MB."""


def make_label_set(
    source: TextSource,
    weights: Weights,
    seed: int,
    texts: tuple[tuple[str, ...], tuple[str, ...]],
    file: str,
    step: Step,
) -> tuple[LabelRecord, bytes]:
    """The record of (labels, templates) under a text tower, and the .npy that it names as `file`.

    Raises BadInput for a prompt that is too long, two labels that the tower takes for one, and an
    embedding that is not finite; else as `build_text_tower`.
    """
    import torch  # noqa: PLC0415 - an extra

    labels, templates = texts
    tokenizer = source.tokenizer()
    tokens = tokenizer([prompt(template, label) for label in labels for template in templates])
    if pair := _one_text(tokens.numpy().reshape(len(labels), -1)):
        one, other = (labels[row] for row in pair)
        raise BadInput(f"labels under {source}: {one!r} and {other!r} are one text to its tokenizer")
    tower = build_text_tower(source, weights, seed)
    embeddings = label_embeddings(tower, tokens, len(templates), step)
    content = npy_bytes(embeddings)
    record = LabelRecord(
        model=str(source),
        weights=str(weights),
        weights_sha256=weights_sha256(tower),
        seed=seed,
        context_length=tokenizer.context_length,
        labels=labels,
        templates=templates,
        versions={"open_clip_torch": open_clip().__version__, "torch": torch.__version__},
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        shape=embeddings.shape,
    )
    if problem := unsound(record, embeddings):
        raise BadInput(f"labels under {source}: {problem}")
    return record, content


def label_embeddings(tower: nn.Module, tokens: torch.Tensor, templates: int, step: Step) -> NDArray[np.float64]:
    """Float64 [labels, D], rows of norm 1, of token numbers [labels * templates, length], a label's rows together."""
    parts = []
    for start in range(0, len(tokens), BATCH):
        step(f"prompt {start + 1} of {len(tokens)}")
        parts.append(_normalised(_run(tower, tokens[start : start + BATCH])))
    every = np.concatenate(parts).reshape(len(tokens) // templates, templates, -1)
    return _normalised(every.mean(axis=1))


def steps(labels: Sequence[str], templates: Sequence[str]) -> int:
    """How often `label_embeddings` calls its step."""
    return -(-len(labels) * len(templates) // BATCH)


def _one_text(tokens: NDArray[np.int64]) -> tuple[int, int] | None:
    """The first two labels whose prompts are the same tokens: the tower may still tell them apart by rounding."""
    seen: dict[bytes, int] = {}
    for row, each in enumerate(tokens):
        before = seen.setdefault(each.tobytes(), row)
        if before != row:
            return before, row
    return None


def _run(tower: nn.Module, tokens: torch.Tensor) -> NDArray[np.float64]:
    import torch  # noqa: PLC0415

    with torch.no_grad():
        return np.asarray(tower(tokens).double().numpy())


def _normalised(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows divided by their norms; a row of zeros becomes NaN, which is then refused by name."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
