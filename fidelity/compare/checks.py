"""Each limit against the worst figure of all inputs: never the mean, and an undefined one is the worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fidelity.compare.comparison import Comparison, OutputComparison, SetComparison
from fidelity.compare.judgement import Check
from fidelity.compare.metrics import OUTPUT_METRICS
from fidelity.compare.metrics.outcome import Undefined
from fidelity.compare.policy import Limit


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
