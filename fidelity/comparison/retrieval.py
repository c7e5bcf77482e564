"""Image retrieval: the photographs in order of likeness to each, to PyTorch and to the device.

Both sides of a likeness have errors here. Let t_q, t_i, t_j be PyTorch's embeddings of norm 1, a_* the device's
brought to norm 1, d_* = a_* - t_* with |d_*| <= c, and m = t_q . (t_i - t_j) > 0. With D = |t_i - t_j|

    a_q . (a_i - a_j) = m + d_q . (t_i - t_j) + t_q . (d_i - d_j) + d_q . (d_i - d_j)
                     >= m - c D - 2 c - 2 c^2

so the device can prefer j only if 2 c^2 + (2 + D) c >= m: c = (sqrt((2 + D)^2 + 8 m) - 2 - D) / 4 at least.
That is a chord of the unit sphere. A relative L2 error e < 1 turns a vector by an angle whose sine is e at most,
and the chord of that angle is c = 2 sin(angle / 2), so e = c sqrt(1 - c^2 / 4): `error_needed`, of the worst of
the three images. Other than in `zero_shot` it need not be reached, since no error does its worst to all three.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.metrics.nearest_neighbour import FEWEST
from fidelity.comparison.metrics.outcome import RealArray
from fidelity.comparison.ranking import Array, Needed, Ranking, Scored, rankable, ranked, unit


def retrieval(
    actual: Mapping[str, RealArray], truth: Mapping[str, RealArray], output: str, photographs: tuple[str, ...]
) -> Ranking | None:
    """Every photograph as a query against the others, in order of cosine; None for fewer than three.

    Outputs are by input name. A photograph that cannot be ranked is left out as a candidate too.
    """
    wanted = sorted(set(photographs))
    names = [name for name in wanted if rankable(truth, actual, name)]
    if len(wanted) < FEWEST:
        return None
    rows = {name: (unit(truth[name]), unit(actual[name])) for name in names}
    found = []
    for query in names if len(names) >= FEWEST else ():
        others = tuple(name for name in names if name != query)
        truths, actuals = (np.stack([rows[name][side] for name in others]) for side in (0, 1))
        scores = truths @ rows[query][0]
        found.append(ranked(Scored(query, others, scores, actuals @ rows[query][1], _needed(scores, truths))))
    ranked_names = {each.input for each in found}
    return Ranking(
        task="retrieval",
        output=output,
        candidates=len(wanted) - 1,
        components=truth[wanted[0]].size,
        depth=min(len(names) - 1, 5) if found else min(len(wanted) - 1, 5),
        inputs=tuple(found),
        unranked=tuple(name for name in wanted if name not in ranked_names),
    )


def _needed(scores: Array, candidates: Array) -> Needed:
    def needed(right: int, wrong: NDArray[np.int64]) -> Array:
        apart = 2 + np.linalg.norm(candidates[right] - candidates[wrong], axis=1)
        margin = scores[right] - scores[wrong]
        # (sqrt(b^2 + 8 m) - b) / 4, without the cancellation of a small m
        return error_of_chord(2 * margin / (np.sqrt(apart**2 + 8 * margin) + apart))

    return needed


def error_of_chord(chord: Array) -> Array:
    """The least relative L2 error that turns a vector by a chord of the unit sphere; 1 from a right angle on."""
    shorter = np.minimum(chord, np.sqrt(2.0))
    return np.asarray(shorter * np.sqrt(1 - shorter**2 / 4))
