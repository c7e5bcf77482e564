"""What an embedding is used for: candidates in order, labels of an image or images like it. Pure measurement.

A device and PyTorch may order two candidates differently for two reasons: they are as good as tied and
rounding decides, or the embedding is wrong. What tells them apart is how large an error of the embedding it
takes. `Inversion.error_needed` is that: the least relative L2 error that can turn the pair round (`zero_shot`
and `retrieval` derive it). It holds whatever the error's direction, so no limit is applied here;
`ranking_findings` holds it against the error that fp16 allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fidelity.record import Figure, Record

Array = NDArray[np.float64]
Needed = Callable[[int, NDArray[np.int64]], Array]
"""Of one candidate and others below it in truth: the least relative L2 error that turns each pair round."""

DEPTH = 5
"""How far down the order it matters: top-1 and top-5 are what classification is reported as."""


class Inversion(Record):
    """Two candidates whose order the device turns round, and what that takes.

    `margin`: how much better `right` is than `wrong` to PyTorch, in cosine, above 0. `error_needed`: the least
    relative L2 error of the embedding, of any direction, that can do it; 1 stands for all that are larger.
    """

    right: str
    wrong: str
    margin: Figure
    error_needed: Figure


class RankedInput(Record):
    """One input's candidates, best first: PyTorch's best, the device's, and how much of the order is kept.

    `margin`: PyTorch's best less its second best, in cosine. `shared`: how many of PyTorch's first five are
    among the device's. `ordered`: those five stand in the same order. `first` is the inversion of PyTorch's best
    candidate, and `five` of any of its five, that takes the largest error; None without one.
    """

    input: str
    best: str
    chosen: str
    margin: Figure
    shared: int
    ordered: bool
    first: Inversion | None
    five: Inversion | None


class Ranking(Record):
    """Every input's order of candidates, device beside PyTorch. `depth` is 5, or all where there are fewer.

    `unranked` are inputs whose output is missing, of another shape or not finite: they agree nowhere.
    `components` are the embedding's, `labels_sha256` the array that the labels' embeddings are in.
    """

    task: Literal["zero-shot", "retrieval"]
    output: str
    labels_sha256: str | None = None
    candidates: int
    components: int
    depth: int
    inputs: tuple[RankedInput, ...]
    unranked: tuple[str, ...]

    @property
    def asked(self) -> int:
        """Inputs that should have been ranked."""
        return len(self.inputs) + len(self.unranked)

    @property
    def top1(self) -> int:
        """Inputs whose best candidate is PyTorch's."""
        return sum(each.first is None for each in self.inputs)

    @property
    def same_set(self) -> int:
        """Inputs whose first five candidates are PyTorch's, in any order."""
        return sum(each.shared == self.depth for each in self.inputs)

    @property
    def same_order(self) -> int:
        """Inputs whose first five candidates are PyTorch's, in its order."""
        return sum(each.ordered for each in self.inputs)

    @property
    def closest(self) -> RankedInput | None:
        """The input that PyTorch itself was least sure of."""
        return min(self.inputs, key=lambda each: each.margin, default=None)


@dataclass(frozen=True)
class Scored:
    """One input's candidates with both sides' scores, and what turns a pair of them round."""

    input: str
    names: tuple[str, ...]
    truth: Array
    actual: Array
    needed: Needed


def ranked(scored: Scored) -> RankedInput:
    """The orders of one input, side by side.

    Candidates that tie on the device are ordered worst first, since it cannot tell them apart: a constant
    output agrees nowhere. Candidates that tie in truth are both right.
    """
    truth, actual, names = scored.truth, scored.actual, scored.names
    by_truth = np.lexsort((-actual, -truth))
    by_actual = np.lexsort((truth, -actual))
    depth = min(DEPTH, len(names))
    firsts, mine = by_truth[:depth], by_actual[:depth]
    inversions = [_hardest(scored, int(each)) for each in firsts]
    return RankedInput(
        input=scored.input,
        best=names[firsts[0]],
        chosen=names[mine[0]],
        margin=float(truth[by_truth[0]] - truth[by_truth[1]]),
        shared=len(set(firsts.tolist()) & set(mine.tolist())),
        ordered=bool(np.array_equal(firsts, mine)),
        first=inversions[0],
        five=max(filter(None, inversions), key=lambda each: each.error_needed, default=None),
    )


def _hardest(scored: Scored, right: int) -> Inversion | None:
    """Of the candidates that the device puts before `right` and truth behind it, the one that takes most."""
    wrong = np.flatnonzero((scored.truth < scored.truth[right]) & (scored.actual >= scored.actual[right]))
    if not wrong.size:
        return None
    needed = scored.needed(right, wrong)
    worst = int(np.argmax(needed))
    return Inversion(
        right=scored.names[right],
        wrong=scored.names[wrong[worst]],
        margin=float(scored.truth[right] - scored.truth[wrong[worst]]),
        error_needed=float(needed[worst]),
    )


def rankable(truth: Mapping[str, Array], actual: Mapping[str, Array], name: str) -> bool:
    """Whether both sides of an input are finite and of one size, and truth is a direction."""
    if name not in truth or name not in actual or actual[name].size != truth[name].size:
        return False
    return bool(np.isfinite(actual[name]).all() and np.isfinite(truth[name]).all() and np.any(truth[name]))


def unit(vector: Array) -> Array:
    """A flat vector of norm 1, float64; zeros stay zeros, which tie with everything."""
    flat = np.asarray(vector, dtype=np.float64).ravel()
    norm = float(np.linalg.norm(flat))
    return flat / norm if norm > 0 else flat
