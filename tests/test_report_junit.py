"""junit.xml is red exactly when the gate is, case by case, and stays XML whatever the names hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import junitparser
import pytest
from test_report_example_parts import INPUTS
from test_report_examples import EXAMPLES, HOSTILE, broken, collapsed, hostile, passing, refused

from fidelity.comparison.judgement import Finding
from fidelity.report.document import GateReport, NotTested, Reason
from fidelity.report.junit import junit

Cases = dict[tuple[str, str], ElementTree.Element]


def cases(report: GateReport) -> Cases:
    """Every case by suite and name; each name is used once in its suite."""
    root = ElementTree.fromstring(junit(report))  # noqa: S314 - it is what we wrote
    found = [(suite.attrib["name"], case) for suite in root for case in suite]
    named = {(suite, case.attrib["name"]): case for suite, case in found}
    assert len(named) == len(found)
    return named


def red(report: GateReport) -> set[tuple[str, str]]:
    """Suite and name of every case that fails or is an error."""
    return {
        name
        for name, case in cases(report).items()
        if case.find("failure") is not None or case.find("error") is not None
    }


def test_a_passing_report_is_green_with_a_case_for_everything() -> None:
    named = cases(passing())
    assert red(passing()) == set()
    expected = {("gate", "verdict"), ("prove", "weights map"), ("prove", "whole model"), ("prove", "proof")}
    expected |= {("prove", f"rewrite {c.name} v1: ROUNDING") for c in passing().proof.contracts}
    expected |= {("audit", f"artefacts/model.{dtype}.tflite ({dtype})") for dtype in ("float32", "float16")}
    expected.add(("predict", "model.float16.tflite under mldrift-webgpu-lavapipe"))
    for run in passing().runs:
        expected.add((f"run: {run.label}", f"{run.label} on {run.device}"))
        expected |= {(f"run: {run.label}", f"input {name}") for name in run.comparison.asked}
    assert set(named) == expected
    assert len(passing().runs[0].comparison.asked) == len(INPUTS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_red_if_and_only_if_the_gate_fails(name: str) -> None:
    report = EXAMPLES[name]()
    assert bool(red(report)) == (not report.passed)
    assert (("gate", "verdict") in red(report)) == (not report.passed)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_counts_are_those_of_the_cases(name: str) -> None:
    text = junit(EXAMPLES[name]())
    document = junitparser.JUnitXml.fromstring(text.encode())
    for suite in document:
        states = [case.result for case in suite]
        assert all(len(state) <= 1 for state in states)
        assert suite.tests == len(states)
        assert suite.failures == sum(isinstance(s, junitparser.Failure) for state in states for s in state)
        assert suite.errors == sum(isinstance(s, junitparser.Error) for state in states for s in state)
        assert suite.skipped == 0
    assert document.tests == sum(suite.tests for suite in document)
    assert document.failures == sum(suite.failures for suite in document)
    assert document.errors == sum(suite.errors for suite in document)
    assert junit(EXAMPLES[name]()) == text


def test_a_collapse_fails_the_run_and_every_input_of_it() -> None:
    names = {name for suite, name in red(collapsed()) if suite == "run: gpu fp16"}
    assert names == {"gpu fp16 on gpu"} | {f"input {name}" for name in INPUTS}
    case = cases(collapsed())["run: gpu fp16", "gpu fp16 on gpu"]
    assert "collapse" in (case.find("failure").text or "")  # type: ignore[union-attr]
    assert case.find("failure").attrib["message"].startswith("collapse: ")  # type: ignore[union-attr]


def test_refusals_are_told_with_their_cure() -> None:
    failure = cases(refused())["audit", "artefacts/model.float16.tflite (float16)"].find("failure")
    assert failure is not None
    assert (failure.text or "").count("high_rank") == 136
    assert "operator 3 RESHAPE, tensor vit/blocks.3/attn/reshape_3" in (failure.text or "")
    assert "(cured by split_qkv)" in (failure.text or "")


def test_what_is_broken_is_an_error_and_what_was_not_tested_too() -> None:
    named = cases(broken())
    missing = named["not tested", "phone fp16 on android:1A2B3C"]
    assert missing.find("error") is not None
    assert missing.find("skipped") is None
    crashed = named["run: gpu fp32", "gpu fp32 on gpu"].find("error")
    assert crashed is not None
    assert crashed.attrib["type"] == "crashed"
    inputs = {name for suite, name in red(broken()) if suite == "run: gpu fp16"}
    assert inputs == {"gpu fp16 on gpu", "input noise", "input white", "input black"}
    proof = {name for suite, name in red(broken()) if suite == "prove"}
    # the counter-example is at an attention, which two rewrites changed
    assert proof == {"rewrite split_qkv v1: ROUNDING", "rewrite rotate_half v1: ROUNDING", "proof"}


def changed(report: GateReport, **fields: Any) -> GateReport:
    return report.model_copy(update=fields)


def with_run(report: GateReport, **fields: Any) -> GateReport:
    return changed(report, runs=(report.runs[0].model_copy(update=fields), *report.runs[1:]))


def with_proof(report: GateReport, **fields: Any) -> GateReport:
    return changed(report, proof=report.proof.model_copy(update=fields))


def with_weights(report: GateReport, **fields: Any) -> GateReport:
    return with_proof(report, weights_map=report.proof.weights_map.model_copy(update=fields))


def no_call(report: GateReport) -> GateReport:
    sites = report.proof.sites
    return with_proof(report, sites=(*sites[:-1], sites[-1].model_copy(update={"calls": 0})))


def audit_failed(report: GateReport) -> GateReport:
    first = report.artefacts[0]
    audit = first.audit.model_copy(update={"passed": False})
    return changed(report, artefacts=(first.model_copy(update={"audit": audit}),))


def lost_figures(report: GateReport) -> GateReport:
    comparison = report.runs[0].comparison
    return with_run(report, comparison=comparison.model_copy(update={"outputs": comparison.outputs[1:]}))


def nan_figure(report: GateReport) -> GateReport:
    comparison = report.runs[0].comparison
    first = comparison.outputs[0]
    bad = first.model_copy(update={"metrics": {**first.metrics, "correlation": float("nan")}})
    return with_run(report, comparison=comparison.model_copy(update={"outputs": (bad, *comparison.outputs[1:])}))


def repeats_differ(report: GateReport) -> GateReport:
    result = report.runs[0].result
    bad = result.outputs[0].model_copy(update={"deterministic": False})
    return with_run(report, result=result.model_copy(update={"outputs": (bad, *result.outputs[1:])}))


def judged_wrong(report: GateReport, **fields: Any) -> GateReport:
    return with_run(report, judgement=report.runs[0].judgement.model_copy(update=fields))


FAIL = Finding(code="wrong_model", severity="fail", message="a stale file")
LOST = Reason(stage="convert", severity="fail", code="artefact_size", message="187 MB, not 90 MB")
CPU = "run: cpu float32"

PLANTED: dict[str, tuple[Callable[[GateReport], GateReport], tuple[str, str]]] = {
    "a reason without a case": (lambda r: changed(r, reasons=(LOST,)), ("gate", "verdict")),
    "passed is false without a reason": (lambda r: changed(r, passed=False), ("gate", "verdict")),
    "a lost weight": (lambda r: with_weights(r, lost=("x",)), ("prove", "weights map")),
    "an unexplained weight": (lambda r: with_weights(r, unexplained=("x",)), ("prove", "weights map")),
    "no whole model": (
        lambda r: with_proof(r, sites=r.proof.sites[:-1]),
        ("prove", "whole model"),
    ),
    "nothing proved": (lambda r: with_proof(r, sites=()), ("prove", "proof")),
    "no call at a site": (no_call, ("prove", "whole model")),
    "an audit that fails silently": (audit_failed, ("audit", "artefacts/model.float32.tflite (float32)")),
    "no artefact": (lambda r: changed(r, artefacts=()), ("audit", "nothing was audited")),
    "no run": (lambda r: changed(r, runs=()), ("run", "nothing was run")),
    "a missing run": (
        lambda r: changed(r, not_tested=(NotTested(label="a", device="b", reason="c"),)),
        ("not tested", "a on b"),
    ),
    "a judgement that fails silently": (
        lambda r: judged_wrong(r, passed=False),
        (CPU, "cpu float32 on cpu"),
    ),
    "a finding that fails": (lambda r: judged_wrong(r, findings=(FAIL,)), (CPU, "cpu float32 on cpu")),
    "a crash that was judged well": (
        lambda r: with_run(r, result=r.runs[0].result.model_copy(update={"status": "crashed"})),
        (CPU, "cpu float32 on cpu"),
    ),
    "an input without figures": (lost_figures, (CPU, "input astronaut")),
    "a NaN among the figures": (nan_figure, (CPU, "input astronaut")),
    "an input that differs when run twice": (repeats_differ, (CPU, "input astronaut")),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_turns_its_own_case_red(name: str) -> None:
    plant, expected = PLANTED[name]
    assert expected in red(plant(passing()))


def test_suspicious_findings_and_notes_are_told_without_failing() -> None:
    odd = Finding(code="identical_to_cpu", severity="suspicious", message="the same bits")
    report = judged_wrong(passing(), findings=(odd,))
    case = cases(report)[CPU, "cpu float32 on cpu"]
    assert case.findtext("system-out") == "suspicious: identical_to_cpu: the same bits"
    assert red(report) == set()


def test_names_from_outside_cannot_break_the_xml() -> None:
    text = junit(hostile())
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\u202e]", text)
    named = cases(hostile())
    assert ("not tested", f'{HOSTILE[0]} on ]]>\\x00"') in named
    assert HOSTILE[0] in named["gate", "verdict"].find("failure").attrib["message"]  # type: ignore[union-attr]


def test_an_input_takes_the_seconds_of_its_repeats_and_a_nan_takes_none() -> None:
    run = passing().runs[0]
    times = {name: case.attrib.get("time") for (suite, name), case in cases(passing()).items() if suite == CPU}
    assert times["cpu float32 on cpu"] is None
    assert {name: float(time) for name, time in times.items() if time} == {
        f"input {output.input}": pytest.approx(sum(output.seconds)) for output in run.result.outputs
    }
    unknown = run.result.outputs[0].model_copy(update={"seconds": (float("nan"),)})
    report = with_run(passing(), result=run.result.model_copy(update={"outputs": (unknown,)}))
    assert "time" not in cases(report)[CPU, f"input {unknown.input}"].attrib
