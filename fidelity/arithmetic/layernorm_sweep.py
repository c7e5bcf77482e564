"""Which scale a model's own LayerNorm rows allow, over magnitudes and scales; and the record of a whole sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from fidelity.arithmetic.layernorm import (
    PER_ROW,
    STOCK,
    NormOutcome,
    NormRows,
    RowOutcomes,
    Scale,
    rounding_error,
    simulate_rows,
    summary,
)
from fidelity.arithmetic.profile import Profile
from fidelity.record import Figure, Record

DIVISORS = tuple(2.0**power for power in range(1, 13))  # 2 to 4096; powers of two round nothing themselves
MAGNITUDES = tuple(2.0**power for power in range(-10, 11, 2))
ENOUGH = 4.0  # bits of a sum of squares: activations may be four times as large before it overflows
SHOWN = (STOCK, *(Scale(kind="fixed", divisor=d) for d in (8.0, 32.0, 128.0)), PER_ROW)
"""Scales that are swept over magnitudes."""


class CollapsePoint(Record):
    """One form of LayerNorm under one profile at one peak magnitude.

    Pearson's correlation of the embedding with float64, over images: mean, worst, best. `blocks`: the
    mean correlation of each block's output, on channels that are not massive.
    """

    profile: str
    form: str
    peak: Figure
    correlation: Figure
    worst: Figure
    best: Figure
    blocks: tuple[Figure, ...]


class ScaleOutcome(Record):
    """All the model's rows at one scale under one profile; `at` and `worst_at` are the norms by path."""

    profile: str
    magnitude: Figure = 1.0
    outcome: NormOutcome
    at: str
    worst_at: str
    allowed_error: Figure

    @property
    def safe(self) -> bool:
        """No row overflows, and rounding explains every row's error."""
        return self.outcome.overflowing == 0 and self.outcome.worst_error <= self.allowed_error


class Advice(Record):
    """The scale that this model should use under a profile.

    `least` and `greatest` are the fixed divisors between which every power of two is safe, 1 for stock
    LayerNorm, None where none is. `scale` is `none` where stock LayerNorm has margin enough, else the
    divisor with the widest margin on both sides, `row` where no fixed one is safe, empty where nothing helps.
    """

    profile: str
    least: Figure | None
    greatest: Figure | None
    scale: str
    margin: Figure


class LayerNormSweep(Record):
    """A model's LayerNorms under profiles: its scales at its own magnitude, over magnitudes, and the collapse."""

    schema_version: Literal[1] = 1
    source: str
    weights: str
    seed: int
    inputs: tuple[str, ...]
    peak: Figure
    norms: int
    scales: tuple[ScaleOutcome, ...]
    magnitudes: tuple[ScaleOutcome, ...]
    advice: tuple[Advice, ...]
    collapse: tuple[CollapsePoint, ...]


def scale_outcome(
    norms: Mapping[str, NormRows], scale: Scale, profile: Profile, magnitude: float = 1.0
) -> ScaleOutcome:
    """Every norm's rows, multiplied by `magnitude`, at this scale. Raises ValueError for no norms."""
    paths = [path for members, _ in _alike(norms) for path in members]
    found = _joined([simulate_rows(_times(norm, magnitude), scale, profile) for _, norm in _alike(norms)])
    return ScaleOutcome(
        profile=profile.name,
        magnitude=magnitude,
        outcome=summary(scale, found),
        at=paths[int(found.headroom.argmin())],
        worst_at=paths[int(found.errors.argmax())],
        allowed_error=max(rounding_error(norm.rows.shape[1]) for norm in norms.values()),
    )


def _joined(found: list[RowOutcomes]) -> RowOutcomes:
    return RowOutcomes(
        errors=np.concatenate([each.errors for each in found]),
        overflowing=np.concatenate([each.overflowing for each in found]),
        underflowing=np.concatenate([each.underflowing for each in found]),
        headroom=np.concatenate([each.headroom for each in found]),
        footroom=np.concatenate([each.footroom for each in found]),
        tightest=tuple(label for each in found for label in each.tightest),
    )


def advise(outcomes: tuple[ScaleOutcome, ...]) -> Advice:
    """The advice that outcomes of one profile at magnitude 1 give: of `none`, `row` and fixed divisors."""
    by_scale = {each.outcome.scale: each for each in outcomes}
    divided = {1.0 if s == "none" else float(s): each for s, each in by_scale.items() if s != "row"}
    fixed = sorted(divided.items(), key=lambda pair: pair[0])
    safe = [(divisor, margin(each)) for divisor, each in fixed if each.safe]
    profile = outcomes[0].profile
    if safe:
        enough = [pair for pair in safe if pair[0] == 1 and pair[1] >= ENOUGH]
        divisor, bits = enough[0] if enough else max(safe, key=lambda pair: pair[1])
        run = _run(fixed, divisor)
        return Advice(profile=profile, least=run[0], greatest=run[-1], scale=safe_name(divisor), margin=bits)
    row = by_scale.get("row")
    usable = row is not None and row.safe
    bits = margin(row) if row is not None and usable else -math.inf
    return Advice(profile=profile, least=None, greatest=None, scale="row" if usable else "", margin=bits)


def safe_name(divisor: float) -> str:
    """A fixed divisor as a scale is written."""
    return "none" if divisor == 1 else f"{divisor:g}"


def margin(outcome: ScaleOutcome) -> float:
    """Bits to the nearer end: to overflow above, to loss of bits below."""
    return min(outcome.outcome.headroom, outcome.outcome.footroom)


def _run(fixed: list[tuple[float, ScaleOutcome]], around: float) -> list[float]:
    """Neighbouring safe divisors that hold `around`."""
    run: list[float] = []
    for divisor, each in fixed:
        if each.safe:
            run.append(divisor)
        elif around in run:
            break
        else:
            run = []
    return run


def _alike(norms: Mapping[str, NormRows]) -> list[tuple[list[str], NormRows]]:
    """Rows of norms of one width, eps and kind together, each row with its norm's path: fewer, larger arrays."""
    groups: dict[tuple[int, float, bool], list[str]] = {}
    for path, norm in norms.items():
        groups.setdefault((norm.rows.shape[1], norm.eps, norm.rms), []).append(path)
    return [
        (
            [path for path in paths for _ in norms[path].rows],
            NormRows(np.concatenate([norms[path].rows for path in paths]), eps, rms),
        )
        for (_, eps, rms), paths in groups.items()
    ]


def _times(norm: NormRows, magnitude: float) -> NormRows:
    return norm if magnitude == 1 else NormRows(norm.rows * np.float32(magnitude), norm.eps, norm.rms)
