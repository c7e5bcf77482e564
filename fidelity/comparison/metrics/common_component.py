"""What all inputs share, and the metrics that only mean something without it.

Embeddings of different images have much in common (mean correlation 0.5 between photographs for
the reference model), so a constant output correlates with every reference. Removing the mean
reference embedding leaves what depends on the input. The mean is always over every reference
given, also when a device ran fewer inputs: the mean of three alike inputs would leave next to
nothing, and rounding would look like a fault.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fidelity.comparison.metrics.correlation import correlation, norm
from fidelity.comparison.metrics.outcome import Array, Measured, Outcome, RealArray, Undefined, finite_set

ALIKE = 1e-24
"""Least share of energy that counts as depending on the input: 1e-12 squared, far above float64's
rounding of a mean (1e-16 squared) and far below that of float32 values (6e-8 squared)."""


def centred_correlation(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """Smallest correlation of any input, the mean reference output subtracted on both sides; 1 is best.

    In [-1, 1], with the input that has it. A constant output has 0 or less at its worst input,
    exactly: its products with the centred references sum to zero over the set. Noise counts
    1 / `input_signal` times as much as in `correlation`. Undefined for fewer than two references,
    and where a reference equals their mean. Blind to the common component, and to scale.
    """
    pair = finite_set(actual, reference, at_least=1)
    if isinstance(pair, Undefined):
        return pair
    common = _mean(pair[1])
    if isinstance(common, Undefined):
        return common
    worst: Measured | None = None
    for name, output in pair[0].items():
        if norm(pair[1][name] - common) ** 2 <= ALIKE * norm(pair[1][name]) ** 2:
            return Undefined(cause="inputs_alike", why=f"{name}: the reference equals the mean of them all")
        outcome = correlation(output - common, pair[1][name] - common)
        if isinstance(outcome, Undefined):
            return Undefined(cause=outcome.cause, why=f"{name}, common component removed: {outcome.why}")
        if worst is None or outcome.value < worst.value:
            worst = Measured(outcome.value, inputs=(name,))
    return worst or Undefined(cause="empty", why="no inputs")


def input_signal(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """Least share of a reference's energy that depends on the input, [0, inf); a fact about the set.

    ||r - mean||^2 / ||r||^2, at the input that has least of it. Says how much `centred_correlation`
    can prove: 1 - centred correlation is about (1 - correlation) / input signal. The actual
    outputs only say which inputs count. Undefined for fewer than two references or a zero one.
    """
    pair = finite_set(actual, reference, at_least=1)
    if isinstance(pair, Undefined):
        return pair
    common = _mean(pair[1])
    if isinstance(common, Undefined):
        return common
    shares = {name: _share(pair[1][name], common) for name in pair[0]}
    zero = [name for name, share in shares.items() if share is None]
    if zero:
        return Undefined(cause="zero_reference", why=f"{zero[0]}: every element is zero")
    value, name = min((share, name) for name, share in shares.items() if share is not None)
    return Measured(value, inputs=(name,))


def input_dependence(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """How much the outputs vary over the inputs, over how much the references do, [0, inf); 1 is best.

    Root of the ratio of the summed squared distances from the mean, each side from its own mean,
    over the inputs that ran. A constant output has 0. Undefined for fewer than two inputs or
    references that are all alike. Blind to whether the variation is the right one.
    """
    pair = finite_set(actual, reference, at_least=2)
    if isinstance(pair, Undefined):
        return pair
    references = np.stack([pair[1][name] for name in pair[0]])
    outputs = np.stack(list(pair[0].values()))
    if not np.any(np.ptp(references, axis=0)):
        return Undefined(cause="inputs_alike", why="the references of all inputs are the same")
    # ptp above and below, since the mean of equal numbers is not always that number
    if not np.any(np.ptp(outputs, axis=0)):
        return Measured(0.0)
    return Measured(norm(outputs - outputs.mean(axis=0)) / norm(references - references.mean(axis=0)))


def _mean(references: Mapping[str, Array]) -> Array | Undefined:
    if len(references) < 2:
        return Undefined(cause="too_few_inputs", why=f"{len(references)} references have no common component")
    stacked = np.stack(list(references.values()))
    if not np.any(np.ptp(stacked, axis=0)):
        return Undefined(cause="inputs_alike", why="the references of all inputs are the same")
    mean: Array = stacked.mean(axis=0)
    return mean


def _share(reference: Array, common: Array) -> float | None:
    size = norm(reference)
    return None if size == 0 else (norm(reference - common) / size) ** 2
