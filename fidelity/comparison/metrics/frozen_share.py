"""Share of frozen elements: channels that no longer depend on the input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fidelity.comparison.metrics.correlation import norm
from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_set

CLEAR_OF_NOISE = 0.1
"""An element counts when its reference varies over the inputs by at least this share of the rms.

The loosest default limit allows noise of 0.0141 rms, so two outputs whose references are 0.1 rms
apart differ by five deviations of the noise on their difference, and three that all coincide are
not to be explained by rounding to fp16 (steps of 0.001 of a value).
"""


def frozen_share(actual: Mapping[str, RealArray], reference: Mapping[str, RealArray]) -> Outcome:
    """Share of elements that are the same for all inputs, of those whose reference varies, [0, 1]; 0 is best.

    Elements of one position over the inputs that ran; `index` is the first frozen one in the
    flattened output. Sees one dead channel of a thousand, bias or not. Undefined for fewer than
    three inputs, where two rounded values may coincide, and where no reference element varies.
    Blind to elements that vary wrongly.
    """
    pair = finite_set(actual, reference, at_least=3)
    if isinstance(pair, Undefined):
        return pair
    outputs = np.stack(list(pair[0].values()))
    references = np.stack([pair[1][name] for name in pair[0]])
    rms = norm(references) / np.sqrt(references.size)
    varies = (np.ptp(references, axis=0) >= CLEAR_OF_NOISE * rms) & (np.ptp(references, axis=0) > 0)
    if not np.any(varies):
        return Undefined(cause="inputs_alike", why="no element of the references varies over the inputs")
    frozen = np.flatnonzero(varies & (np.ptp(outputs, axis=0) == 0))
    index = (int(frozen[0]),) if len(frozen) else ()
    return Measured(len(frozen) / int(np.count_nonzero(varies)), index=index)
