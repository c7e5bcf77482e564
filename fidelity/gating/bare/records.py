"""What a judgement of a bare artefact is stored as."""

from __future__ import annotations

from typing import Literal

from fidelity.comparison.comparison import Comparison
from fidelity.comparison.expectation import Expectation
from fidelity.comparison.judgement import Judgement
from fidelity.devices.job import JobResult, Precision
from fidelity.record import Figure, Record

Basis = Literal["both", "reference kernels", "disputed", "nothing"]
"""What the truth rests on: both implementations, which agree; the runtime's kernels alone, where the emulator
lacks an operator; two that do not agree, so that one is wrong; neither."""

Unit = Literal["relative L2", "steps", "full scale"]
"""How an output's error is measured: over its own length, in steps of its quantisation, over a scale of 1."""


class Agreement(Record):
    """How far our emulation and the reference kernels are apart on one output, at the worst set of inputs."""

    output: str
    unit: Unit
    worst: Figure
    allowed: Figure
    at: str

    @property
    def holds(self) -> bool:
        """Whether they agree; a NaN does not."""
        return self.worst <= self.allowed


class Lacking(Record):
    """An operator that the emulator does not compute, by its index in the file."""

    operator: int
    name: str
    reason: str


class Apart(Record):
    """The first operator whose result differs more between the two than is allowed at its depth."""

    operator: int
    name: str
    tensor: int
    tensor_name: str
    error: Figure
    allowed: Figure


class Truth(Record):
    """What the outputs are held against, and how far that can be trusted. `seconds`: one run of the kernels."""

    rests_on: Basis
    agreements: tuple[Agreement, ...]
    lacking: tuple[Lacking, ...]
    unreached: int
    apart: Apart | None
    kernels: JobResult
    why: str


class BareRun(Record):
    """One entry point on one device: what happened, how far from the truth, and the verdict."""

    label: str
    device: str
    precision: Precision
    result: JobResult
    units: dict[str, Unit]
    comparison: Comparison
    expected: Expectation | None
    judgement: Judgement


class EntryReport(Record):
    """One entry point. `inputs` are shapes as they ran; `extract` is the hash of the file that the devices were
    given, where that is not the artefact itself but its one entry point with shapes bound."""

    signature: str
    inputs: dict[str, tuple[int, ...]]
    sets: tuple[str, ...]
    extract: str | None
    truth: Truth
    runs: tuple[BareRun, ...]

    @property
    def passed(self) -> bool:
        """A truth that is not in doubt, at least one run, and every run passes."""
        return (
            self.truth.rests_on in ("both", "reference kernels")
            and bool(self.runs)
            and all(r.judgement.passed for r in self.runs)
        )


class BareReport(Record):
    """The whole artefact: passes when every judged entry point does."""

    artefact: str
    sha256: str
    nodes: int
    passed: bool
    entries: tuple[EntryReport, ...]
