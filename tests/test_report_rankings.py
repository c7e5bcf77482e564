"""The section on labels and likeness: counts, flips and their figures are the report's; hostile labels stay text."""

from __future__ import annotations

import json
from functools import cache

import jsonschema
import numpy as np
from test_report_example_parts import PHOTOGRAPHS, sha
from test_report_examples import HOSTILE, INPUTS, WIDTH, Arrays, embeddings, noisy, passing
from test_report_html import wrong_numbers
from test_report_page_reader import Node, read_page

from fidelity.comparison.ranking_findings import JudgedRanking, judge_ranking
from fidelity.comparison.retrieval import retrieval
from fidelity.comparison.zero_shot import zero_shot
from fidelity.models.label_set import LabelRecord
from fidelity.report.document import GateReport
from fidelity.report.html import SHOWN_FLIPS, html
from fidelity.report.schema import report_schema

NAMES = ("cat", "dog", HOSTILE[0], "car", "tree", "road", "sea")
RECORD = LabelRecord(
    model="open_clip:PE-Core-B-16",
    weights="seeded",
    weights_sha256=sha("text"),
    seed=0,
    context_length=32,
    labels=NAMES,
    templates=("a photo of a {}.",),
    versions={},
    file="labels.npy",
    sha256=sha("labels"),
    shape=(len(NAMES), WIDTH),
)


def rankings(relative: float, allowed: float) -> tuple[JudgedRanking, ...]:
    """Both tasks of outputs with such an error, where this much is allowed."""
    truth: Arrays = embeddings(INPUTS)
    actual = {name: outputs["embedding"] for name, outputs in noisy(truth, relative, 5).items()}
    rows = np.random.default_rng(3).standard_normal((len(NAMES), WIDTH))
    labels = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = retrieval(actual, truth, "embedding", PHOTOGRAPHS)
    assert likeness is not None
    found = (zero_shot(actual, truth, (NAMES, labels, sha("labels")), "embedding", INPUTS), likeness)
    return tuple(judge_ranking(each, dict.fromkeys(INPUTS, allowed)) for each in found)


@cache
def report() -> GateReport:
    """Two runs: one with ties alone, one with flips of every kind."""
    before = passing()
    runs = (
        before.runs[0].model_copy(update={"rankings": rankings(5e-3, 0.014)}),
        before.runs[1].model_copy(update={"rankings": rankings(1.5, 0.02)}),
        *before.runs[2:],
    )
    return before.model_copy(update={"labels": RECORD, "runs": runs})


def section() -> Node:
    (found,) = read_page(html(report())).find("section", id="rankings")
    return found


def test_every_number_is_the_reports_and_the_report_fits_its_schema() -> None:
    assert wrong_numbers(html(report()), report().to_json()) == []
    stored = json.loads(report().to_json())
    jsonschema.Draft202012Validator(json.loads(report_schema())).validate(stored)
    assert GateReport.model_validate_json(report().to_json()) == report()


def test_counts_and_flips_stand_at_their_own_places() -> None:
    judged = [each for run in report().runs for each in run.rankings]
    (summary, *tables) = section().find("tbody")
    assert len(summary.find("tr")) == len(judged) == 4
    for row, each in zip(summary.find("tr"), judged, strict=True):
        it, counts = each.ranking, each.counts
        cells = [cell.text() for cell in row.find("td")]
        assert cells[1:4] == [f"{count} of {it.asked}" for count in (it.top1, it.same_set, it.same_order)]
        assert cells[4:7] == [str(counts[kind]) for kind in ("real", "aligned", "tie")]
    assert judged[2].counts["real"] > 0
    flipped = [each for each in judged if each.flips]
    assert len(tables) == len(flipped)
    for body, each in zip(tables, flipped, strict=True):
        for row, flip in zip(body.find("tr"), each.flips[:SHOWN_FLIPS], strict=True):
            it = flip.inversion
            shown = [float(data.attributes["value"]) for data in row.find("data")]
            assert shown == [it.margin, it.error_needed, flip.allowed]
            assert flip.input in row.find("th")[0].text()
            assert row.find("td")[0].text() == flip.kind


def test_a_hostile_label_stays_text_and_no_labels_give_no_section() -> None:
    page = html(report())
    assert "<script>" not in page
    assert read_page(html(passing())).find("section", id="rankings") == []
