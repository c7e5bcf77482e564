"""A survey in words: lines for a terminal, and the Markdown table of the documentation. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from fidelity.devices.discovery import on_cpu
from fidelity.report.figures import figure_text
from fidelity.report.printable import printable
from fidelity.survey.row import Cause, OnDevice, RewriteCount, Row, Survey

_LONGEST = 420  # characters of one cause in a table; --json has all of it
NAMES = {
    "pass": "pass",
    "not_proved": "NOT PROVED",
    "wrong": "WRONG",
    "refused": "REFUSED",
    "failed": "FAILED",
    "overflow": "OVERFLOW",
    "not_converted": "NOT CONVERTED",
    "stopped": "STOPPED",
}


def survey_lines(survey: Survey, *, verbose: bool) -> list[str]:
    """Each model with its figures, what keeps it from passing and what to do; then the count."""
    lines = [f"{spec}: {name}" for spec, name in survey.devices.items()]
    lines += [f"{spec}: NOT TESTED: {reason}" for spec, reason in survey.not_tested.items()]
    for row in survey.rows:
        lines += row_lines(row, verbose=verbose)
    return [printable(" ".join(line.splitlines())) for line in (*lines, closing(survey))]


def row_lines(row: Row, *, verbose: bool) -> Iterator[str]:
    """One model: the verdict, its figures by device, its causes with their cures; with `verbose` its rewrites."""
    yield f"{row.entry.name:18} {NAMES[row.verdict]:13} {row.entry.family}, {_parameters(row)}{_rewrites_in_short(row)}"
    for device in row.devices:
        yield f"  {device.device}: {figures_of(device)}"
    if verbose:
        yield f"  source: {row.entry.source}"
        yield from (f"  {line}" for count in row.rewrites for line in _rewrite_lines(count))
        yield from (f"  audit: {count} x {rule}" for rule, count in row.audit.items())
        yield from (f"  headroom under {f.profile}: {_bits(f.least_headroom)} at {f.at}" for f in row.foretold)
    for cause in row.causes:
        yield f"  {cause_text(cause)}"
        yield f"    do: {cause.cure}"
    yield from (f"  note: {printable(note, _LONGEST)}" for note in row.notes if verbose)
    if not row.as_expected:
        yield "  it is expected to pass"


def closing(survey: Survey) -> str:
    """The count of verdicts, and what keeps the survey from being done."""
    rows = survey.rows
    passed = sum(row.verdict == "pass" for row in rows)
    unexplained = [row.entry.name for row in rows if not row.explained]
    unexpected = [row.entry.name for row in rows if not row.as_expected]
    told = [f"{passed} of {len(rows)} models pass"]
    told += [f"not explained: {', '.join(unexplained)}"] if unexplained else []
    told += [f"expected to pass: {', '.join(unexpected)}"] if unexpected else []
    return f"{'DONE' if survey.passed else 'NOT AS EXPECTED'}: {'; '.join(told)}"


def markdown(survey: Survey) -> list[str]:
    """The survey as a Markdown table, and below it every cause with what to do."""
    lines = [
        "| model | family | rewrites taken | refused by a rewrite | nodes on GPU | CPU: worst correlation "
        "| GPU: worst correlation, error over expected | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *(_markdown_row(row) for row in survey.rows),
        "",
    ]
    for row in survey.rows:
        if row.causes:
            lines.append(f"- **{row.entry.name}**, {NAMES[row.verdict]}:")
            lines += [f"  - {_cell(cause_text(cause))} *Do:* {_cell(cause.cure)}." for cause in row.causes]
    return [*lines, "", closing(survey)]


def _markdown_row(row: Row) -> str:
    cpu = [device for device in row.devices if on_cpu(device.device)]
    gpu = [device for device in row.devices if not on_cpu(device.device)]
    taken = ", ".join(f"{count.rewrite} {count.taken}" for count in row.rewrites if count.taken)
    cells = [
        row.entry.name,
        row.entry.family,
        taken or "none",
        "; ".join(f"{c.rewrite}: {n} x {why}" for c in row.rewrites for why, n in c.refused.items()) or "",
        ", ".join(_nodes(device) for device in gpu),
        ", ".join(_correlation(device) for device in cpu),
        ", ".join(f"{_correlation(device)}{_ratio(device)}" for device in gpu),
        NAMES[row.verdict] + (f" at {row.stopped.stage}" if row.stopped else ""),
    ]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def figures_of(device: OnDevice) -> str:
    """One run in a line: residency, precision, worst correlation and where, error over the expected one."""
    if device.status != "ok":
        return f"{device.status}, {_nodes(device)}"
    at = f" ({printable(device.worst_input)})" if device.worst_input else ""
    verdict = "pass" if device.passed else "FAIL"
    return (
        f"{verdict} {_nodes(device)} nodes, {device.precision_had}, "
        f"worst correlation {_correlation(device)}{at}{_ratio(device)}"
    )


def cause_text(cause: Cause) -> str:
    """One cause in a line, with its device."""
    unknown = "" if cause.known else "NOT EXPLAINED: "
    return f"{f'{cause.device}: ' if cause.device else ''}{unknown}{printable(cause.message, _LONGEST)}"


def _rewrite_lines(count: RewriteCount) -> Iterator[str]:
    modules = f" ({', '.join(count.modules)})" if count.modules else ""
    nothing = "" if count.taken or count.refused else ", nothing concerns it"
    yield f"{count.rewrite}: {count.taken} taken{modules}{nothing}"
    yield from (f"  refused {number} x {why}" for why, number in count.refused.items())


def _rewrites_in_short(row: Row) -> str:
    taken = [f"{count.rewrite} {count.taken}" for count in row.rewrites if count.taken]
    return f", {', '.join(taken)}" if taken else ""


def _parameters(row: Row) -> str:
    return "not built" if row.parameters is None else f"{row.parameters:,} parameters"


def _nodes(device: OnDevice) -> str:
    return "not known" if device.nodes_total is None else f"{device.nodes_on_device}/{device.nodes_total}"


def _correlation(device: OnDevice) -> str:
    if device.worst_correlation is None:
        return "none"
    return figure_text(device.worst_correlation, ideal=1.0)


def _ratio(device: OnDevice) -> str:
    return "" if device.error_ratio is None else f", {figure_text(device.error_ratio, ideal=1.0)} x expected error"


def _bits(headroom: float | None) -> str:
    return "not known" if headroom is None else f"{headroom:.2f} bits"


def _cell(text: str) -> str:
    """Text that cannot end a table's cell or begin markup."""
    safe = printable(" ".join(text.split()))
    for char in "\\|<>*_`[]":
        safe = safe.replace(char, f"\\{char}")
    return safe
