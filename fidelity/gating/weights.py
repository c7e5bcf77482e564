"""The weights that an artefact must have, bit for bit or rounded to float16 once: those of the rewritten model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fidelity.models.subject import Subject

if TYPE_CHECKING:
    from fidelity.rewrites.contract import Rewrite


def rewritten_weights(subject: Subject, rewrites: Sequence[Rewrite]) -> dict[str, NDArray[np.float32]]:
    """The stored tensors of the model that is converted, by name."""
    from fidelity.rewrites.apply import apply_rewrites  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.weights_map import stored_tensors  # noqa: PLC0415

    stored = stored_tensors(apply_rewrites(subject.model, rewrites).model)
    return {name: each.numpy() for name, each in stored.items() if each.is_floating_point()}
