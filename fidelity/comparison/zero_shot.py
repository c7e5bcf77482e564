"""Zero-shot classification: the label whose embedding is nearest, to PyTorch and to the device.

Let t be PyTorch's embedding of norm 1, a the device's, l_i and l_j two labels, m = t . (l_i - l_j) > 0. The
device prefers j when a . (l_j - l_i) >= 0, so (a - t) . (l_j - l_i) >= m, and by Cauchy and Schwarz

    |a - t| >= m / |l_i - l_j|

whatever the direction of the error. For an a of any norm: scaling t and a leaves both orders as they are, and
|a - t| / |t| is the relative L2 error. So `error_needed` = m / |l_i - l_j|, and it is reached: an a that is off
by exactly that along l_j - l_i ties the two. A run whose relative L2 error is below it cannot have this flip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.metrics.outcome import RealArray
from fidelity.comparison.ranking import Array, Needed, RankedInput, Ranking, Scored, rankable, ranked, unit
from fidelity.errors import BadInput


def zero_shot(
    actual: Mapping[str, RealArray],
    truth: Mapping[str, RealArray],
    labels: tuple[tuple[str, ...], Array, str],
    output: str,
    asked: Iterable[str],
) -> Ranking:
    """The labels of every input that was asked for, in order of cosine, device beside truth.

    `labels` are names, their embeddings (float64 [labels, D], rows of norm 1) and the hash of those; outputs
    are by input name, D numbers each. Raises BadInput for a truth of another D.
    """
    names, embeddings, sha256 = labels
    for name, array in truth.items():
        if array.size != embeddings.shape[1]:
            raise BadInput(f"input {name!r}: an embedding of {array.size}, the labels have {embeddings.shape[1]}")
    wanted = sorted(set(asked))
    possible = [name for name in wanted if rankable(truth, actual, name)]
    return Ranking(
        task="zero-shot",
        output=output,
        labels_sha256=sha256,
        candidates=len(names),
        components=embeddings.shape[1],
        depth=min(len(names), 5),
        inputs=tuple(_one(name, unit(truth[name]), unit(actual[name]), names, embeddings) for name in possible),
        unranked=tuple(name for name in wanted if name not in possible),
    )


def _one(name: str, truth: Array, actual: Array, names: tuple[str, ...], embeddings: Array) -> RankedInput:
    scores = embeddings @ truth
    return ranked(Scored(name, names, scores, embeddings @ actual, _needed(scores, embeddings)))


def _needed(scores: Array, embeddings: Array) -> Needed:
    def needed(right: int, wrong: NDArray[np.int64]) -> Array:
        apart = np.linalg.norm(embeddings[right] - embeddings[wrong], axis=1)
        margin = scores[right] - scores[wrong]
        # two labels of one embedding have no margin but rounding's: any error turns them round
        return np.asarray(np.minimum(np.divide(margin, apart, out=np.zeros_like(margin), where=apart > 0), 1.0))

    return needed
