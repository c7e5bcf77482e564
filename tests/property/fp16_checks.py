"""What a rewrite must keep in emulated fp16: finite where its contract says, and no further from the truth.

Truth is the original in float64 on the very numbers that the device holds: inputs and weights as the
profile converts them, which both versions share. Let e be the relative L2 error of a row. A rewrite
passes a row on which the original is finite when

    e(rewritten) <= e(original) + 2 LAMBDA u sqrt(K) kappa + q / v

that is, when it errs no more than the original and two ways of rounding may differ by. Where a contract
claims that it holds, as the LayerNorms' do, e(original) is left out: an overflown LayerNorm is finite too.

The first of these terms is rewrites/rounding.py's limit, for u = 2^-11: both versions evaluate one real
function with roundings of at most u in sums of at most K terms, kappa amplifies them. The second is
what fp16's subnormals take from a LayerNorm, 0 elsewhere: with q = 2^-24 their spacing and v the
row's variance in the scaled domain, the variance, its sum with eps, eps itself and the squares on
average are each off by at most q / 2; that is 2 q relative to v, and the root halves it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rewrite_cases import Case
from torch import nn

from fidelity.arithmetic.float16 import IEEE
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.arithmetic.rules import PRODUCTS, SUMS, MeanCase
from fidelity.arithmetic.rules import Case as SumCase
from fidelity.arithmetic.summation import Accumulator
from fidelity.arithmetic.torch.run import TorchEmulator
from fidelity.rewrites.apply import apply_rewrites
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.rounding import amplification, limit, longest_sum, row_difference

PATH = "blocks.0"
UNIT = 2.0**-11
SUBNORMAL = 2.0**-24


def running_fp16() -> Profile:
    """The plainest fp16 device: every number is fp16, every sum runs from the first term to the last in fp16."""
    base = load_profile("ieee-fp16-storage")
    half = Accumulator("float16", IEEE)
    rules = dict(base.rules)
    for kind in PRODUCTS:
        rules[kind] = rules[kind].model_copy(update={"accumulator": half, "cases": (SumCase(order=Order()),)})
    for kind in SUMS:
        case = (MeanCase(order=Order(), mean="quotient"),)
        rules[kind] = rules[kind].model_copy(update={"accumulator": half, "last_axis": case, "other_axis": case})
    rules["SQUARED_DIFFERENCE"] = rules["SQUARED_DIFFERENCE"].model_copy(update={"steps": IEEE})
    rules["SOFTMAX"] = rules["SOFTMAX"].model_copy(update={"steps": IEEE, "accumulator": half, "order": Order()})
    return Profile.model_validate({**base.model_dump(), "name": "running-fp16", "rules": rules})


PROFILES = {
    "running-fp16": running_fp16(),
    **{name: load_profile(name) for name in ("ieee-fp16-storage", "mldrift-webgpu-lavapipe", "card-mali-opencl")},
}


@dataclass(frozen=True)
class Compared:
    """Rows of both versions: errors (infinite where not finite), what is allowed, and where the original is finite."""

    original: torch.Tensor
    rewritten: torch.Tensor
    allowed: torch.Tensor
    finite: torch.Tensor

    def violations(self, domain: torch.Tensor, *, holds: bool = False) -> list[str]:
        """What is wrong on the rows of `domain`, where the contract claims the rewritten form to be finite.

        With `holds` it claims to be near the truth there, whatever the original is.
        """
        found = []
        lost = domain & ~torch.isfinite(self.rewritten)
        if lost.any():
            found.append(f"not finite on {int(lost.sum())} rows of its domain")
        bound = self.allowed if holds else self.original + self.allowed
        worse = domain & (self.rewritten > bound) & (self.finite | holds)
        if worse.any():
            row = int((self.rewritten / bound).nan_to_num(posinf=1e30).mul(worse).argmax())
            told = f"{float(self.rewritten[row]):.3g}, original {float(self.original[row]):.3g}"
            found.append(f"row {row}: error {told}, allowed {float(self.allowed[row]):.3g}")
        return found


Variance = Callable[[torch.Tensor], torch.Tensor]
"""The variance of each row in the scaled domain, given the module's input."""


def computable(case: Case, profile: Profile) -> bool:
    """Whether the profile has a rule for everything in the case; a gate's LOGISTIC is not measured everywhere."""
    gated = any(name.endswith("gate") and not isinstance(m, nn.Identity) for name, m in case.model.named_modules())
    return not gated or "LOGISTIC" in profile.rules


def compare(case: Case, rewrites: Sequence[Rewrite], profile: Profile, variance: Variance | None = None) -> Compared:
    """Both versions of the case's module under the profile, and float64."""
    new = apply_rewrites(case.model, rewrites)
    assert all(new.taken(rewrite.contract.name) for rewrite in rewrites), new.decisions
    original = TorchEmulator(case.model.get_submodule(PATH), profile)
    rewritten = TorchEmulator(new.model.get_submodule(PATH), profile)
    x, kwargs = original.entering(case.x), {name: original.entering(value) for name, value in case.kwargs.items()}
    double = copy.deepcopy(original.module).double()
    wide = {name: value.double() for name, value in kwargs.items()}
    with torch.no_grad():
        truth = double(x.double(), **wide)
        outputs = [emulator.run(x, **kwargs).complete() for emulator in (original, rewritten)]
        errors = [row_difference(output, truth) for output in outputs]
        terms = longest_sum(double, [x])
        allowed = limit(UNIT, terms, 1.0, 0.0).expand(errors[0].shape)
        if (errors[1] > allowed).any():
            allowed = limit(UNIT, terms, amplification(double, (x.double(),), wide), 0.0)
        if variance is not None and profile.stores_float16:
            allowed = allowed + SUBNORMAL / variance(x.double()).clamp(min=1e-300)
    finite = torch.isfinite(outputs[0].reshape(-1, outputs[0].shape[-1])).all(dim=-1)
    return Compared(errors[0], errors[1], allowed, finite)
