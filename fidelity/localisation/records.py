"""What locating finds, as it is stored and shown: the verdict, the evidence, and every operator three ways."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fidelity.comparison.expectation import ProfileId
from fidelity.prediction.site import Site
from fidelity.record import Figure, Record

Kind = Literal[
    "right",  # nothing to locate: the device is as near to the truth as it must be, and that is good enough
    "expected",  # the device gives what its fp16 must give, and no more can be had of it
    "overflow",  # the device gives what its fp16 must give, and an overflow makes that wrong
    "compounding",  # as expected, no overflow, and the error grows with depth: no single operator is to blame
    "converter",  # the CPU is wrong as well
    "fallback",  # not every node runs on the device, or the result is the CPU's own
    "kernel",  # wrong in one operator, and wrong when that operator is alone
    "layout-or-fusion",  # wrong in one operator, which is right when it is alone
    "unlocated",  # wrong, and no operator could be told: the reason is in the evidence
]


class Traced(Record):
    """One operator's result, three ways. Errors are relative L2 against the artefact in float32, infinite for
    NaN or Inf, so that they are the device's alone.

    `members`: the operators that the device computes together with this one, itself last. `identical_share`:
    elements that are the expected ones bit for bit. `correlation` and `correlation_expected`: actual and
    expected with `truth`, which is PyTorch in float64 where the tensor has a counterpart there; NaN for a
    constant. `headroom`: the least of this operator's sites, in bits. `channels`: the largest by magnitude along
    the last axis, of the truth, and `magnitudes` what they reach.
    """

    operator: int
    name: str
    tensor: int
    module: str | None
    members: tuple[int, ...]
    error_actual: Figure
    error_expected: Figure
    identical_share: Figure
    correlation: Figure
    correlation_expected: Figure
    truth: Literal["pytorch", "artefact"]
    non_finite: int
    peak: Figure
    headroom: Figure
    channels: tuple[int, ...]
    magnitudes: tuple[Figure, ...]

    @property
    def place(self) -> str:
        """The operator in a few words."""
        return f"op {self.operator} {self.name}{f' in {self.module}' if self.module else ''}"


class Trace(Record):
    """Every operator that could be looked at, in execution order.

    `changed`: taps changed the final output, so what they show may not be what happens without them.
    `refused`: operators that the device would not show. `runs`: how many the device needed for it.
    """

    profile: ProfileId
    stands_in: bool
    operators: tuple[Traced, ...]
    changed: bool
    refused: dict[int, str]
    runs: int


class Errors(Record):
    """Relative L2 of the final output against the truth: the device, what its arithmetic must give, the CPU."""

    actual: Figure
    expected: Figure
    cpu: Figure


class Overflow(Record):
    """Where an overflow begins that the arithmetic must have, and how far beyond the format the numbers go.

    `needed` is the magnitude that the same place reaches in float32, `headroom` log2(largest finite / needed):
    negative by the bits that are missing.
    """

    site: Site
    needed: Figure
    headroom: Figure


class Located(Record):
    """The answer about one input on one device. `culprit` is None where no single operator is to blame.

    `input` is the one that was traced: the worst of `inputs`, whose errors are by name. `device_runs` is what
    it cost. `pack` is the folder of the repro pack beside the record, where one was made.
    """

    input: str
    device: str
    kind: Kind
    culprit: Traced | None
    overflow: Overflow | None = None
    evidence: tuple[str, ...]
    cure: str
    errors: Errors
    inputs: dict[str, Figure] = Field(default_factory=dict)
    trace: Trace | None
    device_runs: int
    pack: str | None = None
