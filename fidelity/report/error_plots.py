"""What the plots show: the errors of every run at every input, from the record."""

from __future__ import annotations

import math

from fidelity.report.document import DeviceRun, GateReport
from fidelity.report.plots import ErrorPlot, Series
from fidelity.report.readings import CORRELATION, RELATIVE_L2, input_rows, limits_of, readings


def error_plots(report: GateReport) -> tuple[ErrorPlot, ...]:
    """The correlation error (1 - r) and the relative L2 error."""
    inputs = tuple(dict.fromkeys(row.input for row in input_rows(report)))
    agreement = ErrorPlot(
        name="correlation-error",
        title="1 - correlation with the reference, for every input and run",
        axis="1 - correlation",
        inputs=inputs,
        series=tuple(_series(run, report, CORRELATION) for run in report.runs),
    )
    distance = ErrorPlot(
        name="relative-l2",
        title="Relative L2 error, for every input and run",
        axis="relative L2 error",
        inputs=inputs,
        series=tuple(_series(run, report, RELATIVE_L2) for run in report.runs),
    )
    return agreement, distance


def _series(run: DeviceRun, report: GateReport, metric: str) -> Series:
    """A run's error at each input: the worst of its outputs, NaN when one of them has no figure."""
    errors: dict[str, float] = {}
    for reading in readings(run, report.policy, metric):
        error = math.nan if reading.figure is None else _error(metric, reading.figure)
        before = errors.get(reading.input, 0.0)
        errors[reading.input] = math.nan if math.isnan(error) or math.isnan(before) else max(error, before)
    limit = limits_of(run, report.policy).get(metric)
    bound = None if limit is None else limit.at_least if metric == CORRELATION else limit.at_most
    return Series(run.label, errors, None if bound is None else _error(metric, bound))


def _error(metric: str, figure: float) -> float:
    return 1.0 - figure if metric == CORRELATION else figure
