"""What a selftest says: every planted fault with what caught it, every clean run, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from fidelity.record import Figure, Record

Place = Literal["model", "artefact", "device", "output"]
"""Where a fault is planted: in the rewritten torch model, in the .tflite, in a device that runs the right one, and in
what comes back from it."""

Verdict = Literal["fail", "suspicious", "pass"]

_FIGURES = ("outside_limit", "undefined_metric", "as_expected")
"""Findings that say no more than a figure does: the last that the arithmetic explains it, which it must for a file."""


class Seen(Record):
    """One thing that speaks against what was judged: a finding of the gate, or a failure of the proof."""

    check: str
    severity: Literal["fail", "suspicious"]
    metric: str | None = None
    worst: Figure | None = None
    limit: str | None = None
    message: str


class Localised(Record):
    """Where the fault was said to be. `exact`: it is the very operator, module or constant that has it."""

    kind: str
    where: str | None
    exact: bool


class FaultRow(Record):
    """One planted fault. `device` is None where no device is asked. `first` is what the table shows of `seen`."""

    fault: str
    place: Place
    device: str | None
    site: str
    caught: bool
    verdict: Verdict
    seen: tuple[Seen, ...]
    located: Localised | None

    @property
    def first(self) -> Seen | None:
        """The finding that the table shows: one that has a name of its own, else relative L2, else the first."""
        failed = [each for each in self.seen if each.severity == "fail"]
        named = [each for each in failed if each.check not in _FIGURES]
        far = [each for each in failed if each.metric == "relative_l2" and each.worst is not None]
        return next(iter([*named, *far, *failed, *self.seen]), None)


class CleanRow(Record):
    """One clean model on one device (`model`: its proof). `worst` are its figures, `why` what spoke against it."""

    seed: int
    device: str
    passed: bool
    worst: dict[str, Figure]
    why: tuple[str, ...] = ()


class Unplanted(Record):
    """A fault that a place cannot have, or that the devices at hand cannot show."""

    fault: str
    place: Place
    device: str | None = None
    reason: str


class SelftestReport(Record):
    """The whole selftest. `passed`: every planted fault was caught, and every clean run passed."""

    source: str
    seed: int
    seeds: int
    policy: str
    devices: tuple[str, ...]
    passed: bool
    faults: tuple[FaultRow, ...]
    clean: tuple[CleanRow, ...]
    unplanted: tuple[Unplanted, ...]
    not_tested: dict[str, str] = Field(default_factory=dict)
    seconds: dict[str, Figure] = Field(default_factory=dict)

    @property
    def missed(self) -> tuple[FaultRow, ...]:
        """Faults that passed."""
        return tuple(row for row in self.faults if not row.caught)

    @property
    def false_alarms(self) -> tuple[CleanRow, ...]:
        """Clean runs that did not pass."""
        return tuple(row for row in self.clean if not row.passed)


def fault_row(
    fault: str, place: Place, device: str | None, site: str, seen: Sequence[Seen], located: Localised | None
) -> FaultRow:
    """A row with its verdict: as bad as the worst that was seen. What is suspicious alone passes a gate: not caught."""
    failed = any(each.severity == "fail" for each in seen)
    verdict: Verdict = "fail" if failed else "suspicious" if seen else "pass"
    return FaultRow(
        fault=fault,
        place=place,
        device=device,
        site=site,
        caught=failed,
        verdict=verdict,
        seen=tuple(seen),
        located=located,
    )


def all_right(faults: Sequence[FaultRow], clean: Sequence[CleanRow], not_tested: Mapping[str, str]) -> bool:
    """Whether every fault was caught and every clean run passed, with at least one of each, on every device."""
    whole = bool(faults) and bool(clean) and not not_tested
    return whole and all(row.caught for row in faults) and all(row.passed for row in clean)
