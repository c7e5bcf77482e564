"""safe_grn keeps its contract on drawn global response norms and images, in fp16 too; wrong ones do not."""

from __future__ import annotations

import copy

import pytest
import torch
from fp16_checks import PATH, PROFILES, UNIT
from hypothesis import given, settings
from hypothesis import strategies as st
from mutant_search import by_contract, survives
from rewrite_cases import Case, Holder, activation, filled
from rewrite_mutants import Mutant, Tamper, as_class
from timm.layers.grn import GlobalResponseNorm

from fidelity.arithmetic.torch.run import TorchEmulator
from fidelity.models.counter_random import normal
from fidelity.rewrites.apply import apply_rewrites
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.rounding import amplification, limit, row_difference
from fidelity.rewrites.safe_grn import SafeGlobalResponseNorm, SafeGrn
from fidelity.rewrites.safe_layernorm import FIXED_SCALE

SIDE = 24


@st.composite
def response_norms(draw: st.DrawFn) -> Case:
    """timm's GlobalResponseNorm of channels first or last."""
    channels, last = draw(st.integers(2, 9)), draw(st.booleans())
    norm = GlobalResponseNorm(channels, eps=draw(st.sampled_from([1e-6, 1e-3])), channels_last=last)
    places = (draw(st.integers(1, 3)), draw(st.integers(2, 4)))
    shape = (draw(st.integers(1, 2)), *((*places, channels) if last else (channels, *places)))
    return Case(filled(draw, Holder(norm, None)).eval(), activation(draw, shape), {}, f"GRN {shape}, last {last}")


@given(response_norms())
def test_safe_grn(case: Case) -> None:
    assert by_contract(case, SafeGrn()) == []


@st.composite
def images_of_the_domain(draw: st.DrawFn) -> Case:
    """Images of a root mean square from 1 to 0.9 of what 24 x 24 places allow."""
    size = (0.9 * FIXED_SCALE * (65504 / SIDE**2) ** 0.5) ** draw(st.floats(0, 1))
    image = torch.from_numpy(normal(draw(st.integers(0, 2**16)), "image", (1, SIDE, SIDE, 4)).copy()).double()
    model = filled(draw, Holder(GlobalResponseNorm(4), None)).eval()
    return Case(model, image * size, {}, f"root mean square {size:.3g}")


def in_fp16(case: Case, rewrite: Rewrite, profile: str = "running-fp16") -> list[str]:
    """The rewritten form against itself in float64: the emulator has no rule for the original's addcmul."""
    new = apply_rewrites(case.model, [rewrite]).model.get_submodule(PATH)
    emulator = TorchEmulator(new, PROFILES[profile])
    x = emulator.entering(case.x)
    double = copy.deepcopy(emulator.module).double()
    with torch.no_grad():
        error = row_difference(emulator.run(x).complete(), double(x.double()))
        allowed = limit(UNIT, SIDE**2, amplification(double, (x.double(),), {}), 0.0)
    return [] if bool((error <= allowed).all()) else [f"error {float(error.max()):.3g} of {float(allowed.max()):.3g}"]


@pytest.mark.parametrize("profile", PROFILES)
@settings(max_examples=4)
@given(case=images_of_the_domain())
def test_safe_grn_in_fp16(profile: str, case: Case) -> None:
    assert in_fp16(case, SafeGrn(), profile) == []


class _Wrong(SafeGlobalResponseNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norms = self.scale(x).square().sum(dim=self.spatial, keepdim=True).sqrt()
        share = self.share(norms)
        return self.out(x, x * share * self.weight.reshape(self.shape) + self.bias.reshape(self.shape))

    def scale(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 / FIXED_SCALE)

    def share(self, norms: torch.Tensor) -> torch.Tensor:
        return norms / (norms.mean(dim=self.channel, keepdim=True) + self.eps / FIXED_SCALE)

    def out(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class _EpsAsItIs(_Wrong):
    def share(self, norms: torch.Tensor) -> torch.Tensor:
        return norms / (norms.mean(dim=self.channel, keepdim=True) + self.eps)


class _EpsScaledTwice(_Wrong):
    def share(self, norms: torch.Tensor) -> torch.Tensor:
        return norms / (norms.mean(dim=self.channel, keepdim=True) + self.eps / FIXED_SCALE**2)


class _MeanOverPlaces(_Wrong):
    def share(self, norms: torch.Tensor) -> torch.Tensor:
        return norms / (norms.mean(dim=self.spatial, keepdim=True) + self.eps / FIXED_SCALE)


class _NoResidual(_Wrong):
    def out(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y


class _NoScale(_Wrong):
    """The same real number, and the overflow that the rewrite is for."""

    def scale(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def share(self, norms: torch.Tensor) -> torch.Tensor:
        return norms / (norms.mean(dim=self.channel, keepdim=True) + self.eps)


MISTAKES: dict[str, Tamper] = {
    "eps not scaled": as_class(_EpsAsItIs),
    "eps scaled twice": as_class(_EpsScaledTwice),
    "mean over the places": as_class(_MeanOverPlaces),
    "residual forgotten": as_class(_NoResidual),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_safe_grn_is_rejected(mistake: str) -> None:
    assert not survives(Mutant(SafeGrn(), MISTAKES[mistake]), response_norms())


def test_an_unscaled_sum_of_squares_is_rejected_in_fp16() -> None:
    assert not survives(Mutant(SafeGrn(), as_class(_NoScale)), images_of_the_domain(), in_fp16)
