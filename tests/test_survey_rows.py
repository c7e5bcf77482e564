"""A gate's report becomes a row: every figure from where it is, every verdict with its causes; and its tables."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from test_report_examples import broken, collapsed, hostile, located, passing, refused

from fidelity.cli.survey import exit_code
from fidelity.devices.job import Refusal
from fidelity.report.document import GateReport
from fidelity.rewrites.proof import Decision
from fidelity.survey.condense import on_device, operators_of, rewrite_counts
from fidelity.survey.make_row import condensed, stopped_row
from fidelity.survey.plan import Entry
from fidelity.survey.row import Row, Survey
from fidelity.survey.table import markdown, survey_lines

ENTRY = Entry(name="b16", family="PE-Core", source="timm:vit_pe_core_base_patch16_224")
DECISIONS = (
    Decision(rewrite="split_qkv", path="blocks.0.attn", module="Attention"),
    Decision(rewrite="split_qkv", path="blocks.1.attn", module="Attention"),
    Decision(rewrite="split_qkv", path="blocks.2.attn", module="WindowAttention", refused="windows"),
)


def row(report: GateReport, entry: Entry = ENTRY) -> Row:
    known = {"parameters": 1, "rewrites": rewrite_counts(DECISIONS, ["split_qkv", "rotate_half"])}
    return condensed(entry, report, known | {"proved": report.proof.passed})


def survey(*rows: Row, **missing: str) -> Survey:
    return Survey(title="t", devices={"cpu": "host"}, inputs=None, rows=rows, not_tested=missing, versions={})


def test_what_a_rewrite_did_is_counted_by_the_reason_of_refusal() -> None:
    split, rotate = rewrite_counts(DECISIONS, ["split_qkv", "rotate_half"])
    assert (split.taken, split.modules, split.refused) == (2, ("Attention",), {"WindowAttention: windows": 1})
    assert (rotate.rewrite, rotate.taken, rotate.refused) == ("rotate_half", 0, {})


def test_a_passing_gate_is_a_passing_row_with_the_worst_figures() -> None:
    report = passing()
    found = row(report)
    assert (found.verdict, found.causes, found.explained) == ("pass", (), True)
    for run, figures in zip(report.runs, found.devices, strict=True):
        values = {o.input: o.metrics["correlation"] for o in run.comparison.outputs}
        assert figures.worst_correlation == min(values.values()) == values[figures.worst_input or ""]
        assert figures.worst_relative_l2 == max(o.metrics["relative_l2"] for o in run.comparison.outputs)
        assert figures.resident or run.result.residency is None
    gpu = found.devices[2]
    expected = report.runs[2].expected
    assert expected is not None
    assert gpu.error_ratio == max(o.ratio for o in expected.outputs if o.ratio is not None)
    assert found.foretold[0].least_headroom == min(s.headroom for s in report.predictions[0].prediction.expected.sites)


def test_refusals_are_told_by_kind_reason_and_module_with_the_rewrite_that_cures_them() -> None:
    report = refused()
    found = row(report)
    assert found.verdict == "refused"
    figures = found.devices[1]
    assert (figures.nodes_on_device, figures.nodes_total, figures.partitions) == (50, 817, 7)
    residency = report.runs[1].result.residency
    assert residency is not None
    assert sum(kind.count for kind in figures.refused) == sum(r.count for r in residency.refusals)
    counts = [kind.count for kind in figures.refused]
    assert counts == sorted(counts, reverse=True)
    transposes = next(kind for kind in figures.refused if kind.op == "TRANSPOSE")
    assert transposes.reason == "tensor of rank 5"
    assert transposes.modules
    causes = {cause.message.split(" x ", 1)[1].split(":")[0]: cause for cause in found.causes}
    assert causes.keys() == {"TRANSPOSE", "BATCH_MATMUL", "GATHER"}
    assert "rank 4" in causes["TRANSPOSE"].cure
    assert all(cause.known and cause.device == "gpu" for cause in found.causes)


def test_a_reason_that_quotes_its_tensor_is_one_reason_and_tells_the_module() -> None:
    report = refused()
    run = report.runs[1]
    residency = run.result.residency
    assert residency is not None
    tower = "fidelity.models.tower.ImageTower_module/timm.models.swin_transformer.SwinTransformerBlock_"
    quoting = tuple(
        Refusal(op="FULLY_CONNECTED", reason=f'Tensor "{tower}{block};2" has bad input dims size: 6.', count=2)
        for block in (0, 0, 1)
    )
    result = run.result.model_copy(update={"residency": residency.model_copy(update={"refusals": quoting})})
    (kind,) = on_device(run.model_copy(update={"result": result}), operators_of(report, run)).refused
    assert (kind.op, kind.count, kind.reason) == ("FULLY_CONNECTED", 6, "a tensor has bad input dims size: 6.")
    assert set(kind.modules) == {"SwinTransformerBlock_0", "SwinTransformerBlock_1"}


def test_a_cure_says_why_the_rewrite_did_not_take_the_module() -> None:
    report = refused()
    (run,) = (run for run in report.runs if run.device == "gpu")
    residency = run.result.residency
    assert residency is not None
    kinds = tuple(each.model_copy(update={"op": "RESHAPE"}) for each in residency.refusals)
    result = run.result.model_copy(update={"residency": residency.model_copy(update={"refusals": kinds})})
    changed = report.model_copy(update={"runs": (report.runs[0], run.model_copy(update={"result": result}))})
    assert {cause.cure for cause in row(changed).causes} == {"split_qkv, which refuses WindowAttention: windows"}


def test_a_wrong_run_is_explained_by_what_was_located() -> None:
    overflow, kernel = row(collapsed()), row(located())
    assert (overflow.verdict, kernel.verdict) == ("wrong", "wrong")
    assert "overflow at op" in overflow.causes[0].message
    assert "kernel at op" in kernel.causes[0].message
    assert overflow.explained
    assert kernel.causes[0].cure


def test_a_wrong_run_that_nobody_located_is_not_explained() -> None:
    found = row(located().model_copy(update={"located": ()}))
    assert found.verdict == "wrong"
    assert not found.explained
    assert any("NOT EXPLAINED" in line for line in survey_lines(survey(found), verbose=False))
    assert not survey(found).passed
    assert exit_code(survey(found)) == 1


def test_a_bad_proof_decides_and_a_crash_is_named() -> None:
    found = row(broken())
    assert found.verdict == "not_proved"
    messages = " ".join(cause.message for cause in found.causes)
    assert "not the original" in messages
    assert "crashed: signal 11" in messages
    assert "no device answers" in messages


@pytest.mark.parametrize("example", [passing, collapsed, located, refused, broken, hostile])
def test_every_verdict_but_a_pass_has_a_cause_and_shows_in_both_tables(example: object) -> None:
    found = row(example())  # type: ignore[operator]
    assert (found.verdict == "pass") == (not found.causes)
    assert Row.model_validate_json(found.to_json()) == found
    for text in (survey_lines(survey(found), verbose=True), markdown(survey(found))):
        assert not any("\n" in line or "\x00" in line or "\u202e" in line for line in text)
    table = [line for line in markdown(survey(found)) if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {9}
    assert "<script>" not in " ".join(markdown(survey(found)))


def test_what_must_pass_and_does_not_is_exit_code_1_and_a_missing_device_3() -> None:
    must = ENTRY.model_copy(update={"expect": "pass"})
    good, bad = row(passing(), must), row(refused(), must)
    assert exit_code(survey(good)) == 0
    assert exit_code(survey(bad)) == 1
    assert exit_code(survey(row(refused()))) == 0
    assert exit_code(survey(good, gpu="none here")) == 3
    assert exit_code(survey(bad, gpu="none here")) == 1


def test_a_pass_without_evidence_is_no_row() -> None:
    good = row(passing()).model_dump()
    for change in ({"devices": ()}, {"proved": None}, {"proved": False}, {"verdict": "stopped"}):
        with pytest.raises(ValidationError):
            Row.model_validate(good | change)


def test_a_stopped_row_keeps_what_the_stages_before_found() -> None:
    known = {"parameters": 7, "rewrites": rewrite_counts(DECISIONS, ["split_qkv"])}
    found = stopped_row(ENTRY, "convert", "the converter ended with code 1", known, passing=True)
    assert (found.verdict, found.parameters, found.rewrites[0].taken, found.explained) == ("stopped", 7, 2, True)
    assert "STOPPED at convert" in " ".join(markdown(survey(found)))


def test_the_operators_of_a_run_are_those_of_its_artefact() -> None:
    report = passing()
    assert operators_of(report, report.runs[0]) == report.artefacts[0].operators
    assert on_device(report.runs[0], ()).refused == ()
