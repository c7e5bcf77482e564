"""Whether an artefact has the converted model's weights, bit for bit or rounded to float16 once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fidelity.models.subject import Subject
from fidelity.tflite.structure import Graph
from fidelity.tflite.weights import WeightsAudit, audit_weights

if TYPE_CHECKING:
    from fidelity.rewrites.contract import Rewrite


def check_artefact_weights(graph: Graph, subject: Subject, rewrites: Sequence[Rewrite]) -> WeightsAudit:
    """The origin of every constant of an artefact among the stored tensors of the rewritten model."""
    from fidelity.rewrites.apply import apply_rewrites  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.weights_map import stored_tensors  # noqa: PLC0415

    stored = stored_tensors(apply_rewrites(subject.model, rewrites).model)
    return audit_weights(graph, {name: each.numpy() for name, each in stored.items() if each.is_floating_point()})
