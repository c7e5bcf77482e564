"""The published JSON Schema is the record's, takes every report, and refuses what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from test_report_examples import EXAMPLES, broken, passing

from fidelity.report.document import SCHEMA_VERSION
from fidelity.report.schema import SCHEMA_PATH, report_schema

VALIDATOR = jsonschema.Draft202012Validator(json.loads(report_schema()))


def test_the_committed_schema_is_the_generated_one() -> None:
    assert SCHEMA_PATH.name == f"report-{SCHEMA_VERSION}.json"
    remedy = "run: python -m fidelity.report.schema"
    assert SCHEMA_PATH.read_text(encoding="utf-8") == report_schema(), remedy


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(report_schema()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_report_is_valid_under_the_schema(name: str) -> None:
    VALIDATOR.validate(json.loads(EXAMPLES[name]().to_json()))


def test_a_nan_is_stored_as_a_string_that_the_schema_allows() -> None:
    stored = json.loads(broken().to_json())
    example = stored["proof"]["sites"][0]["counter_example"]
    assert example["got"] == "NaN"
    example["got"] = "nan"
    assert not VALIDATOR.is_valid(stored)


MUTANTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a field is missing": lambda r: r.pop("not_tested"),
    "a field with a default is missing": lambda r: r.pop("ablations"),
    "the version is missing": lambda r: r.pop("schema_version"),
    "a deep field with a default is missing": lambda r: r["runs"][0]["result"].pop("residency"),
    "a field is unknown": lambda r: r.update(verdict="good"),
    "passed is a word": lambda r: r.update(passed="yes"),
    "another version": lambda r: r.update(schema_version=SCHEMA_VERSION + 1),
    "an unknown severity": lambda r: r["reasons"].append(
        {"stage": "run", "severity": "fine", "code": "x", "message": "y"}
    ),
    "a figure is text": lambda r: r["runs"][0]["comparison"]["outputs"][0]["metrics"].update(correlation="1"),
    "a hash is short": lambda r: r["artefacts"][0]["manifest"].update(sha256="abc"),
    "an unknown status": lambda r: r["runs"][0]["result"].update(status="fine"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_what_is_no_report_is_refused(name: str) -> None:
    stored = json.loads(passing().to_json())
    MUTANTS[name](stored)
    assert not VALIDATOR.is_valid(stored)
