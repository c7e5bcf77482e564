"""How far two right implementations of a graph may be apart, from how often each of them rounds.

Floats. A sum of K products is off by at most C eps sqrt(K + 1) of what it adds (comparison/tolerance.py:
C = 4 is eight deviations of the sum of two implementations' roundings and more). Errors of unlike
layers are as good as independent, so squares add along a path: C eps sqrt(R), R the roundings on the
longest path, relative to the output's length. It supposes that layers do not amplify noise over signal:
measured on ten mobile models, 22 to 181 operators deep, the two sides are within a quarter of it. A
probability's relative error is up to |x| times that of its logit x: its tolerance is over a scale of 1,
on which the logistic function is never steeper than 1/4.

Steps. A requantised result is rounded to a step. Where two implementations enter a layer alike, they
leave it alike but for ties: one step apart, rarely. Where they enter apart, the two roundings are
independent: each is off by a uniform half step, variance 1/12, their difference 1/6. Layers map a
calibrated range onto the same 255 steps, so noise in steps neither grows nor shrinks on the way but for
sums that average it: after L roundings a random walk of sqrt((L - 1) / 6) steps on top of the last tie.

    worst element  1 + ceil(4 sqrt((L - 1) / 6)) steps,   root mean square  0.25 + sqrt((L - 1) / 6) steps

0.25 rms on a single rounding is 6 % of elements at a tie; a zero point or a bias off by one is 1.0.

Hybrid. A product with integer weights quantises its float input as it runs, to 255 steps of the largest
magnitude, by a scale of its own: noise of sqrt(1/12) step where a step is 1/127 of the peak. With a peak
of six times the rms (six deviations over 10^9 numbers of a normal distribution; beyond that the
quantisation itself is unsound) that is 6 / 127 / sqrt(12) = 0.0136 of the rms, and sqrt(L) of it
after L products. XNNPACK and the reference kernels scale differently, so their difference has twice the
variance; our emulation does not quantise activations at all.
"""

from __future__ import annotations

import math

from fidelity.comparison.tolerance import EPS, SAFETY
from fidelity.gating.bare.depth import Depth

_HYBRID = 6 / 127 / math.sqrt(12)
_STEPS_IN_RMS = 64
"""Steps of a quarter of the range: the rms that an 8-bit tensor of a calibrated range has."""


def relative_tolerance(depth: Depth) -> float:
    """Of a float output, relative L2: float roundings, products that quantise as they run, and quantised layers
    before, whose steps are a 64th of a calibrated tensor's rms."""
    floats = SAFETY * EPS["float32"] * math.sqrt(depth.float_roundings + 1)
    hybrid = _HYBRID * math.sqrt(2 * depth.hybrid)
    steps = rms_steps(depth.step_roundings) / _STEPS_IN_RMS if depth.step_roundings else 0.0
    return floats + hybrid + steps


def worst_steps(roundings: int) -> float:
    """The most steps that one element may be off."""
    return 1.0 + math.ceil(4 * math.sqrt(max(0, roundings - 1) / 6))


def rms_steps(roundings: int) -> float:
    """The root mean square of the steps that an output may be off."""
    return 0.25 + math.sqrt(max(0, roundings - 1) / 6)
