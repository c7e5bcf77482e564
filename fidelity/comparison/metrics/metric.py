"""What the registry says of a metric: enough for a policy to check its limits and a report to label it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fidelity.comparison.metrics.outcome import Outcome, RealArray

OutputFunction = Callable[[RealArray, RealArray], Outcome]
ThreeWayFunction = Callable[[RealArray, RealArray, RealArray], Outcome]
SetFunction = Callable[[Mapping[str, RealArray], Mapping[str, RealArray]], Outcome]

Better = Literal["higher", "lower", "nearer"]
"""Which way is good; `nearer` means near to `ideal` from either side."""

Unit = Literal["", "output", "reference rms", "share", "count"]
"""`""`: a plain number; `output`: the unit of the output itself; `reference rms`: multiples of it."""


@dataclass(frozen=True)
class Scale:
    """How a metric's figures read: direction, the figure to aim at, unit, least and greatest possible."""

    better: Better
    ideal: float
    unit: Unit
    least: float
    greatest: float


@dataclass(frozen=True)
class OutputMetric:
    """A metric of one output of one input: `function(actual, reference)`."""

    name: str
    function: OutputFunction
    scale: Scale

    @property
    def meaning(self) -> str:
        """One line for a person: the first of the function's docstring."""
        return _first_line(self.function)


@dataclass(frozen=True)
class ThreeWayMetric:
    """A metric of one output of one input: `function(actual, expected, truth)`."""

    name: str
    function: ThreeWayFunction
    scale: Scale

    @property
    def meaning(self) -> str:
        """One line for a person: the first of the function's docstring."""
        return _first_line(self.function)


@dataclass(frozen=True)
class SetMetric:
    """A metric of one output over the set of inputs: `function(actual, reference)` by input name."""

    name: str
    function: SetFunction
    scale: Scale
    over: Literal["inputs", "photographs"] = "inputs"

    @property
    def meaning(self) -> str:
        """One line for a person: the first of the function's docstring."""
        return _first_line(self.function)


def _first_line(function: Callable[..., Outcome]) -> str:
    return (function.__doc__ or "").strip().split("\n", maxsplit=1)[0]
