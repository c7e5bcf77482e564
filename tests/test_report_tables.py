"""Every table of the page, row by row: each number stands at its own place, not only somewhere."""

from __future__ import annotations

import pytest
from test_report_examples import EXAMPLES
from test_report_html import root_of
from test_report_page_reader import Node

from fidelity.comparison.judgement import Check
from fidelity.comparison.policy import Limit
from fidelity.report.proof_rows import proof_rows


def table(name: str, label: str) -> list[Node]:
    """The body rows of the table in the region with this label."""
    (region,) = root_of(name).find("div", **{"aria-label": label})
    return region.find("tbody")[0].find("tr")


def numbers(node: Node) -> list[float]:
    """The stored numbers of a row or cell, in order."""
    return [float(data.attributes["value"]) for data in node.find("data")]


def bounds(limit: Limit) -> list[float]:
    return [bound for bound in (limit.at_least, limit.at_most) if bound is not None]


@pytest.mark.parametrize("name", EXAMPLES)
def test_comparisons_of_the_proof(name: str) -> None:
    sites = EXAMPLES[name]().proof.sites
    rows = table(name, "All comparisons of the proof")
    assert len(rows) == len(sites)
    for row, site in zip(rows, sites, strict=True):
        assert row.find("th")[0].text() == (site.path or "the whole model")
        wide, narrow = site.float64, site.float32
        assert numbers(row) == [wide.worst, wide.allowed, narrow.worst, narrow.allowed, site.calls]
        assert row.find("td")[-1].text() == site.exactness.value


@pytest.mark.parametrize("name", EXAMPLES)
def test_worst_differences_of_the_proof(name: str) -> None:
    expected = proof_rows(EXAMPLES[name]().proof)
    rows = table(name, "Worst differences from the unrewritten model")
    for row, line in zip(rows, expected, strict=True):
        wide, narrow = line.float64.difference, line.float32.difference
        assert numbers(row) == [wide.worst, wide.allowed, narrow.worst, narrow.allowed]
        for cell, worst in zip(row.find("td"), (line.float64, line.float32), strict=False):
            assert f"at {worst.path or 'the whole model'} on {worst.difference.input}" in cell.text()


@pytest.mark.parametrize("name", ["passing", "collapsed", "refused", "broken"])
def test_checks_of_every_run(name: str) -> None:
    for run in EXAMPLES[name]().runs:
        if not run.comparison.outputs:
            continue
        rows = {row.find("th")[0].text(): row for row in table(name, f"Checks of {run.label}")}
        assert len(rows) == len(run.judgement.checks)
        for check in run.judgement.checks:
            check_row(rows[check.metric], check)
        verdicts = [row.find("td")[2].text() for row in rows.values()]
        assert verdicts == sorted(verdicts, reverse=True)  # the cross sorts after the tick: failures first


def check_row(row: Node, check: Check) -> None:
    worst, limit, verdict, where = row.find("td")
    assert numbers(worst) == ([] if check.worst is None else [check.worst])
    assert ("undefined" in worst.text()) == (check.worst is None)
    assert numbers(limit) == bounds(check.limit)
    assert ("≥" in limit.text()) == (check.limit.at_least is not None)
    assert ("≤" in limit.text()) == (check.limit.at_most is not None)
    assert verdict.text() == ("✓ pass" if check.passed else "✗ fail")
    assert ", ".join(check.inputs) in where.text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_facts_of_every_run(name: str) -> None:
    report = EXAMPLES[name]()
    cells = {row.find("th")[0].text(): row.find("td") for row in table(name, "Runs")}
    for index, run in enumerate(report.runs):
        own = {title: columns[index] for title, columns in cells.items()}
        result = run.result
        residency, timing = result.residency, result.timing
        nodes = [] if residency is None else [residency.nodes_on_device, residency.nodes_total]
        assert numbers(own["Residency"])[:2] == nodes
        assert numbers(own["Time, steady"]) == ([] if timing is None else [timing.steady])
        both = [] if timing is None else [timing.compile, timing.first]
        assert numbers(own["Time, compile and first"]) == both
        assert numbers(own["Peak memory"]) == [result.peak_memory_bytes]
        assert own["Precision"].text() == f"{result.precision_had} ({result.precision_asked} was asked)"
        assert own["Weights"].text() == run.weights_dtype
        assert own["Ended"].text().split()[0] == result.status
        for title, metric in (("Worst correlation", "correlation"), ("Worst relative L2", "relative_l2")):
            (check,) = (check for check in run.judgement.checks if check.metric == metric)
            figures = [check.worst] if check.worst is not None else []
            assert numbers(own[title]) == [*figures, *bounds(check.limit)]


def test_the_worst_of_a_run_is_its_check() -> None:
    (run,) = (run for run in EXAMPLES["passing"]().runs if run.label == "gpu fp16")
    check = next(check for check in run.judgement.checks if check.metric == "correlation")
    rows = {row.find("th")[0].text(): row for row in table("passing", "Runs")}
    assert f"at {check.inputs[0]}, limit ≥ 0.9999" in rows["Worst correlation"].find("td")[2].text()


def test_ablations() -> None:
    rows = table("collapsed", "Ablation of the rewrites")
    for row, ablation in zip(rows, EXAMPLES["collapsed"]().ablations, strict=True):
        worst = [] if ablation.worst_correlation is None else [ablation.worst_correlation]
        assert numbers(row) == [ablation.nodes_on_device, ablation.nodes_total, *worst]
        assert row.find("th")[0].text() == ablation.left_out
        assert row.find("b")[0].text() == ablation.outcome
        assert all(refusal in row.text() for refusal in ablation.refusals)
    assert root_of("passing").find("section", id="ablation") == []


@pytest.mark.parametrize("name", ["refused", "hostile"])
def test_audits(name: str) -> None:
    for artefact in EXAMPLES[name]().artefacts:
        rows = table(name, f"Findings of the audit of {artefact.audit.artefact}")
        times = [int(row.find("td")[1].text()) for row in rows]
        assert sum(times) == len(artefact.audit.findings)
        shown = [row.find("th")[0].text() for row in rows]
        assert {rule: sum(t for s, t in zip(shown, times, strict=True) if s == rule) for rule in shown} == (
            artefact.audit.counts
        )


def test_limits_of_the_policy() -> None:
    policy = EXAMPLES["passing"]().policy
    first, *others = table("passing", "Limits of the policy")
    assert numbers(first) == [bound for limit in policy.every_run.values() for bound in bounds(limit)]
    for row, entry in zip(others, policy.runs, strict=True):
        assert row.find("th")[0].text() == str(entry.kind)
        assert numbers(row) == [bound for limit in entry.limits.values() for bound in bounds(limit)]


def test_seconds_versions_and_machine() -> None:
    run = EXAMPLES["passing"]().run
    seconds, versions, machine = root_of("passing").find("section", id="again")[0].find("table")
    assert {row.find("th")[0].text(): numbers(row)[0] for row in seconds.find("tr")} == run.seconds
    for shown, stored in ((versions, run.versions), (machine, run.machine)):
        assert {row.find("th")[0].text(): row.find("td")[0].text() for row in shown.find("tr")} == stored
