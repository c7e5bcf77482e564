"""One row of a survey: what became of one model at each stage, in figures and in words."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from fidelity.devices.job import PrecisionHad, Status
from fidelity.record import Figure, Record
from fidelity.survey.plan import Entry

Stage = Literal["build", "rewrite", "prove", "convert", "run", "predict", "locate", "report"]

Verdict = Literal[
    "pass",
    "not_proved",  # a rewritten model that is not the original
    "wrong",  # numbers outside the limits on a device that took every node
    "refused",  # not every node runs on the device
    "failed",  # the device could not run it at all
    "overflow",  # right here, and a site overflows in the emulated arithmetic
    "not_converted",  # the artefact is not what was asked for: a weight altered, an operator that none takes
    "stopped",  # a stage could not be done
]


class RewriteCount(Record):
    """What one rewrite did in a model: modules that it took, and those that it refused, counted by the reason.

    `modules` are the classes that it took. A rewrite that nothing concerned has neither.
    """

    rewrite: str
    taken: int
    modules: tuple[str, ...]
    refused: dict[str, int]


class RefusedKind(Record):
    """Nodes of one kind that the delegate refused for one reason, and the outermost modules that they are of."""

    op: str
    reason: str
    count: int
    modules: tuple[str, ...]


class OnDevice(Record):
    """One run of the model: residency, how right it is at its worst, and whether the judgement passes.

    `error_ratio` is the greatest error over the one that the device's arithmetic must give, None where
    that is not known; `identical_share` the least share of outputs that are as emulated, bit for bit.
    """

    device: str
    adapter: str | None
    status: Status
    precision_had: PrecisionHad
    nodes_on_device: int | None
    nodes_total: int | None
    partitions: int | None
    refused: tuple[RefusedKind, ...]
    worst_correlation: Figure | None
    worst_input: str | None
    worst_relative_l2: Figure | None
    error_ratio: Figure | None
    identical_share: Figure | None
    passed: bool

    @property
    def resident(self) -> bool:
        """Whether every node ran on the device, in one partition."""
        return bool(self.nodes_total) and self.nodes_on_device == self.nodes_total and self.partitions == 1


class Foretold(Record):
    """What the emulated arithmetic of a device says: its first overflow, the least headroom, what it lacks."""

    profile: str
    passed: bool
    overflow: str | None
    least_headroom: Figure | None
    at: str | None
    lacking: str | None


class Cause(Record):
    """One cause of a verdict, in a line, and what is to be done. `known`: an operator or module is named for it."""

    device: str | None
    message: str
    cure: str
    known: bool


class Stopped(Record):
    """The stage that could not be done, and why in one line. `passing`: of the machine, not of the model."""

    stage: Stage
    message: str
    passing: bool


class Row(Record):
    """One model. A stage that was not reached has nothing; `causes` explain every verdict that is not a pass."""

    entry: Entry
    verdict: Verdict
    parameters: int | None = None
    rewrites: tuple[RewriteCount, ...] = ()
    proved: bool | None = None
    nodes: int | None = None
    audit: dict[str, int] = Field(default_factory=dict)
    devices: tuple[OnDevice, ...] = ()
    foretold: tuple[Foretold, ...] = ()
    stopped: Stopped | None = None
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Figure = 0.0

    @model_validator(mode="after")
    def _passes_only_on_evidence(self) -> Self:
        passing = bool(self.devices) and all(each.passed for each in self.devices) and self.proved is True
        if self.verdict == "pass" and (not passing or self.causes or self.stopped):
            raise ValueError("a pass without a proof or a run, or with a cause against it")
        if (self.verdict == "stopped") != (self.stopped is not None):
            raise ValueError("stopped without a stage, or with another verdict")
        return self

    @property
    def explained(self) -> bool:
        """Whether it passes, or something is named that keeps it from passing."""
        return self.verdict == "pass" or any(cause.known for cause in self.causes)

    @property
    def as_expected(self) -> bool:
        """False for a model that must pass and does not."""
        return self.entry.expect == "any" or self.verdict == "pass"


class Survey(Record):
    """Every model's row, in the order of the plan. `not_tested` are devices that are not here, with the mend."""

    title: str
    devices: dict[str, str]
    inputs: tuple[str, ...] | None
    rows: tuple[Row, ...]
    not_tested: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every row is explained and every model that must pass does."""
        return all(row.explained and row.as_expected for row in self.rows)
