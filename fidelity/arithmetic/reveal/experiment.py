"""The one door between the algorithms and a device: experiments in, numbers out.

What an algorithm asks for is an Inquiry, a generator that yields experiments and is sent results:
so inquiries that know nothing of each other are asked `together`, in one job of a real device,
whose start costs more than all the sums in it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """One operation on given numbers, its graph's only one, except for what sums take in.

    `kind` is the schema's name; `runtime` are graph inputs and `constant` weights, in the order of
    the operation's inputs. A sum goes over `axis` and keeps the dimension. `before`: its two
    runtime operands are combined by this kind first, and read by the sum alone. `after`: the sum is
    read by this kind alone, whose other operand is the last runtime one. RESHAPE only moves.
    """

    kind: str
    runtime: tuple[Single, ...]
    constant: tuple[Single, ...] = ()
    axis: int | None = None
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a device gave no numbers for an experiment, in one line."""

    reason: str


Result = Single | Refusal
Inquiry = Generator[list[Experiment], list[Result], T]


class Laboratory(Protocol):
    """A device on which experiments can be made."""

    def run(self, experiments: Sequence[Experiment]) -> list[Result]:
        """One result for each experiment, in order: its output, or why there is none. Never raises for a device."""
        ...


class NotTold(Exception):
    """What an experiment should have told it did not; says why, in one line."""


def ask(experiments: Iterable[Experiment]) -> Inquiry[list[Single]]:
    """Numbers for every experiment. Raises NotTold where one is refused, or answered with another shape or type."""
    asked = list(experiments)
    results = yield asked
    if len(results) != len(asked):
        raise NotTold(f"{len(asked)} experiments, {len(results)} answers")
    numbers = []
    for experiment, result in zip(asked, results, strict=True):
        if isinstance(result, Refusal):
            raise NotTold(f"{experiment.kind}: {result.reason}")
        if result.dtype != np.float32:
            raise NotTold(f"{experiment.kind}: the answer is {result.dtype}, not float32")
        if result.shape != output_shape(experiment):
            raise NotTold(
                f"{experiment.kind}: the answer is {list(result.shape)}, not {list(output_shape(experiment))}"
            )
        numbers.append(result)
    return numbers


def output_shape(experiment: Experiment) -> tuple[int, ...]:
    """The shape that the emulator gives the experiment's result."""
    x = experiment.runtime[0].shape
    if experiment.kind == "FULLY_CONNECTED":
        return (*x[:-1], experiment.constant[0].shape[0])
    if experiment.kind == "BATCH_MATMUL":
        return (*x[:-1], experiment.runtime[1].shape[-1])
    if experiment.kind == "CONV_2D":
        channels, height, width, _ = experiment.constant[0].shape
        return (x[0], x[1] // height, x[2] // width, channels)
    if experiment.axis is not None:
        return tuple(1 if axis == experiment.axis else size for axis, size in enumerate(x))
    return x


def together(inquiries: Mapping[str, Inquiry[T]]) -> Inquiry[dict[str, T | NotTold]]:
    """The inquiries' results by name, their questions put in common rounds; NotTold is one's own result."""
    found: dict[str, T | NotTold] = {}
    waiting: dict[str, list[Experiment]] = {}
    for name, inquiry in inquiries.items():
        _advance(name, inquiry, None, found, waiting)
    while waiting:
        answers = yield [experiment for questions in waiting.values() for experiment in questions]
        asked, waiting, first = waiting, {}, 0
        for name, questions in asked.items():
            _advance(name, inquiries[name], answers[first : first + len(questions)], found, waiting)
            first += len(questions)
    return {name: found[name] for name in inquiries}


def _advance(
    name: str,
    inquiry: Inquiry[T],
    answers: list[Result] | None,
    found: dict[str, T | NotTold],
    waiting: dict[str, list[Experiment]],
) -> None:
    try:
        waiting[name] = next(inquiry) if answers is None else inquiry.send(answers)
    except StopIteration as end:
        found[name] = end.value
    except NotTold as reason:
        found[name] = reason


def conduct(inquiry: Inquiry[T], laboratory: Laboratory) -> T:
    """The inquiry's result, its questions answered by `laboratory`."""
    answers: list[Result] | None = None
    while True:
        try:
            questions = next(inquiry) if answers is None else inquiry.send(answers)
        except StopIteration as end:
            result: T = end.value
            return result
        answers = laboratory.run(questions) if questions else []


def same(seen: Single, expected: Single) -> bool:
    """Equal numbers everywhere, NaN like NaN; a zero's sign is no difference. False for another shape."""
    return seen.shape == expected.shape and bool(agrees(seen, expected).all())


def agrees(seen: Single, expected: Single) -> NDArray[np.bool_]:
    """Where two arrays of one shape hold the same number."""
    return np.asarray((seen == expected) | (np.isnan(seen) & np.isnan(expected)))
