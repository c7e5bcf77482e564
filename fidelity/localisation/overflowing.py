"""How far beyond its format the first overflow goes: by what the same place reaches in float32."""

from __future__ import annotations

from fidelity.localisation.emulations import Emulation
from fidelity.localisation.records import Overflow
from fidelity.prediction.site import first_overflow, headroom


def overflow_of(expected: Emulation, float32: Emulation) -> Overflow | None:
    """The first overflow of what the arithmetic must give, None where there is none.

    In float32 the operator may have no such part (operations that are taken together in fp16 are computed one by
    one): then the largest of its parts stands for it.
    """
    site = first_overflow(expected.sites)
    if site is None:
        return None
    same = [each for each in float32.sites if each.operator == site.operator]
    part = [each.magnitude for each in same if each.part == site.part]
    needed = max(part or [each.magnitude for each in same], default=float("inf"))
    return Overflow(site=site, needed=needed, headroom=headroom(site.largest_finite, needed))
