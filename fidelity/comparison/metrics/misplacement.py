"""Misplacement: an output that belongs to another input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fidelity.comparison.metrics.cosine import cosine_of
from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_set


def misplacement(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """How much nearer an output is to another input's reference than to its own, [-2, 2]; 0 or less is good.

    Largest cosine(actual i, reference j) - cosine(actual i, reference i) over i and j != i, with
    `inputs` (i, j). Swapped or stale outputs have 1 - cosine of the two references. An output
    within relative L2 error e of its own reference cannot pass e^2 / 2. Undefined for fewer than
    two references or a zero vector. Blind to any error that keeps the neighbourhood.
    """
    pair = finite_set(actual, reference, at_least=1)
    if isinstance(pair, Undefined):
        return pair
    outputs, references = pair
    if len(references) < 2:
        return Undefined(cause="too_few_inputs", why="one reference: no other to belong to")
    for name, array in references.items():
        if not np.any(array):
            return Undefined(cause="zero_reference", why=f"{name}: every element is zero")
    for name, array in outputs.items():
        if not np.any(array):
            return Undefined(cause="zero_actual", why=f"{name}: every element is zero")
    value, own, other = max(
        (cosine_of(outputs[own], references[other]) - cosine_of(outputs[own], references[own]), own, other)
        for own in outputs
        for other in references
        if other != own
    )
    return Measured(value, inputs=(own, other))
