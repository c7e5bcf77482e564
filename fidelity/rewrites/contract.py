"""What a rewrite promises, and the one interface that every rewrite has.

A rewrite is a file with a class that satisfies `Rewrite`; nothing else in the package knows which
rewrites there are, except the catalogue that lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from fidelity.record import Record

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fidelity.rewrites.weights_map import Origins


class Exactness(StrEnum):
    """How far the rewritten module may be from the original, by kind."""

    EXACT = "EXACT"  # same values bit for bit
    ROUNDING = "ROUNDING"  # the same real-number function; differs only by rounding, bound given
    BOUNDED = "BOUNDED"  # differs, bound and domain given
    NOT_EQUIVALENT = "NOT_EQUIVALENT"  # a counter-example is given


class Contract(Record):
    """The promise of one rewrite.

    `exactness` holds in float64 and float32 for every finite input on which the original is
    finite. `fp16_domain` says in words where it still holds when every step is computed in fp16
    (`fp16_row_deviation`: least and greatest standard deviation of a normalised row, where that
    is what decides). `bound` says how the allowed rounding difference is derived.
    """

    name: str
    version: int
    applies_to: str
    exactness: Exactness
    bound: str
    fp16_domain: str
    fp16_row_deviation: tuple[float, float] | None = None
    reason: str
    cures: str


@dataclass(frozen=True)
class Site:
    """A module in a model, with what the rewrite must know of its surroundings.

    `rope` is the rotary embedding that the model hands to its attention, [tokens, 2 * head width],
    sine then cosine, or None; `rope_tensor` is its name in the model, from the root ("/name"), or
    the name of the frequencies' periods where the model computes it at each call (`rope_computed`).
    """

    path: str
    module: nn.Module
    rope: torch.Tensor | None = None
    rope_tensor: str = "/rope.pos_embed"

    @property
    def rope_computed(self) -> bool:
        """Whether the model computes its rotary embedding at each call, and stores none."""
        return self.rope_tensor.endswith("rope.periods")


@dataclass(frozen=True)
class Rewritten:
    """The new module and where each of its tensors comes from in the old one."""

    module: nn.Module
    origins: Origins


class Rewrite(Protocol):
    """One rewrite. `concerns` is what it is about at all, `refuses` why it cannot take it."""

    @property
    def contract(self) -> Contract:
        """The promise, with name and version."""
        ...

    def concerns(self, module: nn.Module) -> bool:
        """True for a module of the kind that this rewrite is about, taken or not."""
        ...

    def refuses(self, site: Site) -> str | None:
        """Why the rewrite does not apply to this module, in a sentence; None when it applies."""
        ...

    def rewrite(self, site: Site) -> Rewritten:
        """The new module, taking the same call as the old; only where `refuses` gives None."""
        ...
