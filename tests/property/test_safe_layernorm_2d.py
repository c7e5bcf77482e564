"""safe_layernorm_2d keeps its contract on drawn channel norms and images, in fp16 too; wrong ones do not."""

from __future__ import annotations

import pytest
import torch
from fp16_checks import PROFILES, compare
from hypothesis import given, settings
from hypothesis import strategies as st
from mutant_search import by_contract, survives
from rewrite_cases import Case, Holder, activation, filled
from rewrite_mutants import Mutant, Tamper, as_class
from timm.layers import LayerNorm2d
from timm.layers.norm import LayerNormExp2d
from torch import nn

from fidelity.models.counter_random import normal
from fidelity.rewrites.contract import Rewrite, Site
from fidelity.rewrites.safe_layernorm import FIXED_SCALE, SafeLayerNormRewrite
from fidelity.rewrites.safe_layernorm_2d import SafeLayerNorm2d, SafeLayerNorm2dRewrite

CHANNELS = 96


@st.composite
def channel_norms(draw: st.DrawFn) -> Case:
    """timm's norms over the channels of an image [B, C, H, W], with gain and bias or without."""
    channels, eps = draw(st.sampled_from([3, 16, 48])), draw(st.sampled_from([1e-6, 1e-5]))
    affine = draw(st.booleans())
    norm = LayerNorm2d(channels, eps, affine) if draw(st.booleans()) else LayerNormExp2d(channels, eps)
    x = activation(draw, (draw(st.integers(1, 2)), channels, draw(st.integers(1, 3)), draw(st.integers(2, 4))))
    return Case(filled(draw, Holder(norm, None)).eval(), x, {}, f"{type(norm).__name__}{tuple(x.shape)}, {eps}")


@given(channel_norms())
def test_safe_layernorm_2d(case: Case) -> None:
    assert by_contract(case, SafeLayerNorm2dRewrite()) == []


@st.composite
def images_of_the_domain(draw: st.DrawFn) -> Case:
    """Channels of one deviation, from 1 to 0.9 of what the contract allows to so few of them."""
    _, high = SafeLayerNorm2dRewrite.contract.fp16_row_deviation or (0.0, 0.0)
    size = (0.9 * high * (768 / CHANNELS) ** 0.5) ** draw(st.floats(0, 1))
    image = torch.from_numpy(normal(draw(st.integers(0, 2**16)), "image", (1, CHANNELS, 2, 3)).copy()).double()
    return Case(Holder(LayerNorm2d(CHANNELS), None).eval(), image * size, {}, f"deviation {size:.3g}")


def in_fp16(case: Case, rewrite: Rewrite, profile: str = "running-fp16") -> list[str]:
    compared = compare(case, [rewrite], PROFILES[profile])
    return compared.violations(torch.ones_like(compared.finite), holds=True)


@pytest.mark.parametrize("profile", PROFILES)
@settings(max_examples=5)
@given(case=images_of_the_domain())
def test_safe_layernorm_2d_in_fp16(profile: str, case: Case) -> None:
    assert in_fp16(case, SafeLayerNorm2dRewrite(), profile) == []


def normalised(x: torch.Tensor, axis: int | tuple[int, ...], eps: float, correction: int = 0) -> torch.Tensor:
    variance = x.var(dim=axis, keepdim=True, correction=correction)
    return (x - x.mean(dim=axis, keepdim=True)) * torch.rsqrt(variance + eps)


class _Wrong(SafeLayerNorm2d):
    """The affine map, after a `wrong` normalisation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.wrong(x)
        y = y if self.weight is None else y * self.weight.reshape(1, -1, 1, 1)
        return y if self.bias is None else y + self.bias.reshape(1, -1, 1, 1)

    def wrong(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class _LastAxis(_Wrong):
    def wrong(self, x: torch.Tensor) -> torch.Tensor:
        return normalised(x, -1, self.eps)


class _WholeImage(_Wrong):
    def wrong(self, x: torch.Tensor) -> torch.Tensor:
        return normalised(x, (1, 2, 3), self.eps)


class _SampleVariance(_Wrong):
    def wrong(self, x: torch.Tensor) -> torch.Tensor:
        return normalised(x, 1, self.eps, correction=1)


class _EpsAsItIs(_Wrong):
    def wrong(self, x: torch.Tensor) -> torch.Tensor:
        return normalised(x / FIXED_SCALE, 1, self.eps)


class _NoScale(_Wrong):
    """The same real number, and the overflow that the rewrite is for."""

    def wrong(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        return centred * torch.rsqrt((centred * centred).mean(dim=1, keepdim=True) + self.eps)


class _BiasForgotten(SafeLayerNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y if self.bias is None else y - self.bias.reshape(1, -1, 1, 1)


MISTAKES: dict[str, Tamper] = {
    "last axis": as_class(_LastAxis),
    "the whole image": as_class(_WholeImage),
    "variance over C - 1": as_class(_SampleVariance),
    "eps not scaled": as_class(_EpsAsItIs),
    "bias forgotten": as_class(_BiasForgotten),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_safe_layernorm_2d_is_rejected(mistake: str) -> None:
    assert not survives(Mutant(SafeLayerNorm2dRewrite(), MISTAKES[mistake]), channel_norms())


def test_an_unscaled_variance_is_rejected_in_fp16() -> None:
    mutant = Mutant(SafeLayerNorm2dRewrite(), as_class(_NoScale))
    assert not survives(mutant, images_of_the_domain(), in_fp16)


def test_safe_layernorm_leaves_channel_norms_alone() -> None:
    """LayerNorm2d is an nn.LayerNorm of one axis, which is not the last: taking it normalised columns of the image."""
    norm = LayerNorm2d(8)
    assert not SafeLayerNormRewrite().concerns(norm)
    assert "not the last axis" in str(SafeLayerNormRewrite().refuses(Site("blocks.0", norm)))
    assert SafeLayerNorm2dRewrite().refuses(Site("blocks.0", nn.LayerNorm(8)))
