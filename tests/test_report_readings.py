"""What the tables and plots are made of: nothing lost, the worst is the worst, silence is no pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
from test_report_example_parts import INPUTS, NAMES, PHOTOGRAPHS, artefact, proof
from test_report_examples import EXAMPLES, broken, collapsed, passing, refused

from fidelity.comparison.comparison import OutputComparison
from fidelity.comparison.metrics.outcome import Undefined
from fidelity.report.audit_rows import audit_rows
from fidelity.report.document import DeviceRun, GateReport, Reason
from fidelity.report.html import determinism, reason_groups
from fidelity.report.proof_rows import proof_rows, refused_groups, taken_paths
from fidelity.report.readings import (
    CORRELATION,
    MISSING,
    RELATIVE_L2,
    input_failures,
    input_rows,
    readings,
    worst_reading,
)
from fidelity.report.stages import stages
from fidelity.rewrites.contract import Exactness
from fidelity.rewrites.proof import Difference, SiteProof
from fidelity.tflite.finding import AuditFinding

POLICY = passing().policy


def run_with(*outputs: OutputComparison, asked: tuple[str, ...] = ()) -> DeviceRun:
    """The CPU run of the passing report with other comparisons."""
    run = passing().runs[0]
    changed = {"outputs": outputs, "asked": asked or tuple(o.input for o in outputs)}
    return run.model_copy(update={"comparison": run.comparison.model_copy(update=changed)})


def output(name: str, figure: float | None, key: str = "embedding") -> OutputComparison:
    """One comparison in which every metric has this figure, or none has any."""
    nothing = Undefined(cause="constant_actual", why="every element is 1")
    metrics = (CORRELATION, RELATIVE_L2)
    return OutputComparison(
        input=name,
        output=key,
        metrics={} if figure is None else dict.fromkeys(metrics, figure),
        index={},
        undefined=dict.fromkeys(metrics, nothing) if figure is None else {},
    )


def worst_input(metric: str, run: DeviceRun) -> str:
    reading = worst_reading(run, POLICY, metric)
    assert reading is not None
    return reading.input


def test_lower_correlation_and_higher_error_are_worse() -> None:
    run = run_with(output("a", 0.5), output("b", 0.1), output("c", 0.9))
    assert worst_input(CORRELATION, run) == "b"
    assert worst_input(RELATIVE_L2, run) == "c"
    assert [r.worst for r in readings(run, POLICY, CORRELATION)] == [False, True, False]


@pytest.mark.parametrize("figure", [None, math.nan])
def test_no_figure_is_worse_than_any_and_fails(figure: float | None) -> None:
    run = run_with(output("a", -1.0), output("b", figure), output("c", 1.0))
    assert worst_input(CORRELATION, run) == "b"
    assert [reading.failed for reading in readings(run, POLICY, CORRELATION)] == [True, True, False]


def test_the_limit_itself_is_met_and_the_next_number_is_not() -> None:
    run = run_with(output("a", 0.999999), output("b", math.nextafter(0.999999, 0)))
    assert [reading.failed for reading in readings(run, POLICY, CORRELATION)] == [False, True]


def test_an_input_that_never_came_is_a_reading_without_a_figure() -> None:
    run = run_with(output("a", 1.0), asked=("a", "b"))
    last = readings(run, POLICY, CORRELATION)[-1]
    assert (last.input, last.figure, last.why, last.failed, last.worst) == ("b", None, MISSING, True, True)
    assert input_failures(run, POLICY, "b") == (f"not_compared: {MISSING}",)


def test_without_a_limit_only_a_missing_figure_fails() -> None:
    run = run_with(output("a", 0.1), output("b", None))
    bare = POLICY.model_copy(update={"runs": (), "every_run": {}})
    assert [reading.failed for reading in readings(run, bare, CORRELATION)] == [False, True]
    assert worst_reading(run_with(output("a", 0.9), output("b", 0.1)), bare, CORRELATION).input == "b"  # type: ignore[union-attr]


def test_nothing_asked_has_no_worst() -> None:
    assert worst_reading(run_with(), POLICY, CORRELATION) is None


def test_every_output_has_its_row_and_a_lost_input_stands_in_each() -> None:
    one = run_with(output("black", 1.0, "left"), output("black", 0.9, "right"))
    two = run_with(asked=("black",))
    rows = {(r.input, r.output): r.cells for r in input_rows(with_runs(one, two)) if any(r.cells)}
    assert set(rows) == {("black", "left"), ("black", "right")}
    assert [rows["black", key][0][CORRELATION].figure for key in ("left", "right")] == [1.0, 0.9]  # type: ignore[index]
    assert all(rows["black", key][1][CORRELATION].figure is None for key in ("left", "right"))  # type: ignore[index]


def with_runs(*runs: DeviceRun) -> GateReport:
    return passing().model_copy(update={"runs": runs})


def test_rows_are_in_the_subjects_order_and_strangers_come_last() -> None:
    rows = input_rows(with_runs(run_with(output("stranger", 1.0), output("white", 1.0))))
    assert [row.input for row in rows] == [*INPUTS, "stranger"]
    kinds = {row.input: row.kind for row in rows}
    assert kinds["stranger"] == "unknown input"
    assert {name for name, kind in kinds.items() if kind == "photograph"} == set(PHOTOGRAPHS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_input_fails_only_in_a_run_that_fails(name: str) -> None:
    report = EXAMPLES[name]()
    for run in report.runs:
        failing = [i for i in run.comparison.asked if input_failures(run, report.policy, i)]
        assert not (failing and run.judgement.passed)


def test_an_input_failure_names_the_metric_the_figure_and_the_limit() -> None:
    run = collapsed().runs[2]
    lines = input_failures(run, POLICY, "retina")
    figure = next(o.metrics[CORRELATION] for o in run.comparison.outputs if o.input == "retina")
    assert f"correlation of 'embedding' is {figure:.9g}, limit at least 0.9999" in lines
    assert any("is undefined (non_finite_actual" in i for i in input_failures(broken().runs[1], POLICY, "noise"))


def site(path: str, worst: float, allowed: float, calls: int = 1) -> SiteProof:
    """A comparison with this difference in both precisions."""
    difference = Difference(worst=worst, allowed=allowed, input="noise")
    return SiteProof(
        path=path,
        rewrites=("split_qkv",),
        calls=calls,
        float64=difference,
        float32=difference,
        exactness=Exactness.ROUNDING,
    )


@pytest.mark.parametrize(
    ("sites", "worst"),
    [
        ((site("blocks.0", 1e-9, 1e-6), site("blocks.1", 5e-10, 1e-9)), "blocks.1"),  # nearer to its limit
        ((site("blocks.0", 2.0, 1.0), site("blocks.1", math.nan, 1.0)), "blocks.1"),
        ((site("blocks.0", 0.0, 0.0), site("blocks.1", 1e-30, 1.0)), "blocks.1"),  # exact where 0 is allowed
        (
            (site("blocks.0", 1e-30, 0.0), site("blocks.1", 2.0, 1.0)),
            "blocks.0",
        ),  # not exact where it must be
    ],
)
def test_the_worst_site_is_nearest_to_what_it_is_allowed(sites: tuple[SiteProof, ...], worst: str) -> None:
    (row,) = proof_rows(proof().model_copy(update={"sites": sites, "decisions": ()}))
    assert (row.title, row.sites, row.calls, row.passed) == ("whole blocks", 2, 2, True)
    assert row.float64.path == row.float32.path == worst


def test_a_row_passes_only_when_every_site_does() -> None:
    silent = proof().model_copy(update={"sites": (site("", 0.0, 1.0, calls=0),)})
    assert [row.passed for row in proof_rows(silent)] == [False]
    rows = {row.title: row.passed for row in proof_rows(broken().proof)}
    assert rows["split_qkv modules"] is rows["rotate_half modules"] is False
    assert rows["safe_layernorm modules"] is rows["the whole model"] is True


def test_every_comparison_is_in_a_row() -> None:
    rows = {row.title: row for row in proof_rows(proof())}
    assert [*rows] == [*(f"{name} modules" for name in NAMES), "whole blocks", "the whole model"]
    assert rows["safe_layernorm modules"].sites == len(taken_paths(proof(), "safe_layernorm")) == 6
    shared = rows["split_qkv modules"].sites  # the same attentions as rotate_half's
    assert sum(row.sites for row in rows.values()) - shared == len(proof().sites)


def test_decisions_against_a_rewrite_are_told_together() -> None:
    (group,) = refused_groups(proof())
    assert (group.rewrite, group.module, group.paths) == ("safe_layernorm", "Identity", ("attn_pool.norm",))
    assert refused_groups(proof(())) == ()


def test_findings_that_say_the_same_are_one_row_and_refusals_come_first() -> None:
    warning = AuditFinding(rule="a", severity="warning", reason="slow")
    many = [warning.model_copy(update={"operator": index}) for index in range(5)]
    refusal = AuditFinding(rule="b", severity="refused", reason="rank 5", cure="split_qkv")
    other = refusal.model_copy(update={"reason": "rank 6"})
    rows = audit_rows(artefact("float16", (*many, refusal, other, other)).audit)
    assert [(row.rule, row.reason, len(row.findings)) for row in rows] == [
        ("b", "rank 6", 2),
        ("b", "rank 5", 1),
        ("a", "slow", 5),
    ]


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_reason_is_lost_in_a_group(name: str) -> None:
    reasons = EXAMPLES[name]().reasons
    groups = reason_groups(reasons)
    assert set(groups) == {"fail", "suspicious", "note"}
    told = [(g.severity, m) for part in groups.values() for g in part for m, n in g.messages for _ in range(n)]
    assert sorted(told) == sorted((reason.severity, reason.message) for reason in reasons)


def test_reasons_of_another_stage_are_another_group() -> None:
    both = [Reason(stage=s, severity="fail", code="x", message="m") for s in ("prove", "run")]  # type: ignore[arg-type]
    assert [group.stage for group in reason_groups(tuple(both))["fail"]] == ["prove", "run"]


STATES: list[tuple[str, dict[str, bool]]] = [
    ("passing", {"Prove": True, "Audit": True, "Predict": True, "Run": True, "Tested": True}),
    ("collapsed", {"Prove": True, "Audit": True, "Predict": False, "Run": False, "Locate": False, "Tested": True}),
    ("refused", {"Prove": True, "Audit": False, "Run": False, "Tested": True}),
    ("broken", {"Prove": False, "Audit": True, "Predict": False, "Run": False, "Tested": False}),
]


@pytest.mark.parametrize(("name", "expected"), STATES)
def test_the_state_of_every_stage(name: str, expected: dict[str, bool]) -> None:
    assert {stage.title: stage.passed for stage in stages(EXAMPLES[name]())} == expected


@pytest.mark.parametrize(("field", "title"), [("runs", "Run"), ("artefacts", "Audit")])
def test_a_stage_that_saw_nothing_has_not_passed(field: str, title: str) -> None:
    empty = passing().model_copy(update={field: ()})
    assert {stage.title: stage.passed for stage in stages(empty)}[title] is False


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ((True, None), "yes, 1 of 2 inputs ran twice"),
        ((True, False), "no: black differ"),
        ((None, None), "not known: none ran twice"),
        ((), "not known: none ran twice"),
    ],
)
def test_determinism_in_words(states: tuple[Any, ...], words: str) -> None:
    run = refused().runs[0]
    outputs = tuple(
        run.result.outputs[0].model_copy(update={"input": name, "deterministic": state})
        for name, state in zip(("white", "black"), states, strict=False)
    )
    assert determinism(run.model_copy(update={"result": run.result.model_copy(update={"outputs": outputs})})) == words
