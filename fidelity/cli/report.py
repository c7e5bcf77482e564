"""`fidelity report`: the page of one stored run again, or two stored runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.errors import EXIT_PASS, BadInput
from fidelity.record import write_text

if TYPE_CHECKING:
    from fidelity.report.document import GateReport
    from fidelity.report.side_by_side import RunComparison, RunSide

REPORTS = Path("reports")


def report(
    runs: Annotated[list[Path], typer.Argument(help="One run folder, or two: A and B.", metavar="RUN")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The page; else RUN/index.html, or reports/compare-A-B.html of two."),
    ] = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """What is in a stored run, and what differs between two? It shows, and judges nothing: exit 0."""
    from fidelity.gating.run_folder import stored_run  # noqa: PLC0415
    from fidelity.report.document import GateReport  # noqa: PLC0415 - matplotlib is slow to load
    from fidelity.report.write import PAGE_FILE, REPORT_FILE  # noqa: PLC0415

    session = o.Session(json, verbose, None)
    if len(runs) not in (1, 2):
        raise BadInput(f"{len(runs)} runs: fidelity report takes one run folder, or two")
    folders = [stored_run(run) for run in runs]
    reports = [GateReport.read(folder / REPORT_FILE) for folder in folders]
    if len(folders) == 1:
        page = output or runs[0] / PAGE_FILE
        _one(session, reports[0], page)
        return EXIT_PASS
    names = (folders[0].name, folders[1].name)
    page = output or REPORTS / f"compare-{names[0]}-{names[1]}.html"
    _two(session, reports[0], reports[1], names, page)
    return EXIT_PASS


def _one(session: o.Session, found: GateReport, page: Path) -> None:
    from fidelity.report.html import html  # noqa: PLC0415

    write_text(page, html(found))
    session.show(found, [f"{'PASS' if found.passed else 'FAIL'}: {found.headline}", f"report: {page}"])


def _two(session: o.Session, a: GateReport, b: GateReport, names: tuple[str, str], page: Path) -> None:
    from fidelity.report.comparison_page import comparison_html  # noqa: PLC0415
    from fidelity.report.side_by_side import side_by_side  # noqa: PLC0415

    found = side_by_side(a, b, names)
    write_text(page, comparison_html(found))
    session.show(found, [*comparison_lines(found), f"report: {page}"])


def comparison_lines(found: RunComparison) -> list[str]:
    """Both verdicts, what differs, every run's worst correlation, the reasons that only one has."""
    lines = [
        f"{letter} {'PASS' if side.passed else 'FAIL'}: {side.headline}"
        for letter, side in (("A", found.a), ("B", found.b))
    ]
    lines += [f"differs: {each.what}" for each in found.differences]
    lines += [
        f"{pair.weights_dtype} artefact: {'the same file' if pair.equal else 'not the same file'}"
        for pair in found.artefacts
    ]
    for run in found.runs:
        told = f"A {_run_words(run.a, run.correlation.a)}, B {_run_words(run.b, run.correlation.b)}"
        lines.append(f"{run.label:12} worst correlation {told}")
    for letter, reasons in (("A", found.only_a), ("B", found.only_b)):
        lines += [
            f"only {letter}: {reason.severity}: {reason.message}" for reason in reasons if reason.severity != "note"
        ]
    return lines


def _run_words(side: RunSide | None, figure: float | None) -> str:
    from fidelity.report.figures import figure_text  # noqa: PLC0415

    if side is None:
        return "not run"
    shown = "none" if figure is None else figure_text(figure, ideal=1.0)
    return f"{shown} ({'pass' if side.passed else 'FAIL'})"
