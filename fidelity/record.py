"""The frozen data class that every stage stores as JSON and every later stage reads back.

Records are pydantic models because what is read back is untrusted (device output, goldens, stored
runs): unknown fields, missing fields and wrong types are refused with the file and field named,
and the JSON Schema that is published is derived from the same definition.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, WithJsonSchema

from fidelity.errors import BadInput, EnvironmentMissing

Figure = Annotated[
    float,
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}),
]
"""A measured float64. JSON has no NaN or infinity, so those three are stored as strings: a NaN
must survive storage, since it is a finding."""


class Record(BaseModel):
    """Immutable, strict-keyed, JSON-storable data. Subclasses only declare fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    def to_json(self) -> str:
        """The record as indented JSON with a final newline; same record, same text."""
        return self.model_dump_json(indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Store the record at `path`, whole or not at all (written beside, then renamed)."""
        write_text(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record stored at `path`.

        Raises BadInput when the file is missing, is not JSON, or has a wrong, missing or unknown
        field; the message names the file and the field.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise BadInput(f"{path}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """One line that names the first wrong field of a record and how many others are wrong."""
    problems = error.errors(include_url=False, include_input=False)
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"field {where!r}: {first['msg']}{more}"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically: a reader sees the old file or the whole new one.

    Raises EnvironmentMissing when the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EnvironmentMissing(f"{path}: cannot be written: {error.strerror}") from error


def canonical_json(value: Any) -> bytes:
    """JSON bytes that depend on the value alone (sorted keys, no spaces): what digests are over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
