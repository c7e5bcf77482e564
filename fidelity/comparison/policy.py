"""The policy: which limits apply to which kind of run, apart from the metrics they limit.

A policy is a TOML file, so that a stored run can be judged again under another one. It is checked
when it is read: a limit that can never fail, or that fails on the wrong side, is worse than none.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from fidelity.comparison.metrics import ERROR_RATIO, METRICS, OutputMetric, SetMetric, ThreeWayMetric
from fidelity.comparison.run_facts import RunKind
from fidelity.errors import BadInput
from fidelity.record import Record, describe

DEFAULT = "default"
ENOUGH = ("correlation", "relative_l2")  # a run kind that limits neither is not judged at all

_Bound = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Limit(Record):
    """A closed interval that every figure of a metric must lie in; at least one side is given."""

    at_least: _Bound | None = None
    at_most: _Bound | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("limits nothing: give at_least, at_most or both")
        return self

    def excess(self, figure: float) -> float:
        """How far outside the limit a figure is: 0 or less is inside, NaN is infinitely far outside."""
        if math.isnan(figure):
            return math.inf
        below = -math.inf if self.at_least is None else self.at_least - figure
        above = -math.inf if self.at_most is None else figure - self.at_most
        return max(below, above)

    def __str__(self) -> str:
        sides = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{word} {value:.9g}" for word, value in sides if value is not None)


def _sound(limits: dict[str, Limit]) -> dict[str, Limit]:
    for name, limit in limits.items():
        metric = METRICS.get(name)
        if metric is None:
            raise ValueError(f"unknown metric {name!r}; known are {', '.join(METRICS)}")
        if problem := _unsound(metric, limit):
            raise ValueError(f"metric {name!r}: {problem}")
    return limits


def _unsound(metric: OutputMetric | SetMetric | ThreeWayMetric, limit: Limit) -> str | None:
    """Why the limit is on the wrong side, can never fail or can never pass; None when it is sound."""
    scale = metric.scale
    problems = (
        (scale.better == "higher" and limit.at_most is not None, "higher is better: give at_least only"),
        (scale.better == "lower" and limit.at_least is not None, "lower is better: give at_most only"),
        (
            scale.better == "nearer" and (limit.at_least is None or limit.at_most is None),
            f"near to {scale.ideal:g} is better: give both at_least and at_most",
        ),
        (limit.excess(scale.ideal) > 0, f"the best figure, {scale.ideal:g}, would fail it"),
        (
            limit.at_least is not None and limit.at_least <= scale.least,
            f"at_least {limit.at_least} can never fail, since no figure is below {scale.least:g}",
        ),
        (
            limit.at_most is not None and limit.at_most >= scale.greatest,
            f"at_most {limit.at_most} can never fail, since no figure is above {scale.greatest:g}",
        ),
    )
    return next((words for wrong, words in problems if wrong), None)


Limits = Annotated[dict[str, Limit], AfterValidator(_sound)]
"""Limits by metric name."""


class Requirements(Record):
    """What a run must show before its figures count."""

    residency: bool  # a GPU run: every node on the device, in one partition
    determinism: bool  # some input ran twice, and no repeat differed in any bit
    fp16: bool  # a GPU run asked for default precision must have had fp16, not only said so


class RunLimits(Record):
    """The limits of one kind of run; they go before those of `every_run`."""

    kind: RunKind
    limits: Limits


class BenchLimits(Record):
    """What `fidelity bench --baseline` holds a device to."""

    median_regression: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class Policy(Record):
    """A whole policy. A kind of run that it does not list cannot pass; without `bench`, no time fails."""

    name: Annotated[str, Field(min_length=1)]
    require: Requirements
    every_run: Limits
    runs: tuple[RunLimits, ...]
    bench: BenchLimits | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        kinds = [run.kind for run in self.runs]
        for run in self.runs:
            if kinds.count(run.kind) > 1:
                raise ValueError(f"runs: {run.kind} is listed twice")
            if run.kind.precision == "unknown":
                raise ValueError(f"runs: {run.kind}: an unknown precision cannot have limits")
            if not set(ENOUGH) & (set(run.limits) | set(self.every_run)):
                raise ValueError(f"runs: {run.kind}: limits neither {' nor '.join(ENOUGH)}")
            if run.kind.precision != "fp16" and ERROR_RATIO.name in (*run.limits, *self.every_run):
                raise ValueError(f"runs: {run.kind}: {ERROR_RATIO.name} is for runs in fp16: no other is emulated")
        return self

    def limits_of(self, kind: RunKind) -> dict[str, Limit] | None:
        """Every limit of one kind of run, by metric; None when the policy does not list the kind."""
        for run in self.runs:
            if run.kind == kind:
                return {**self.every_run, **run.limits}
        return None


def fixed_limits(limits: Mapping[str, Limit]) -> dict[str, Limit]:
    """The limits on the outputs themselves, without the one on how they compare with the expected ones."""
    return {name: limit for name, limit in limits.items() if name != ERROR_RATIO.name}


def load_policy(which: str | Path = DEFAULT) -> Policy:
    """The built-in policy `default`, or the one in the TOML file at a path.

    Raises BadInput, in one line that names the file and the field, when the file is missing or is
    not TOML, for an unknown field, kind or metric, and for a limit that is not a finite number, is
    on the wrong side, or can never fail.
    """
    if which == DEFAULT:
        text = (files("fidelity.comparison") / "policies" / "default.toml").read_text(encoding="utf-8")
        return _parse(text, "the built-in policy")
    path = Path(which)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: policy cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: policy is not UTF-8 text") from error
    return _parse(text, str(path))


def _parse(text: str, where: str) -> Policy:
    try:
        return Policy.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{where}: policy is not TOML: {error}") from error
    except ValidationError as error:
        raise BadInput(f"{where}: {describe(error)}") from error
