"""The published JSON Schema of report.json, made from the record itself.

`python -m fidelity.report.schema` writes it again after a change of the record; a test fails while
the committed file is another than the generated one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from fidelity.record import write_text
from fidelity.report.document import SCHEMA_VERSION, GateReport

SCHEMA_PATH = Path(__file__).parent / "schemas" / f"report-{SCHEMA_VERSION}.json"


class WrittenForm(GenerateJsonSchema):
    """The schema of what is written: every field is there, those with a default too."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """True: storage leaves no field out, so a document without one is no report."""
        return True


def report_schema() -> str:
    """The JSON Schema (draft 2020-12) of what `GateReport.to_json` gives, as JSON text.

    NaN and infinity are the strings that storage makes of them.
    """
    schema = GateReport.model_json_schema(mode="serialization", schema_generator=WrittenForm)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:fidelity:report:{SCHEMA_VERSION}",
    }
    return json.dumps({**head, **schema}, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text(SCHEMA_PATH, report_schema())
