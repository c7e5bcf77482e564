"""index.html: the evidence as one page that needs nothing else, told from the verdict down.

Everything on the page comes from the record: verdict, where it begins, reasons, then each stage's own
evidence. How a page shows numbers and text is `page`'s.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from fidelity.comparison.metrics import METRICS
from fidelity.devices.standing import stands_for
from fidelity.report import located_rows
from fidelity.report.audit_rows import audit_rows
from fidelity.report.block_plot import BlockPlot, block_plot
from fidelity.report.document import DeviceRun, GateReport, LocatedRun, Reason
from fidelity.report.error_plots import error_plots
from fidelity.report.expected_rows import (
    SHOWN_SITES,
    expected_rows,
    input_scatter,
    runs_under,
    sites_plot,
    three_way_plot,
)
from fidelity.report.headroom_plot import headroom_plot
from fidelity.report.operator_plots import OperatorPlot, growth_plot, margin_plot
from fidelity.report.page import render
from fidelity.report.plots import error_plot
from fidelity.report.proof_rows import proof_rows, refused_groups, taken_paths
from fidelity.report.readings import input_rows, limits_of, worst_reading
from fidelity.report.residency_map import STATES, residency_maps
from fidelity.report.scatter_plot import scatter_plot
from fidelity.report.stages import stages

SHOWN_FINDINGS = 40
SHOWN_PLACES = 3
SHOWN_PATHS = 6
SHOWN_FLIPS = 20


@dataclass(frozen=True)
class ReasonGroup:
    """Reasons of one stage, severity and code: each message once, with how often it was given."""

    stage: str
    severity: str
    code: str
    messages: tuple[tuple[str, int], ...]


def html(report: GateReport) -> str:
    """The report as one HTML document; the same report gives the same text."""
    return render(
        "index.html",
        words(),
        report=report,
        reasons=reason_groups(report.reasons),
        stages=stages(report),
        maps=residency_maps(report),
        located_plots=tuple(trace_plots(index, run) for index, run in enumerate(report.located)),
        rows=input_rows(report),
        plots=tuple(error_plot(plot) for plot in error_plots(report)),
        expected_plots=tuple(
            (
                error_plot(three_way_plot(index, each, report)),
                headroom_plot(sites_plot(index, each)),
                *(scatter_plot(plot) for plot in (input_scatter(index, each, report),) if plot.series),
            )
            for index, each in enumerate(report.predictions)
        ),
        proof_rows=proof_rows(report.proof),
        refused=refused_groups(report.proof),
    )


def trace_plots(index: int, run: LocatedRun) -> tuple[Markup, ...]:
    """Correlation by block, then error and headroom by operator; none without a trace."""
    found = run.located
    if found.trace is None:
        return ()
    about = f"{run.label}, {found.input}"
    operators = OperatorPlot(
        name=f"growth-{index}",
        title=f"Relative L2 error of every operator's result, {about}",
        rows=found.trace.operators,
        begins=located_rows.beginning(found),
        overflow=found.overflow,
    )
    margins = OperatorPlot(
        f"margin-{index}", f"Headroom of every operator, {about}", operators.rows, operators.begins, found.overflow
    )
    blocks = BlockPlot(f"blocks-{index}", f"Correlation by block, {about}", located_rows.block_rows(found.trace))
    return block_plot(blocks), growth_plot(operators), margin_plot(margins)


def reason_groups(reasons: tuple[Reason, ...]) -> dict[str, tuple[ReasonGroup, ...]]:
    """Reasons by severity, then together where stage and code are the same, in order of appearance."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for reason in reasons:
        groups.setdefault((reason.stage, reason.severity, reason.code), []).append(reason.message)
    made = [ReasonGroup(*key, tuple(Counter(messages).items())) for key, messages in groups.items()]
    return {
        severity: tuple(group for group in made if group.severity == severity)
        for severity in ("fail", "suspicious", "note")
    }


def determinism(run: DeviceRun) -> str:
    """Whether repeats of an input gave the same bits, in words."""
    states = {output.input: output.deterministic for output in run.result.outputs}
    differing = [name for name, same in states.items() if same is False]
    repeated = [name for name, same in states.items() if same is not None]
    if differing:
        return f"no: {', '.join(differing)} differ"
    return f"yes, {len(repeated)} of {len(states)} inputs ran twice" if repeated else "not known: none ran twice"


def words() -> dict[str, object]:
    """The functions and constants that the report's templates use."""
    return {
        "meanings": {name: metric.meaning for name, metric in METRICS.items()},
        "audit_rows": audit_rows,
        "determinism": determinism,
        "expected_rows": expected_rows,
        "limits_of": limits_of,
        "located": located_rows,
        "runs_under": runs_under,
        "stands_for": stands_for,
        "states": STATES,
        "taken_paths": taken_paths,
        "worst_reading": worst_reading,
        "shown_findings": SHOWN_FINDINGS,
        "shown_places": SHOWN_PLACES,
        "shown_flips": SHOWN_FLIPS,
        "shown_paths": SHOWN_PATHS,
        "shown_sites": SHOWN_SITES,
    }
