"""The page says what report.json says: every number, every verdict, every name, and nothing runs in it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jinja2
import pytest
from test_report_examples import EXAMPLES, HOSTILE, broken, passing, refused
from test_report_page_reader import Node, read_page

from fidelity.report.html import html, words
from fidelity.report.page import environment
from fidelity.report.printable import printable
from fidelity.report.readings import CORRELATION, RELATIVE_L2


@cache
def page_of(name: str) -> str:
    """The page of an example."""
    return html(EXAMPLES[name]())


@cache
def root_of(name: str) -> Node:
    """The same, read."""
    return read_page(page_of(name))


WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def stored(value: Any) -> Iterator[float | str]:
    """Every number and every string of a JSON document, keys too; a NaN is the string NaN."""
    if isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from stored(part)
    elif isinstance(value, list):
        for part in value:
            yield from stored(part)
    elif isinstance(value, str | int | float):
        yield value


def wrong_numbers(page: str, report: str) -> list[str]:
    """Every number of the page that is not one of the report's, or is shown as another."""
    values = list(stored(json.loads(report)))
    numbers = {value for value in values if not isinstance(value, str)}
    strings = printable(" ".join(str(value) for value in values if isinstance(value, str)), 10**9)
    root = read_page(page)
    wrong = [data.text() for data in root.find("data") if not shows_one_of(data, numbers, strings)]
    # a decimal anywhere else must be part of a stored text
    loose = root.find("body")[0].text(lambda node: node.tag in {"data", "svg"})
    wrong += [token for token in re.findall(r"\d+\.\d+(?:e-?\d+)?", loose) if token not in strings]
    return wrong


def shows_one_of(data: Node, numbers: set[float | str], strings: str) -> bool:
    value, text = data.attributes["value"], data.text().replace("\u202f", "")
    if value in WORDS:
        return value == text and value in strings
    unit = float(data.attributes.get("data-unit", "1"))
    mantissa, _, exponent = text.partition("e")
    half_a_digit = 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])) * unit
    return float(value) in numbers and abs(float(text) * unit - float(value)) <= half_a_digit * (1 + 1e-9)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_number_is_the_reports(name: str) -> None:
    report = EXAMPLES[name]()
    page = page_of(name)
    assert wrong_numbers(page, report.to_json()) == []
    assert len(root_of(name).find("data")) > 150


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (">0.9999844</data>", ">0.9999944</data>"),
        (">186.5</data>", ">187.5</data>"),
        ('<data value="93671424">', '<data value="93671425">'),
        ("<h2>Runs</h2>", "<h2>Runs 0.99</h2>"),
        (">9.02</data> s", ">9.03</data> s"),
    ],
)
def test_a_number_that_is_not_the_reports_is_noticed(right: str, wrong: str) -> None:
    page = page_of("passing")
    assert right in page
    assert wrong_numbers(page.replace(right, wrong, 1), passing().to_json()) != []


@pytest.mark.parametrize("name", ["passing", "collapsed", "broken"])
def test_every_cell_of_the_input_table_is_its_own_inputs(name: str) -> None:
    report = EXAMPLES[name]()
    (table,) = root_of(name).find("table", class_="inputs")
    rows = table.find("tbody")[0].find("tr")
    assert len(rows) == len(report.subject.inputs)
    for row, item in zip(rows, report.subject.inputs, strict=True):
        assert row.find("th")[0].text() == f"{item.name}{item.kind}"
        cells = row.find("td")
        assert len(cells) == 2 * len(report.runs)
        for number, run in enumerate(report.runs):
            record = next((r for r in run.comparison.outputs if r.input == item.name), None)
            for cell, metric in zip(cells[2 * number :], (CORRELATION, RELATIVE_L2), strict=False):
                check_cell(cell, run.comparison.asked, item.name, record and record.metrics.get(metric))
                if record is None and item.name in run.comparison.asked:
                    assert "no figure" in cell.text()


def check_cell(cell: Node, asked: tuple[str, ...], name: str, figure: float | None) -> None:
    if name not in asked:
        assert cell.text() == "\N{EN DASH}"
    elif figure is None:
        assert cell.find("span", class_="undefined")
        assert "fails" in cell.text()
    else:
        assert [float(data.attributes["value"]) for data in cell.find("data")] == [figure]


@pytest.mark.parametrize("name", ["passing", "collapsed"])
def test_the_worst_cell_of_each_run_is_marked_in_words(name: str) -> None:
    report = EXAMPLES[name]()
    (table,) = root_of(name).find("table", class_="inputs")
    rows = table.find("tbody")[0].find("tr")
    for number, run in enumerate(report.runs):
        figures = {r.input: r.metrics[CORRELATION] for r in run.comparison.outputs}
        column = {item.name: row.find("td")[2 * number] for row, item in zip(rows, report.subject.inputs, strict=True)}
        marked = [place for place, cell in column.items() if "worst" in cell.text()]
        assert marked == [min(figures, key=lambda place: figures[place])]
        limit = report.policy.limits_of(run.judgement.kind)[CORRELATION].at_least  # type: ignore[index]
        failing = {place for place, cell in column.items() if "✗ fails" in cell.text()}
        assert failing == {place for place, figure in figures.items() if figure < limit}  # type: ignore[operator]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_verdict_is_first_and_in_words(name: str) -> None:
    report = EXAMPLES[name]()
    root = root_of(name)
    word, other = ("PASS", "FAIL") if report.passed else ("FAIL", "PASS")
    assert root.find("h1")[0].text().split()[-1] == word
    assert root.find("title")[0].text().startswith(f"{word}: ")
    assert other not in root.find("header")[0].text()
    assert printable(report.headline) in root.find("header")[0].text()
    for badge in root.find("span", class_="badge"):
        assert badge.text().split()[0] == ("✓" if "pass" in badge.attributes["class"].split() else "✗")


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_reason_run_and_missing_run_is_told(name: str) -> None:
    report = EXAMPLES[name]()
    text = root_of(name).text()
    said = [reason.message for reason in report.reasons]
    said += [run.label for run in report.runs]
    said += [f"{n.label} on {n.device}: {n.reason}" for n in report.not_tested]
    said += [
        report.run.command,
        report.subject.weights_sha256,
        *(a.manifest.sha256 for a in report.artefacts),
    ]
    said += [ablation.why for ablation in report.ablations]
    said += [decision.refused for decision in report.proof.decisions if decision.refused]
    for message in said:
        assert " ".join(printable(message).split()) in text


def test_what_a_person_must_not_miss() -> None:
    text = {name: root_of(name).text() for name in EXAMPLES}
    assert "817 of 817 nodes in 1 partition" in text["passing"]
    assert "50 of 817 nodes in 7 partitions" in text["refused"]
    assert "not a result: the run is not resident" in text["refused"]
    assert "not a result" not in text["collapsed"]
    assert "(272 times)" in text["refused"]
    assert "fp16 (default was asked)" in text["passing"]
    assert "crashed signal 11" in text["broken"]
    assert "Nothing was compared, so none of the 16 limits is met." in text["broken"]
    assert refused().artefacts[0].audit.counts == {"high_rank": 136}
    assert "NOT_EQUIVALENT" in text["broken"]
    assert "NOT_EQUIVALENT" not in text["passing"]


def test_an_empty_report_says_what_there_is_not() -> None:
    empty = passing().model_copy(update={"runs": (), "artefacts": (), "passed": False})
    text = read_page(html(empty)).text()
    assert "Nothing was run." in text
    assert "No artefact was audited." in text
    assert "none was made" in text
    assert "0 of 0 runs" in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_needs_nothing_and_runs_nothing(name: str) -> None:
    root = root_of(name)
    nodes = list(root.walk())
    forbidden = {"script", "iframe", "object", "embed", "link", "img", "form", "base", "foreignobject"}
    assert not forbidden & {node.tag for node in nodes}
    for node in nodes:
        assert not [key for key in node.attributes if key.startswith("on") or key in {"src", "action"}]
        # within the page, or to a file of the run's folder that the reader opens himself
        assert node.attributes.get("href", "#").startswith(("#", "./") if node.tag == "a" else "#")
        assert node.attributes.get("xlink:href", "#").startswith("#")
    (style,) = root.find("style")
    assert "url(" not in style.text()
    assert "@import" not in style.text()
    (policy,) = root.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"] == "default-src 'none'; style-src 'unsafe-inline'"


@pytest.mark.parametrize("name", EXAMPLES)
def test_ids_are_unique_and_links_lead_somewhere(name: str) -> None:
    nodes = list(root_of(name).walk())
    ids = [node.attributes["id"] for node in nodes if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    links = {node.attributes["href"] for node in nodes if "href" in node.attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert name in ("located", "hostile") or all(link.startswith("#") for link in links)


def test_hostile_names_are_shown_as_text() -> None:
    root = root_of("hostile")
    text = root.text()
    for name in HOSTILE:
        assert printable(name) in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page_of("hostile"))
    assert "49" not in {node.text() for node in root.walk()}  # {{ 7*7 }} is text


def test_a_template_cannot_show_a_raw_float_or_nothing() -> None:
    made = environment(words())
    for value in (0.999983, math.nan, None):
        with pytest.raises(TypeError, match="a template shows"):
            made.from_string("{{ value }}").render(value=value)
    with pytest.raises(jinja2.UndefinedError):
        made.from_string("{{ nothing }}").render()
    shown = made.from_string("{{ value }}").render(value="<b>\x00")
    assert shown == "&lt;b&gt;\\x00"


def test_the_same_report_gives_the_same_page() -> None:
    assert page_of("broken") == html(type(broken()).model_validate_json(broken().to_json()))
    assert page_of("collapsed") != page_of("broken")
