"""The arithmetic profile: a file that says how one device computes, op kind by op kind.

Schema-checked when read: an unknown kind, field, order or number is refused by name, since a
profile that is half understood predicts something else. Shipped ones lie in profiles/; a device
that has none is measured by `fidelity reveal`.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from fidelity.arithmetic.float16 import Conversion
from fidelity.arithmetic.rules import KINDS, RULE_OF, Rule
from fidelity.errors import BadInput
from fidelity.record import Record, describe

_FOLDER = "profiles"


class Origin(Record):
    """Where a profile comes from.

    `measured`: every field was found by experiment on the device that `runtime`, `driver` and
    `adapter` name. `declared`: taken from a document, or from a standard; `source` says which.
    `notes` are what the experiments could not tell, or what the document leaves open.
    """

    kind: Literal["measured", "declared"]
    source: str
    date: str
    runtime: str | None = None
    driver: str | None = None
    adapter: str | None = None
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _measured_where(self) -> Self:
        if self.kind == "measured" and not (self.runtime and self.driver and self.adapter):
            raise ValueError("a measured profile names runtime, driver and adapter")
        return self


class Profile(Record):
    """How one device computes.

    `inputs`, `weights`, `outputs`: how the graph's inputs, its float32 constants and its outputs are
    converted where they enter and leave; None where they stay float32. Outputs are float32 again
    afterwards. A kind without a rule cannot be computed under this profile.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")
    title: str
    origin: Origin
    inputs: Conversion | None = None
    weights: Conversion | None = None
    outputs: Conversion | None = None
    rules: dict[str, Rule]

    @model_validator(mode="after")
    def _known(self) -> Self:
        for kind, rule in self.rules.items():
            if kind not in RULE_OF:
                raise ValueError(f"rules: unknown op kind {kind!r}; known are {', '.join(KINDS)}")
            if not isinstance(rule, RULE_OF[kind]):
                raise ValueError(f"rules: {kind} takes the rule {RULE_OF[kind].__name__.lower()!r}, not {rule.rule!r}")
        return self

    @property
    def is_float32(self) -> bool:
        """Whether every number stays IEEE float32, so that an operation needs no rule to be computed."""
        return "float16" not in self.model_dump_json(include={"inputs", "weights", "outputs", "rules"})

    @property
    def stores_float16(self) -> bool:
        """Whether what flows between operations is float16."""
        return self.inputs is not None


def shipped() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    found = (files("fidelity.arithmetic") / _FOLDER).iterdir()
    return tuple(sorted(entry.name.removesuffix(".json") for entry in found if entry.name.endswith(".json")))


def load_profile(which: str) -> Profile:
    """A shipped profile by name, or the one in the JSON file at a path.

    Raises BadInput, in one line that names the file and the field, for a name that is neither, and
    for a file with an unknown kind, field or order, or a value out of range.
    """
    if which in shipped():
        return _parse((files("fidelity.arithmetic") / _FOLDER / f"{which}.json").read_bytes(), f"profile {which}")
    path = Path(which)
    if not path.is_file():
        raise BadInput(f"profile {which!r}: neither a file nor a shipped profile; those are {', '.join(shipped())}")
    try:
        return _parse(path.read_bytes(), str(path))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error


def _parse(content: bytes, where: str) -> Profile:
    try:
        return Profile.model_validate_json(content)
    except ValidationError as error:
        raise BadInput(f"{where}: {describe(error)}") from error
