"""How long a run takes, from the seconds of many: when it is steady, how it spreads, whether it drifts.

The first runs of a device are not the later ones: shaders compile, clocks rise. And a phone that gets
hot is slower at the end than at the beginning. Pure arithmetic on a list of seconds, so that a stored
bench can be judged again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from fidelity.errors import BadInput
from fidelity.record import Figure, Record

WINDOW = 5
"""Runs in a window: the least whose median stands two outliers."""

STEADY_WITHIN = 0.05
"""Two windows side by side are alike when their medians differ by less than this share."""

DRIFT = 0.05
DRIFT_CHANCE = 0.01
"""A drift counts when it is larger than this share of the median and less likely than this by chance."""

FEWEST = 2 * WINDOW


class Latency(Record):
    """Seconds. `steady_from` is the number of runs before it was steady, None when it never was.

    Then the figures are of the later half of the runs, and `steady` is false. `best` is over all runs.
    `spread` is the interquartile range over the median. `drift` is the rise from the first to the last
    of the steady runs over their median (Theil-Sen), `drifts` whether it counts.
    """

    runs: int
    steady_from: int | None
    best: Figure
    median: Figure
    p95: Figure
    spread: Figure
    drift: Figure
    drifts: bool

    @property
    def steady(self) -> bool:
        """Whether the runs ever became alike."""
        return self.steady_from is not None


def latency(seconds: Sequence[float]) -> Latency:
    """The figures of runs in the order in which they were made.

    Raises BadInput for fewer runs than two windows, or a time that is not a positive number.
    """
    times = np.asarray(seconds, dtype=np.float64)
    if len(times) < FEWEST:
        raise BadInput(f"{len(times)} timed runs: at least {FEWEST} are needed to tell when they are steady")
    if not (np.isfinite(times) & (times > 0)).all():
        raise BadInput("a run's time is not a positive number of seconds")
    start = steady_from(times)
    kept = times[len(times) // 2 if start is None else start :]
    median = float(np.median(kept))
    lower, upper, p95 = (float(value) for value in np.percentile(kept, [25, 75, 95]))
    drift, chance = _drift(kept)
    return Latency(
        runs=len(times),
        steady_from=start,
        best=float(times.min()),
        median=median,
        p95=p95,
        spread=(upper - lower) / median,
        drift=drift,
        drifts=abs(drift) > DRIFT and chance < DRIFT_CHANCE,
    )


def steady_from(times: np.ndarray) -> int | None:
    """The first run from which a window and the next one have the same median within STEADY_WITHIN.

    None when no two windows side by side are alike.
    """
    for start in range(len(times) - FEWEST + 1):
        first = np.median(times[start : start + WINDOW])
        second = np.median(times[start + WINDOW : start + FEWEST])
        # a window whose own first run is an outlier is not the beginning yet
        if abs(second - first) < STEADY_WITHIN * first and times[start] < (1 + STEADY_WITHIN) * max(first, second):
            return start
    return None


def _drift(times: np.ndarray) -> tuple[float, float]:
    """The rise from first to last run over the median, and how likely such an order is by chance."""
    order = np.arange(len(times))
    slope = float(stats.theilslopes(times, order).slope)
    if np.ptp(times) == 0:
        return 0.0, 1.0
    return slope * (len(times) - 1) / float(np.median(times)), float(stats.kendalltau(order, times).pvalue)
