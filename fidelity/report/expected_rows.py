"""Truth, expected and actual side by side: the rows and plots of the section on the device's arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fidelity.comparison.expectation import ExpectedOutput
from fidelity.comparison.metrics import ERROR_RATIO
from fidelity.comparison.policy import Limit
from fidelity.report.document import DeviceRun, GateReport, PredictionReport
from fidelity.report.headroom_plot import HeadroomPlot
from fidelity.report.plots import ErrorPlot, Series
from fidelity.report.readings import RELATIVE_L2, limits_of
from fidelity.report.scatter_plot import Point, ScatterPlot

SHOWN_SITES = 20


@dataclass(frozen=True)
class ExpectedRow:
    """One input of one run; `failed` when it alone is beyond the limit on the ratio."""

    row: ExpectedOutput
    limit: Limit | None

    @property
    def failed(self) -> bool:
        """Beyond the limit, or without a ratio where there is one."""
        if self.limit is None:
            return False
        return self.row.ratio is None or not self.limit.excess(self.row.ratio) <= 0

    @property
    def why(self) -> str:
        """Why there is no ratio."""
        return f"{self.row.undefined.cause}: {self.row.undefined.why}" if self.row.undefined else "not measured"


def expected_rows(run: DeviceRun, report: GateReport) -> tuple[ExpectedRow, ...]:
    """Every input of a run that something was expected of, the highest ratio first."""
    if run.expected is None:
        return ()
    limit = limits_of(run, report.policy).get(ERROR_RATIO.name)
    rows = sorted(run.expected.outputs, key=lambda row: math.inf if row.ratio is None else row.ratio, reverse=True)
    return tuple(ExpectedRow(row, limit) for row in rows)


def ratio_failures(run: DeviceRun, report: GateReport, name: str) -> tuple[str, ...]:
    """Why the error of a run at one input is not the expected one, in a line for each output."""
    rows = [row for row in expected_rows(run, report) if row.row.input == name and row.failed]
    return tuple(
        f"{ERROR_RATIO.name} of {row.row.output!r} "
        + (f"is undefined ({row.why})" if row.row.ratio is None else f"is {row.row.ratio:.9g}")
        + f", limit {row.limit}"
        for row in rows
    )


def runs_under(prediction: PredictionReport, report: GateReport) -> tuple[DeviceRun, ...]:
    """The runs that were judged by a prediction: of its artefact, under its profile."""
    made = prediction.prediction
    return tuple(
        run
        for run in report.runs
        if run.expected is not None
        and run.weights_dtype == made.weights_dtype
        and run.expected.profile == made.expected.profile
    )


def three_way_plot(index: int, prediction: PredictionReport, report: GateReport) -> ErrorPlot:
    """Relative L2 error from the truth: expected, and of each run."""
    comparison = prediction.prediction.comparison
    expected = {} if comparison is None else {r.input: r.metrics.get(RELATIVE_L2, math.nan) for r in comparison.outputs}
    runs = runs_under(prediction, report)
    limits = [limits_of(run, report.policy).get(RELATIVE_L2) for run in runs]
    series = [
        Series(
            run.label,
            {r.input: math.nan if r.error_actual is None else r.error_actual for r in run.expected.outputs},
            None if limit is None else limit.at_most,
        )
        for run, limit in zip(runs, limits, strict=True)
        if run.expected is not None
    ]
    return ErrorPlot(
        name=f"expected-{index}",
        title=f"Relative L2 error from the truth, expected under {prediction.prediction.expected.profile.name} and had",
        axis="relative L2 error",
        inputs=tuple(prediction.prediction.expected.inputs),
        series=(Series("expected", expected, None), *series),
    )


def sites_plot(index: int, prediction: PredictionReport) -> HeadroomPlot:
    """The headroom of every site of a prediction."""
    expected = prediction.prediction.expected
    title = f"Headroom of {len(expected.sites)} sites of {expected.model} under {expected.profile.name}"
    return HeadroomPlot(name=f"headroom-{index}", title=title, sites=expected.sites)


def input_scatter(index: int, prediction: PredictionReport, report: GateReport) -> ScatterPlot:
    """Every input of the runs under a prediction by both its errors; the limit is that of their ratio."""
    runs = runs_under(prediction, report)
    limits = [limits_of(run, report.policy).get(ERROR_RATIO.name) for run in runs]
    return ScatterPlot(
        name=f"scatter-{index}",
        title=f"Expected and actual error of every input under {prediction.prediction.expected.profile.name}",
        series={
            run.label: tuple(
                Point(line.row.input, line.row.error_expected, line.row.error_actual, line.failed)
                for line in expected_rows(run, report)
            )
            for run in runs
        },
        limit=next((limit.at_most for limit in limits if limit is not None), None),
    )
