"""What locating is told of a device and of what is good enough, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fidelity.arithmetic.profile import Profile
from fidelity.localisation.on_device import Array, Ran, RunModel
from fidelity.localisation.pieces import Case
from fidelity.localisation.records import Located


@dataclass(frozen=True)
class Where:
    """The device that is asked: `run` at the precision in question, `others` at other ones, `cpu` on the CPU of this
    machine. `profile_of` gives the arithmetic of the device that made a run, where it is known."""

    device: str
    run: RunModel
    cpu: RunModel
    others: Mapping[str, RunModel] = field(default_factory=dict)
    profile_of: Callable[[Ran], Profile | None] = lambda _: None


@dataclass(frozen=True)
class Good:
    """Relative L2 that an output must keep, of the device and of the CPU: a policy's."""

    device: float
    cpu: float


@dataclass(frozen=True)
class Answer:
    """What was located, with what a repro pack is cut from; None where there is nothing to cut."""

    located: Located
    case: Case | None = None
    operators: tuple[int, ...] = ()
    truth: Mapping[int, Array] = field(default_factory=dict)
