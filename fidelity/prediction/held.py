"""How the numbers of a site are held under a profile: the largest that fits, and what becomes of a larger one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from fidelity.arithmetic.float16 import LARGEST, Conversion
from fidelity.arithmetic.observe import Part
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import Elementwise, Function, LayerNorm, Product, Reduction, Softmax
from fidelity.arithmetic.summation import Accumulator


@dataclass(frozen=True)
class Held:
    """A format by what overflows it. `saturates`: a larger number becomes `largest`, not infinity."""

    largest: float
    saturates: bool = False


SINGLE = Held(float(np.finfo(np.float32).max))


def held(profile: Profile, kind: str, part: Part) -> Held:
    """The format of one part of an operation of a kind.

    By the profile's rule for that part: float16 where a conversion to it is stated, float32 where none
    is. An operation without a rule moves numbers and computes none, so what flows is what is stored.
    """
    rule = profile.rules.get(kind)
    conversions: tuple[Conversion | None, ...]
    if isinstance(rule, Elementwise):
        conversions = (rule.stored if part == "result" else rule.steps,)
    elif isinstance(rule, Function):
        conversions = (rule.stored,)
    elif isinstance(rule, Product):
        conversions = (rule.stored if part == "result" else _accumulated(rule.accumulator),)
    elif isinstance(rule, Reduction):
        stored = (rule.stored, rule.stored_absorbed)
        conversions = stored if part == "result" else (_accumulated(rule.accumulator),)
    elif isinstance(rule, LayerNorm):
        conversions = (rule.stored, rule.stored_absorbed) if part == "result" else (None,)
    elif isinstance(rule, Softmax):
        conversions = _softmax(rule, part)
    else:
        conversions = (profile.inputs,)
    return _narrowest(conversions)


def held_input(profile: Profile) -> Held:
    """The format that the graph's inputs are converted to."""
    return _narrowest((profile.inputs,))


def holds_float16(profile: Profile) -> bool:
    """Whether anything is held in float16 under a profile: sums alone make a device's arithmetic fp16."""
    parts: tuple[Part, ...] = get_args(Part)
    everywhere = (held(profile, kind, part) for kind in profile.rules for part in parts)
    return held_input(profile) != SINGLE or any(each != SINGLE for each in everywhere)


def _softmax(rule: Softmax, part: Part) -> tuple[Conversion | None, ...]:
    if part == "result":
        return tuple(share.stored for share in rule.shares)
    if part == "share":
        return tuple(share.quotient for share in rule.shares)
    if part in ("sum", "peak"):
        return (_accumulated(rule.accumulator),)
    if rule.passes == "online":  # the maximum is float32; a power is shown only where it is float16
        return (None,) if part == "greatest" else tuple(share.quotient for share in rule.shares)
    return (rule.steps,)


def _accumulated(accumulator: Accumulator) -> Conversion | None:
    return None if accumulator.format == "float32" else accumulator.conversion


def _narrowest(conversions: tuple[Conversion | None, ...]) -> Held:
    """Where a rule has several by shape, the narrowest: a danger is not hidden by the case that has none."""
    narrow = [conversion for conversion in conversions if conversion is not None]
    if not narrow:
        return SINGLE
    return Held(LARGEST, saturates=any(conversion.overflow == "saturate" for conversion in narrow))
