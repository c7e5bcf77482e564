"""Each limit against the worst figure of all inputs: never the mean, and an undefined one is the worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fidelity.comparison.comparison import Comparison, OutputComparison, SetComparison
from fidelity.comparison.expectation import Expectation
from fidelity.comparison.judgement import Check
from fidelity.comparison.metrics import ERROR_RATIO, OUTPUT_METRICS
from fidelity.comparison.metrics.outcome import Undefined
from fidelity.comparison.policy import Limit


@dataclass(frozen=True)
class _Reading:
    """What one record says of one metric: a figure, or why there is none."""

    figure: float | None
    undefined: Undefined | None
    inputs: tuple[str, ...]
    index: tuple[int, ...]

    def excess(self, limit: Limit) -> float:
        """How far outside the limit; without a figure infinitely far."""
        return float("inf") if self.figure is None else limit.excess(self.figure)


def check_limits(comparison: Comparison, limits: Mapping[str, Limit]) -> tuple[Check, ...]:
    """One Check for each output and each limit, in the limits' order.

    An output or set without any record of the metric gets a failed Check: a limit that nothing was
    measured for is not met.
    """
    names = sorted({r.output for r in comparison.outputs} | {r.output for r in comparison.sets})
    return tuple(
        _check(metric, name, limit, _readings(comparison, metric, name))
        for name in names
        for metric, limit in limits.items()
    )


def check_ratio(comparison: Comparison, expectation: Expectation, limit: Limit) -> tuple[Check, ...]:
    """The limit on the error ratio, one Check for each output, over every input that was asked for.

    None at all where the emulator lacks an operation. An input without a ratio fails the Check.
    """
    if expectation.lacking is not None:
        return ()
    names = sorted({r.output for r in comparison.outputs} | {r.output for r in comparison.sets})
    return tuple(_check(ERROR_RATIO.name, name, limit, _ratios(comparison, expectation, name)) for name in names)


def _ratios(comparison: Comparison, expectation: Expectation, output: str) -> list[_Reading]:
    found = {record.input: record for record in expectation.outputs if record.output == output}
    nothing = Undefined(cause="empty", why="nothing was measured")
    absent = [name for name in comparison.asked if name not in found]
    return [
        *(_Reading(record.ratio, record.undefined, inputs=(name,), index=()) for name, record in found.items()),
        *(_Reading(None, nothing, inputs=(name,), index=()) for name in absent),
    ]


def _readings(comparison: Comparison, metric: str, output: str) -> list[_Reading]:
    if metric in OUTPUT_METRICS:
        return [_of_output(record, metric) for record in comparison.outputs if record.output == output]
    return [_of_set(record, metric) for record in comparison.sets if record.output == output]


def _of_output(record: OutputComparison, metric: str) -> _Reading:
    figure, undefined = record.metrics.get(metric), record.undefined.get(metric)
    return _Reading(figure, undefined, inputs=(record.input,), index=record.index.get(metric, ()))


def _of_set(record: SetComparison, metric: str) -> _Reading:
    figure, undefined = record.metrics.get(metric), record.undefined.get(metric)
    return _Reading(figure, undefined, inputs=record.at.get(metric, ()), index=record.index.get(metric, ()))


def _check(metric: str, output: str, limit: Limit, readings: list[_Reading]) -> Check:
    if not readings:
        nothing = Undefined(cause="empty", why="nothing was measured")
        return Check(metric=metric, output=output, limit=limit, passed=False, undefined=nothing)
    worst = max(readings, key=lambda reading: reading.excess(limit))
    return Check(
        metric=metric,
        output=output,
        limit=limit,
        # `<= 0` and not `not > 0`: whatever cannot be compared has not passed
        passed=worst.excess(limit) <= 0,
        worst=worst.figure,
        undefined=worst.undefined,
        inputs=worst.inputs,
        index=worst.index,
    )
