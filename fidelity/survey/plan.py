"""What a survey goes through: a TOML file of models, or the built-in one of small timm models."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from fidelity.errors import BadInput
from fidelity.record import Record, describe

BUILT_IN = "small"
_LARGEST = 1 << 20  # bytes of a plan: some thousand models


class Entry(Record):
    """One model of a survey.

    `expect` is `pass` for a model that must pass, `any` for one that is only looked at. `seconds` and
    `gigabytes` bound everything that is done for it: a converter may hang, or take all memory.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.\-]{0,63}$")
    family: str
    source: str
    weights: str = "seeded"
    rewrites: str = "all"
    expect: Literal["pass", "any"] = "any"
    seconds: float = Field(default=900.0, gt=0)
    gigabytes: float = Field(default=8.0, gt=0)


class Plan(Record):
    """The models, in the order of the table, and the inputs that all of them run on (None: all there are)."""

    title: str
    inputs: tuple[str, ...] | None = None
    models: tuple[Entry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [entry.name for entry in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two models are called {twice[0]!r}")
        return self


def load_plan(path: Path | None) -> Plan:
    """The plan in the TOML file at `path`; the built-in one for None. Raises BadInput."""
    if path is None:
        name = f"built-in {BUILT_IN}"
        text = resources.files("fidelity.survey").joinpath(f"plans/{BUILT_IN}.toml").read_text("utf-8")
    else:
        name, text = str(path), _text(path)
    try:
        return Plan.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"survey {name}: not TOML: {error}") from error
    except ValidationError as error:
        raise BadInput(f"survey {name}: {describe(error)}") from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise BadInput(f"survey {path}: larger than {_LARGEST >> 20} MiB")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"survey {path}: cannot be read as text: {error}") from error


def only(plan: Plan, names: Sequence[str] | None) -> Plan:
    """The plan with these models alone, in its own order. Raises BadInput for a name that it does not have."""
    if names is None:
        return plan
    known = [entry.name for entry in plan.models]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"the survey has no model {unknown[0]!r}" if unknown else "no model is named"
        raise BadInput(f"--only: {what}: it has {', '.join(known)}")
    return plan.model_copy(update={"models": tuple(entry for entry in plan.models if entry.name in names)})
