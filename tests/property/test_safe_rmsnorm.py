"""safe_rmsnorm keeps its contract on drawn norms, weights and rows, in fp16 too; wrong ones do not."""

from __future__ import annotations

import pytest
import torch
from fp16_checks import PROFILES, compare
from hypothesis import given, settings
from hypothesis import strategies as st
from mutant_search import by_contract, survives
from rewrite_cases import Case, Holder, activation, filled
from rewrite_mutants import Mutant, Tamper, as_class, unchanged
from timm.layers import RmsNorm
from torch import nn

from fidelity.models.counter_random import normal
from fidelity.rewrites.contract import Rewrite, Site
from fidelity.rewrites.safe_layernorm import FIXED_SCALE
from fidelity.rewrites.safe_rmsnorm import SafeRmsNorm, SafeRmsNormRewrite

WIDTH = 768  # what the contract's figures are stated for


@st.composite
def rmsnorms(draw: st.DrawFn) -> Case:
    """torch's and timm's RMSNorm over the last axis, with a gain or not, eps of real models or torch's default."""
    width = draw(st.sampled_from([3, 16, 48, 192]))
    if draw(st.booleans()):
        norm: nn.Module = nn.RMSNorm(width, draw(st.sampled_from([None, 1e-5])), draw(st.booleans()))
    else:
        norm = RmsNorm(width, draw(st.sampled_from([1e-6, 1e-5])), draw(st.booleans()))
    model = filled(draw, Holder(norm, None))
    x = activation(draw, (2, draw(st.integers(1, 6)), width))
    return Case(model.eval(), x, {}, f"{type(norm).__name__}({width}, {norm.eps})")


@given(rmsnorms())
def test_safe_rmsnorm(case: Case) -> None:
    assert by_contract(case, SafeRmsNormRewrite()) == []


@st.composite
def rows_of_the_domain(draw: st.DrawFn) -> Case:
    """Rows of one root mean square within the contract's fp16 domain; 0.9 of its top, since drawn rows vary."""
    low, high = SafeRmsNormRewrite.contract.fp16_row_deviation or (0.0, 0.0)
    size = low * (0.9 * high / low) ** draw(st.floats(0, 1))
    rows = torch.from_numpy(normal(draw(st.integers(0, 2**16)), "rows", (1, 4, WIDTH)).copy()).double()
    return Case(Holder(nn.RMSNorm(WIDTH, 1e-6), None).eval(), rows * size, {}, f"root mean square {size:.3g}")


def in_fp16(case: Case, rewrite: Rewrite, profile: str = "running-fp16") -> list[str]:
    def scaled_square(x: torch.Tensor) -> torch.Tensor:
        return (x.reshape(-1, WIDTH) / FIXED_SCALE).square().mean(dim=-1)

    compared = compare(case, [rewrite], PROFILES[profile], scaled_square)
    return compared.violations(torch.ones_like(compared.finite), holds=True)


@pytest.mark.parametrize("profile", PROFILES)
@settings(max_examples=5)
@given(case=rows_of_the_domain())
def test_safe_rmsnorm_in_fp16(profile: str, case: Case) -> None:
    assert in_fp16(case, SafeRmsNormRewrite(), profile) == []


class _EpsAsItIs(SafeRmsNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = x * (1 / FIXED_SCALE)
        y = scaled * torch.rsqrt((scaled * scaled).mean(dim=-1, keepdim=True) + (self.eps or 0.0))
        return y if self.weight is None else y * self.weight


class _ScaleUndone(SafeRmsNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * FIXED_SCALE


class _MeanTakenOff(SafeRmsNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - x.mean(dim=-1, keepdim=True))


class _GainForgotten(SafeRmsNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y if self.weight is None else y / self.weight


class _SumForMean(SafeRmsNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / x.shape[-1] ** 0.5


class _NoScale(SafeRmsNorm):
    """The same real number, and the overflow that the rewrite is for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + (self.eps or 0.0))
        return y if self.weight is None else y * self.weight


def _flipped_bit(_: Site, rewritten: object) -> None:
    weight = rewritten.module.weight  # type: ignore[attr-defined]
    if weight is not None:
        weight.data = weight.data.clone()
        weight.data.view(torch.int64 if weight.dtype == torch.float64 else torch.int32)[0] ^= 1


MISTAKES: dict[str, Tamper] = {
    "eps not scaled": as_class(_EpsAsItIs),
    "scale undone": as_class(_ScaleUndone),
    "mean taken off, as LayerNorm does": as_class(_MeanTakenOff),
    "gain forgotten": as_class(_GainForgotten),
    "sum instead of mean": as_class(_SumForMean),
    "one bit of the gain flipped": _flipped_bit,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_safe_rmsnorm_is_rejected(mistake: str) -> None:
    assert not survives(Mutant(SafeRmsNormRewrite(), MISTAKES[mistake]), rmsnorms())


@pytest.mark.parametrize("mistake", [as_class(_NoScale), unchanged], ids=["no scale", "the original"])
def test_an_unscaled_rmsnorm_is_rejected_in_fp16(mistake: Tamper) -> None:
    assert not survives(Mutant(SafeRmsNormRewrite(), mistake), rows_of_the_domain(), in_fp16)
