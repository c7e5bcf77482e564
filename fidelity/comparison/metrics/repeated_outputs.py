"""Outputs that two inputs share bit for bit: a buffer that was read before it was written."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_set


def repeated_outputs(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """Number of pairs of inputs with the same output though their references differ, [0, inf); 0 is best.

    `inputs` is the first such pair. A stale output (of the input before) and a constant one show
    here whatever their correlation. Undefined for fewer than two inputs. Blind to an output that
    repeats all but one bit: `misplacement` and `input_dependence` see those.
    """
    pair = finite_set(actual, reference, at_least=2)
    if isinstance(pair, Undefined):
        return pair
    outputs, references = pair
    repeated = [
        (first, second)
        for first, second in combinations(outputs, 2)
        if np.array_equal(outputs[first], outputs[second]) and not np.array_equal(references[first], references[second])
    ]
    return Measured(float(len(repeated)), inputs=repeated[0] if repeated else ())
