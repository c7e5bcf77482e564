"""What the gate is asked to do: a TOML file, or the built-in PE-Core B/16 configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from fidelity.devices.discovery import on_cpu
from fidelity.devices.job import Precision
from fidelity.errors import BadInput
from fidelity.record import Record, describe
from fidelity.tflite.manifest import WeightsDtype

BUILT_IN = "pe-core-b16"


class RunPlan(Record):
    """One run of one artefact on one device.

    With `worst_of` and `worst`, only the inputs that the named earlier run was worst on. `repeat`
    is the number of inputs that run twice, for the determinism check.
    """

    label: str
    device: str
    precision: Precision = "default"
    weights_dtype: WeightsDtype
    worst_of: str | None = None
    worst: int | None = Field(default=None, ge=1)
    repeat: int = Field(default=1, ge=1)
    timeout_seconds: float = Field(default=900.0, gt=0)

    @model_validator(mode="after")
    def _worst_go_together(self) -> Self:
        if (self.worst_of is None) != (self.worst is None):
            raise ValueError("worst_of and worst go together")
        return self


class ArtefactSize(Record):
    """The size that the shipped artefact must have, in bytes, within a relative tolerance."""

    bytes: int = Field(gt=0)
    tolerance: float = Field(gt=0, lt=1)


class GateConfig(Record):
    """Source, weights, rewrites, inputs and runs; limits are the policy's, not the configuration's.

    `labels` is what `fidelity labels` wrote, for how labels and images are ordered by the embeddings.
    """

    source: str
    weights: str = "seeded"
    seed: int = 0
    rewrites: str = "all"
    images: str = "golden/images"
    labels: str | None = None
    only: tuple[str, ...] | None = None
    runs: tuple[RunPlan, ...] = Field(min_length=1)
    artefact: ArtefactSize | None = None

    @field_validator("runs")
    @classmethod
    def _labels(cls, runs: tuple[RunPlan, ...]) -> tuple[RunPlan, ...]:
        seen: list[str] = []
        for run in runs:
            if folder_name(run.label) in map(folder_name, seen):
                raise ValueError(f"two runs are called {run.label!r}, or have names that make one folder name")
            if run.worst_of is not None and run.worst_of not in seen:
                raise ValueError(f"run {run.label!r}: worst_of names no earlier run: {run.worst_of!r}")
            seen.append(run.label)
        return runs


def load_config(path: Path | None) -> GateConfig:
    """The configuration in the TOML file at `path`; the built-in one for None. Raises BadInput."""
    if path is None:
        name = f"built-in {BUILT_IN}"
        text = resources.files("fidelity.gating").joinpath(f"configs/{BUILT_IN}.toml").read_text("utf-8")
    else:
        name = str(path)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"configuration {path}: cannot be read as text: {error}") from error
    try:
        return GateConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"configuration {name}: not TOML: {error}") from error
    except ValidationError as error:
        raise BadInput(f"configuration {name}: {describe(error)}") from error


def overridden(
    config: GateConfig, changes: Mapping[str, Any], images: Path | None, devices: Sequence[str] | None
) -> GateConfig:
    """The configuration with options of the command line in place of its own.

    Another source, weights or rewrites make another artefact, so the configured size no longer
    applies to it. With `devices`, the runs on those kinds of devices alone are kept, and each is made on
    every device of its kind. Raises BadInput for a device of a kind that the configuration has no run on.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    if images is not None:
        given["images"] = str(images)
    if {"source", "rewrites"} & set(given):
        given["artefact"] = None
    if devices is not None:
        given["runs"] = tuple(run for device in dict.fromkeys(devices) for run in _runs_on(device, config, devices))
    return config.model_copy(update=given)


def _runs_on(device: str, config: GateConfig, devices: Sequence[str]) -> list[RunPlan]:
    """The configured runs of a device's kind, asked of it; its name in the label where it is not the only one."""
    kind = [other for other in dict.fromkeys(devices) if on_cpu(other) == on_cpu(device)]
    runs = [run for run in config.runs if on_cpu(run.device) == on_cpu(device)]
    if not runs:
        raise BadInput(f"device {device!r}: the configuration has no run on a {'CPU' if on_cpu(device) else 'GPU'}")
    suffix = f" {device}" if len(kind) > 1 else ""
    return [
        run.model_copy(
            update={
                "device": device,
                "label": run.label + suffix,
                "worst_of": run.worst_of and run.worst_of + suffix,
            }
        )
        for run in runs
    ]


def folder_name(label: str) -> str:
    """A run label as a folder name."""
    return "".join(char if char.isalnum() else "-" for char in label.lower())
