"""`fidelity selftest`: every planted fault is caught, and by what; every clean model passes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cache import Cache
from fidelity.cli import options as o
from fidelity.cli.gate import PolicyOption
from fidelity.errors import EXIT_ENVIRONMENT, EXIT_FAIL, EXIT_PASS

if TYPE_CHECKING:
    from fidelity.selftest.records import CleanRow, FaultRow, SelftestReport


def selftest(
    source: Annotated[str | None, typer.Option(help="timm:NAME; without it, the two-block model.")] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Only on these; may be repeated. Else the CPU and the GPU.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many clean models, each with other weights.")] = 20,
    seed: o.Seed = 0,
    only: Annotated[str | None, typer.Option(help="Only these faults: wrong_scale,nan_element,...")] = None,
    policy: PolicyOption = "default",
    images: o.Images = o.IMAGES,
    cache: Annotated[Path | None, typer.Option(help="Folder of cached results.")] = None,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Plant every fault in every place that can have it: is each caught, and does every clean model pass?"""
    from fidelity.comparison.policy import load_policy  # noqa: PLC0415
    from fidelity.selftest.selftest import TWO_BLOCK, Asked  # noqa: PLC0415
    from fidelity.selftest.selftest import selftest as test  # noqa: PLC0415 - loads torch

    session = o.Session(json, verbose, output)
    asked = Asked(source or TWO_BLOCK, seeds, seed, tuple(device) if device else None, o.names(only), images)
    report = test(asked, load_policy(policy), Cache(cache), session.reporter)
    session.show(report, selftest_lines(report, verbose))
    return exit_code(report)


def exit_code(report: SelftestReport) -> int:
    """0 when all is caught and nothing clean fails; 3 when all that is wrong is a device that is missing."""
    if report.passed:
        return EXIT_PASS
    nothing_wrong = not report.missed and not report.false_alarms
    return EXIT_ENVIRONMENT if nothing_wrong and report.not_tested else EXIT_FAIL


def selftest_lines(report: SelftestReport, verbose: bool = False) -> list[str]:
    """A line a fault, what was left out, the clean runs by device, the verdict."""
    lines = [_HEAD] if report.faults else []
    for row in report.faults:
        lines.append(fault_line(row))
        if verbose and len(row.seen) > 1:
            lines.append(f"{'':19}all: {', '.join(dict.fromkeys(each.metric or each.check for each in row.seen))}")
    if verbose:
        lines += [
            f"not planted: {u.fault} in the {u.place}{f' on {u.device}' if u.device else ''}: {u.reason}"
            for u in report.unplanted
        ]
    lines += [_clean_line(device, report) for device in dict.fromkeys(row.device for row in report.clean)]
    lines += [
        f"FALSE ALARM: seed {alarm.seed} on {alarm.device}: {alarm.why[0] if alarm.why else 'no reason given'}"
        for alarm in report.false_alarms
    ]
    lines += [f"MISSED: {row.fault} in the {row.place}, {row.site}, on {row.device}" for row in report.missed]
    lines += [f"NOT TESTED: {device}: {reason}" for device, reason in report.not_tested.items()]
    caught, located = [r for r in report.faults if r.caught], [r for r in report.faults if r.located]
    exact = sum(1 for row in located if row.located and row.located.exact)
    suspicious = sum(1 for row in report.missed if row.verdict == "suspicious")
    only = f", {suspicious} were suspicious alone" if suspicious else ""
    return [
        *lines,
        f"{'PASS' if report.passed else 'FAIL'}: {len(caught)} of {len(report.faults)} faults caught{only}; "
        f"{exact} of {len(located)} located exactly; "
        f"{len(report.clean) - len(report.false_alarms)} of {len(report.clean)} clean runs pass",
    ]


_HEAD = f"{'fault':18} {'place':8} {'device':6} {'planted in':24} {'verdict':10} caught by; located"


def fault_line(row: FaultRow) -> str:
    """One fault: where it was, what caught it with the figure and its limit, where it was said to be."""
    first = row.first
    by = "nothing"
    if first is not None:
        named = first.check not in ("outside_limit", "side_by_side")
        figures = [f"{first.metric} {first.worst:.3g}"] if first.metric and first.worst is not None else []
        figures += [f"limit {first.limit}"] if first.limit and figures else []
        by = " ".join([*([first.check] if named else []), ", ".join(figures)]).strip()
        by += f" (+{len(row.seen) - 1})" if len(row.seen) > 1 else ""
    verdict = {"fail": "caught", "suspicious": "suspicious", "pass": "MISSED"}[row.verdict]
    where = row.located
    located = (
        "" if where is None else f"; {where.kind}{'' if where.exact else ' NOT EXACT'}: {where.where or 'nowhere'}"
    )
    return f"{row.fault:18} {row.place:8} {row.device or '-':6} {row.site[-24:]:24} {verdict:10} {by}{located}"


def _clean_line(device: str, report: SelftestReport) -> str:
    rows: list[CleanRow] = [row for row in report.clean if row.device == device]
    figures = {name for row in rows for name in row.worst}
    far = [
        f"{name} {(min if name == 'correlation' else max)(row.worst[name] for row in rows if name in row.worst):.7g}"
        for name in sorted(figures)
    ]
    passed = sum(row.passed for row in rows)
    return f"clean, {device}: {passed} of {len(rows)} seeds pass; worst of all: {', '.join(far)}"
