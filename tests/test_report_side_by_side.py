"""Two runs side by side: what differs is told and nothing else, every number is the record's, nothing is judged."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from test_report_examples import EXAMPLES, HOSTILE, collapsed, passing
from test_report_html import wrong_numbers
from test_report_page_reader import Node, read_page

from fidelity.comparison.policy import Limit
from fidelity.report.comparison_page import comparison_html
from fidelity.report.printable import printable
from fidelity.report.side_by_side import Figures, RunComparison, figures, side_by_side

PAIRS = [("collapsed", "passing"), ("passing", "located"), ("broken", "hostile"), ("hostile", "hostile")]


@cache
def compared(a: str, b: str) -> RunComparison:
    return side_by_side(EXAMPLES[a](), EXAMPLES[b](), ("run-a", "run-b"))


@cache
def page(a: str, b: str) -> str:
    return comparison_html(compared(a, b))


def section(a: str, b: str, name: str) -> Node:
    (found,) = read_page(page(a, b)).find("section", id=name)
    return found


def test_equal_reports_differ_in_nothing() -> None:
    found = side_by_side(passing(), passing(), ("x", "x"))
    assert (found.differences, found.only_a, found.only_b) == ((), (), ())
    assert all(pair.equal for pair in found.artefacts)
    assert {run.correlation.change for run in found.runs} == {0.0}
    assert {pair.correlation.change for pair in found.inputs} == {0.0}


def test_the_change_is_b_minus_a_and_the_worst_of_each_side() -> None:
    found = compared("collapsed", "passing")
    gpu = next(run for run in found.runs if run.label == "gpu fp16")
    worst = [
        min(o.metrics["correlation"] for r in report.runs if r.label == "gpu fp16" for o in r.comparison.outputs)
        for report in (collapsed(), passing())
    ]
    assert (gpu.correlation.a, gpu.correlation.b) == tuple(worst)
    assert gpu.correlation.change == worst[1] - worst[0] > 1
    assert (gpu.a.passed, gpu.b.passed) == (False, True)  # type: ignore[union-attr]


def test_a_run_that_only_one_side_made() -> None:
    gone = next(run for run in compared("collapsed", "passing").runs if run.label == "gpu fp32")
    assert gone.a is None
    assert gone.b is not None
    assert (gone.correlation.a, gone.correlation.change) == (None, None)
    row = next(r for r in section("collapsed", "passing", "runs").find("tr") if r.text().startswith("gpu fp32"))
    assert "not run" in row.text()


def test_every_input_of_both_with_its_own_figures() -> None:
    found = compared("collapsed", "passing")
    for run in passing().runs:
        own = {(p.input, p.output): p.correlation.b for p in found.inputs if p.label == run.label}
        stored = {(o.input, o.output): o.metrics["correlation"] for o in run.comparison.outputs}
        assert own == stored


def test_the_worst_of_a_run_is_the_greatest_error_and_ratio() -> None:
    gpu = next(run for run in compared("located", "passing").runs if run.label == "gpu fp16")
    for report, error, ratio in (
        (EXAMPLES["located"](), gpu.relative_l2.a, gpu.error_ratio.a),
        (passing(), gpu.relative_l2.b, gpu.error_ratio.b),
    ):
        (run,) = [run for run in report.runs if run.label == "gpu fp16"]
        assert error == max(output.metrics["relative_l2"] for output in run.comparison.outputs)
        assert ratio == max(output.ratio for output in run.expected.outputs)  # type: ignore[union-attr,type-var]
    assert gpu.relative_l2.change < 0  # type: ignore[operator]


def numbers(node: Node) -> list[float]:
    return [float(data.attributes["value"]) for data in node.find("data")]


def shown(*pairs: Figures) -> list[float]:
    """What a row shows of pairs: both sides, and the change unless there is none."""
    return [value for pair in pairs for value in (pair.a, pair.b, pair.change or None) if value is not None]


@pytest.mark.parametrize(("a", "b"), [("collapsed", "passing"), ("passing", "located")])
def test_every_figure_stands_at_its_own_place(a: str, b: str) -> None:
    found, root = compared(a, b), read_page(page(a, b))
    for run, group in zip(found.runs, section(a, b, "runs").find("tbody"), strict=True):
        lines = [
            [float(data.attributes["value"]) for cell in row.find("td", class_="number") for data in cell.find("data")]
            for row in group.find("tr")
        ]
        pairs = (run.correlation, run.relative_l2, run.error_ratio)
        assert lines == [shown(pair) for pair in pairs[: len(lines)]]
        assert len(lines) == (3 if shown(run.error_ratio) else 2)
    for label in dict.fromkeys(pair.label for pair in found.inputs):
        (region,) = root.find("div", **{"aria-label": f"Correlation of every input in {label}"})
        rows = region.find("tbody")[0].find("tr")
        pairs_of = [pair for pair in found.inputs if pair.label == label]
        for row, pair in zip(rows, pairs_of, strict=True):
            assert row.find("th")[0].text() == f"{pair.input}{pair.output}"
            assert numbers(row) == shown(pair.correlation)


def test_facts_that_differ_are_told_and_no_others() -> None:
    subject = passing().subject.model_copy(update={"weights": "pretrained", "seed": 7})
    run = passing().run.model_copy(update={"versions": {**passing().run.versions, "timm": "2.0.0", "new": "1"}})
    moved = passing().artefacts[0]
    other = moved.model_copy(update={"manifest": moved.manifest.model_copy(update={"sha256": "0" * 64})})
    every = {**passing().policy.every_run, "zero_share": Limit(at_most=0.5)}
    policy = passing().policy.model_copy(update={"name": "other", "every_run": every})
    proof = passing().proof.model_copy(update={"contracts": passing().proof.contracts[:1]})
    changed = {"subject": subject, "run": run, "artefacts": (other, passing().artefacts[1]), "policy": policy}
    found = side_by_side(passing(), passing().model_copy(update=changed | {"proof": proof}), ("a", "b"))
    told = {each.what: (each.a, each.b) for each in found.differences}
    assert told.pop("rewrites")[1] == "split_qkv v1"
    assert told == {
        "weights": ("seeded", "pretrained"),
        "seed": ("0", "7"),
        "policy": ("default", "other"),
        "limit of zero_share, every run": ("at most 0", "at most 0.5"),
        "version of timm": ("1.0.31", "2.0.0"),
        "version of new": ("none", "1"),
    }
    assert [pair.equal for pair in found.artefacts] == [False, True]


def test_a_driver_that_changed_is_told() -> None:
    runs = [
        run.model_copy(
            update={
                "result": run.result.model_copy(
                    update={"adapter": run.result.adapter.model_copy(update={"driver": "new"})}
                )
            }
        )
        if run.result.adapter
        else run
        for run in passing().runs
    ]
    found = side_by_side(passing(), passing().model_copy(update={"runs": tuple(runs)}), ("a", "b"))
    assert {each.what for each in found.differences} == {
        "gpu fp16: adapter and driver",
        "gpu fp32: adapter and driver",
    }


def test_reasons_are_alike_but_for_their_numbers() -> None:
    reason = collapsed().reasons[1]
    nearly = reason.model_copy(update={"message": reason.message.replace("-0.0403", "0.123")})
    assert nearly.message != reason.message
    other = collapsed().model_copy(update={"reasons": (nearly, nearly, *collapsed().reasons[2:])})
    found = side_by_side(collapsed(), other, ("a", "b"))
    assert found.only_a == collapsed().reasons[:1]
    assert found.only_b == (nearly,)  # as often as it has it more


def test_where_it_begins_is_told_of_both() -> None:
    text = section("collapsed", "passing", "located").text()
    assert "op 36 SQUARED_DIFFERENCE in EvaBlock_5.norm1" in text
    assert "not located" in text
    found = collapsed().located[0].located
    assert numbers(section("collapsed", "passing", "located")) == [found.overflow.headroom, found.errors.actual]  # type: ignore[union-attr]
    assert 'id="located"' not in comparison_html(side_by_side(passing(), passing(), ("a", "b")))


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_every_number_of_the_page_is_the_records(a: str, b: str) -> None:
    assert wrong_numbers(page(a, b), compared(a, b).to_json()) == []
    assert len(read_page(page(a, b)).find("data")) > 20


def test_another_number_is_noticed() -> None:
    wrong = page("collapsed", "passing").replace(">0.9999844</data>", ">0.9999944</data>", 1)
    assert wrong != page("collapsed", "passing")
    assert wrong_numbers(wrong, compared("collapsed", "passing").to_json()) != []


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_a_comparison_is_stored_and_read_back(a: str, b: str, tmp_path: Path) -> None:
    found = compared(a, b)
    found.write(tmp_path / "c.json")
    assert RunComparison.read(tmp_path / "c.json").to_json() == found.to_json()
    jsonschema.validate(json.loads(found.to_json()), RunComparison.model_json_schema(mode="serialization"))


def test_hostile_names_are_text() -> None:
    root = read_page(page("broken", "hostile"))
    assert not {"script", "img", "iframe"} & {node.tag for node in root.walk()}
    assert all(printable(name) in root.text() for name in HOSTILE)


def test_no_difference_without_two_finite_figures() -> None:
    nan = float("nan")
    assert figures(nan, 1.0).change is None
    assert figures(float("inf"), float("inf")).change is None
    assert figures(None, 1.0).change is None
    assert figures(0.25, 0.75).change == 0.5
