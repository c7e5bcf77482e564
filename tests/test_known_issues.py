"""Reported delegate bugs: right answers are right, a device that has a bug is told, one that has not is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fidelity.devices.discovery import Device, resolve
from fidelity.devices.job import JobResult, Refusal, Residency
from fidelity.devices.known_issue_judgement import Answer, judge, of_several
from fidelity.devices.known_issues import ISSUES, KnownIssue, KnownIssueResult, _asked, examine, summary
from fidelity.devices.run import run_job

CPU = resolve("cpu")
ANCHORS = (9249, 8619, 8593, 8599, 9272, 8913, 8980, 8598, 7693)
REFUSED = Residency(
    nodes_on_device=1, nodes_total=2, partitions=1, refusals=(Refusal(op="PAD", reason="not here"),), source="a test"
)
every_issue = pytest.mark.parametrize("issue", ISSUES, ids=lambda issue: issue.number)
Fault = Callable[[np.ndarray], np.ndarray]


def in_fp16(folder: Path, device: Device) -> JobResult:
    """The CPU, which is right, saying that it computed in float16: a device without any of the bugs."""
    return run_job(folder, device).model_copy(update={"precision_had": "fp16"})


@pytest.fixture(scope="session")
def right(tmp_path_factory: pytest.TempPathFactory) -> Callable[[KnownIssue], Answer]:
    """The answer of a device that has no bug, each issue run once on the real CPU runtime."""

    @cache
    def asked(issue: KnownIssue) -> Answer:
        return _asked(issue.trials, CPU, tmp_path_factory.mktemp("issue") / "one", in_fp16)

    return asked


def judged(issue: KnownIssue, answer: Answer) -> tuple[str, str]:
    return judge(answer, needs_fp16=issue.needs_fp16, refusal=issue.refusal)


def answering(answer: Answer, **fields: Any) -> Answer:
    """The answer with fields of its result changed."""
    return replace(answer, result=answer.result.model_copy(update=fields))


def test_every_report_that_the_project_knows_is_tried() -> None:
    assert {issue.number for issue in ISSUES} == {*(f"#{number}" for number in ANCHORS), "litert-torch #718"}
    assert all(issue.url.endswith(issue.number.rpartition("#")[2]) for issue in ISSUES)


@every_issue
def test_a_device_without_the_bug_is_not_told_to_have_it(
    issue: KnownIssue, right: Callable[[KnownIssue], Answer]
) -> None:
    """The real CPU runtime gives each right answer: neither the graph nor the arithmetic beside it is wrong."""
    assert judged(issue, right(issue)) == ("absent", "every output is right")


@every_issue
def test_the_reported_symptom_is_told_as_such(issue: KnownIssue, right: Callable[[KnownIssue], Answer]) -> None:
    answer = right(issue)
    for name, expected in answer.right.items():
        for told, wrong in expected.symptoms.items():
            judgement, evidence = judged(issue, replace(answer, outputs={**answer.outputs, name: wrong}))
            assert judgement == "shown"
            assert f"{expected.what}: as reported, {told} (" in evidence
            assert "\n" not in evidence


FAULTS: dict[str, Fault] = {
    "zeros": np.zeros_like,
    "NaN": lambda y: np.full_like(y, np.nan),
    "infinity in one place": lambda y: np.where(np.arange(y.size).reshape(y.shape) == y.size - 1, np.inf, y),
    "of the wrong sign": np.negative,
    "half": lambda y: y / 2,
    "one place off": lambda y: y + (np.arange(y.size).reshape(y.shape) == y.size // 2),
}


@every_issue
@pytest.mark.parametrize("fault", FAULTS)
def test_any_other_wrong_output_is_shown_too(
    issue: KnownIssue, fault: str, right: Callable[[KnownIssue], Answer]
) -> None:
    """In each output alone: one that is right must not hide one that is wrong."""
    answer = right(issue)
    for name, expected in answer.right.items():
        broken = FAULTS[fault](answer.outputs[name]).astype(np.float32)
        judgement, evidence = judged(issue, replace(answer, outputs={**answer.outputs, name: broken}))
        assert judgement == "shown", (name, fault)
        assert evidence.startswith(expected.what)


@every_issue
def test_an_output_that_is_missing_or_of_another_shape_is_shown(
    issue: KnownIssue, right: Callable[[KnownIssue], Answer]
) -> None:
    answer = right(issue)
    name = next(iter(answer.right))
    assert judged(issue, replace(answer, outputs={}))[0] == "shown"
    flat = {**answer.outputs, name: answer.outputs[name].reshape(-1)[:1]}
    assert "shape (1,)" in judged(issue, replace(answer, outputs=flat))[1]


@every_issue
def test_a_refusal_is_the_bug_only_where_that_was_reported(
    issue: KnownIssue, right: Callable[[KnownIssue], Answer]
) -> None:
    """The right numbers then came from the CPU, so they prove nothing."""
    wanted = "shown" if issue.number == "#8598" else "not testable"
    assert judged(issue, answering(right(issue), residency=REFUSED)) == (wanted, "PAD refused: not here")
    none = answering(right(issue), residency=None, status="refused", error="nothing compiled")
    assert judged(issue, none) == (wanted, "refused: nothing compiled")


@every_issue
@pytest.mark.parametrize("status", ["crashed", "timeout", "device_lost", "transfer_failed"])
def test_a_device_that_does_not_answer_is_not_told_to_have_or_not_to_have_it(
    issue: KnownIssue, status: str, right: Callable[[KnownIssue], Answer]
) -> None:
    judgement, evidence = judged(issue, answering(right(issue), status=status, error="gone"))
    assert (judgement, evidence) == ("not testable", f"the job ended as {status}: gone")
    assert judged(issue, answering(right(issue), residency=None))[0] == "not testable"


@every_issue
def test_a_device_without_fp16_cannot_prove_a_bug_of_fp16_absent(
    issue: KnownIssue, right: Callable[[KnownIssue], Answer]
) -> None:
    wanted = "not testable" if issue.number in ("#9249", "#7693") else "absent"
    assert judged(issue, answering(right(issue), precision_had="fp32"))[0] == wanted


def test_one_trial_that_shows_it_is_enough_and_one_untold_is_named() -> None:
    assert of_several([("absent", "a"), ("shown", "b"), ("not testable", "c")]) == ("shown", "b")
    assert of_several([("absent", "a"), ("absent", "a"), ("not testable", "c")]) == ("absent", "a; c")
    assert of_several([("not testable", "c"), ("not testable", "c")]) == ("not testable", "c")


def test_a_graph_that_is_refused_whole_is_tried_piece_by_piece() -> None:
    (issue,) = (issue for issue in ISSUES if issue.number == "#9272")
    folders = []

    def refuses_two(folder: Path, device: Device) -> JobResult:
        folders.append(folder.parent.name)
        result = in_fp16(folder, device)
        return result.model_copy(update={"residency": REFUSED}) if len(result.outputs[0].tensors) > 1 else result

    (result,) = examine(CPU, (issue,), run=refuses_two)
    assert folders == ["all", "0", "1"]
    assert (result.judgement, result.evidence) == ("absent", "every output is right")


def test_examine_tells_who_was_examined_and_what_is_done() -> None:
    told: list[str] = []
    (result,) = examine(CPU, ISSUES[:1], on_issue=told.append)
    assert told == ["#9249"]
    assert (result.device, result.runtime, result.judgement) == ("host CPU (XNNPACK)", "2.3.0", "not testable")


def test_the_summary_is_one_line_an_issue_that_is_not_absent() -> None:
    def made(number: str, judgement: Any, evidence: str) -> KnownIssueResult:
        return KnownIssueResult(
            number=number,
            title="t",
            url="u",
            device="llvmpipe",
            runtime="2.3.0",
            judgement=judgement,
            evidence=evidence,
        )

    results = (made("#1", "shown", "inf"), made("#2", "absent", "right"), made("#3", "not testable", "refused"))
    assert summary(results) == (
        "known issues of llvmpipe, runtime 2.3.0:\n  #1 shown: inf\n  #3 not testable: refused\n  absent: #2"
    )
    assert summary(()) == "known issues: none tried"
