"""index.html: the evidence as one page that needs nothing else, told from the verdict down.

Everything on the page comes from the record. Numbers stand in <data> elements with the stored value;
a float that reaches the template by another way is an error, as is an undefined name. Whatever is
text is escaped, and the page forbids itself scripts and network by its own content policy.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from fidelity.compare.metrics import METRICS
from fidelity.devices.standing import stands_for
from fidelity.report import figures
from fidelity.report.audit_rows import audit_rows
from fidelity.report.document import DeviceRun, GateReport, Reason
from fidelity.report.error_plots import error_plots
from fidelity.report.expected_rows import SHOWN_SITES, expected_rows, runs_under, sites_plot, three_way_plot
from fidelity.report.headroom_plot import headroom_plot
from fidelity.report.plots import error_plot
from fidelity.report.printable import printable
from fidelity.report.proof_rows import proof_rows, refused_groups, taken_paths
from fidelity.report.readings import input_rows, limits_of, worst_reading
from fidelity.report.stages import stages

SHOWN_FINDINGS = 40
SHOWN_PLACES = 3
SHOWN_PATHS = 6


@dataclass(frozen=True)
class ReasonGroup:
    """Reasons of one stage, severity and code: each message once, with how often it was given."""

    stage: str
    severity: str
    code: str
    messages: tuple[tuple[str, int], ...]


def html(report: GateReport) -> str:
    """The report as one HTML document; the same report gives the same text."""
    template = _environment().get_template("index.html")
    return template.render(
        report=report,
        reasons=reason_groups(report.reasons),
        stages=stages(report),
        rows=input_rows(report),
        plots=tuple(error_plot(plot) for plot in error_plots(report)),
        expected_plots=tuple(
            (error_plot(three_way_plot(index, each, report)), headroom_plot(sites_plot(index, each)))
            for index, each in enumerate(report.predictions)
        ),
        proof_rows=proof_rows(report.proof),
        refused=refused_groups(report.proof),
    )


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


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fidelity.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        chosen=figures.chosen,
        figure=figures.figure,
        metric_figure=figures.metric_figure,
        whole=figures.whole,
        megabytes=figures.megabytes,
        limit_text=figures.limit_text,
        meanings=_meanings(),
        audit_rows=audit_rows,
        determinism=determinism,
        expected_rows=expected_rows,
        limits_of=limits_of,
        runs_under=runs_under,
        stands_for=stands_for,
        taken_paths=taken_paths,
        worst_reading=worst_reading,
        shown_findings=SHOWN_FINDINGS,
        shown_places=SHOWN_PLACES,
        shown_paths=SHOWN_PATHS,
        shown_sites=SHOWN_SITES,
        stylesheet=_stylesheet(environment),
    )
    return environment


def _stylesheet(environment: jinja2.Environment) -> Markup:
    source, _, _ = environment.loader.get_source(environment, "report.css")  # type: ignore[union-attr]
    return Markup(source)  # noqa: S704 - our own file, and a stylesheet cannot be escaped


def _shown(value: Any) -> Any:
    """What a template's expression shows. Raises TypeError for what would show misleadingly."""
    if isinstance(value, float) or value is None:
        raise TypeError(f"a template shows {value!r}: a float goes through figure(), None has words")
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def _meanings() -> dict[str, str]:
    return {name: metric.meaning for name, metric in METRICS.items()}
