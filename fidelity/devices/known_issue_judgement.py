"""Whether an answer shows a reported bug: a pure function of what came back, so that a lying device can be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fidelity.devices.job import JobResult
from fidelity.devices.known_issue_sketch import Right

Judgement = Literal["absent", "shown", "not testable"]
Told = tuple[Judgement, str]


@dataclass(frozen=True)
class Answer:
    """What a device made of a trial: the right outputs, its result, and its outputs by name."""

    right: Mapping[str, Right]
    result: JobResult
    outputs: Mapping[str, NDArray[Any]]

    @property
    def taken(self) -> bool:
        """True when it ran, every node on the device."""
        return self.result.status == "ok" and self.result.residency is not None and self.result.residency.full

    @property
    def refused(self) -> str | None:
        """Which nodes the delegate would not take, in one line; None when it refused none that is known."""
        residency = self.result.residency
        if residency is not None and residency.refusals:
            return "; ".join(f"{r.op} refused: {r.reason}" for r in residency.refusals)
        if self.result.status == "refused":
            return f"refused: {self.result.error}"
        return None


def judge(answer: Answer, *, needs_fp16: bool = False, refusal: bool = False) -> Told:
    """The judgement, and its evidence in one line."""
    if not answer.taken:
        if answer.refused is not None:
            return ("shown" if refusal else "not testable"), answer.refused
        if answer.result.status != "ok":
            return "not testable", f"the job ended as {answer.result.status}: {answer.result.error}"
        return "not testable", "where the nodes ran is not known"
    wrong = list(_wrong(answer))
    if wrong:
        return "shown", "; ".join(wrong)
    if needs_fp16 and answer.result.precision_had != "fp16":
        return "not testable", f"the device computed in {answer.result.precision_had}, the report is of fp16"
    return "absent", "every output is right"


def of_several(told: Sequence[Told]) -> Told:
    """One judgement of several trials: one that shows it is enough, one that could not be told is not.

    `absent` with trials that were refused names them.
    """
    for judgement in ("shown", "absent", "not testable"):
        evidence = [line for one, line in told if one == judgement]
        if evidence:
            untold = {line for one, line in told if one == "not testable"} if judgement == "absent" else set()
            return judgement, "; ".join([*dict.fromkeys(evidence), *sorted(untold)])
    return "not testable", "nothing was tried"


def _wrong(answer: Answer) -> Iterator[str]:
    for name, right in answer.right.items():
        got = answer.outputs.get(name)
        if got is None or got.shape != right.value.shape:
            yield f"{right.what}: {'no output' if got is None else f'shape {got.shape}'}"
        elif difference := _difference(np.asarray(got, np.float32), right):
            yield f"{right.what}: {difference}"


def _difference(got: NDArray[np.float32], right: Right) -> str | None:
    """How an output differs: as the report says, or how many elements and the first of them."""
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(got - right.value) <= right.within)  # not >: NaN differs too
    if not off.any():
        return None
    for told, wrong in right.symptoms.items():
        if np.array_equal(got, wrong, equal_nan=True):
            return f"as reported, {told} ({_first(got, right, off)})"
    return f"{int(off.sum())} of {off.size} differ ({_first(got, right, off)})"


def _first(got: NDArray[np.float32], right: Right, off: NDArray[np.bool_]) -> str:
    where = tuple(int(i) for i in np.argwhere(off)[0])
    return f"{got[where]:g} at {list(where)}, right is {right.value[where]:g}"
