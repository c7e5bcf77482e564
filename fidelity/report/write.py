"""The three forms of one report, in a run's folder: report.json, junit.xml, index.html."""

from __future__ import annotations

from pathlib import Path

from fidelity.record import write_text
from fidelity.report.document import GateReport
from fidelity.report.html import html
from fidelity.report.junit import junit

REPORT_FILE = "report.json"
JUNIT_FILE = "junit.xml"
PAGE_FILE = "index.html"


def write_report(folder: Path, report: GateReport) -> None:
    """Write all three forms into `folder`; the same report gives the same bytes.

    report.json comes first: it is the evidence, and the other two can be made from it again. Raises
    EnvironmentMissing when the disk is full or the folder cannot be written.
    """
    report.write(folder / REPORT_FILE)
    write_text(folder / JUNIT_FILE, junit(report))
    write_text(folder / PAGE_FILE, html(report))
