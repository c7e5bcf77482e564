"""ranked_layer_scale gives the original's very bits on drawn gains, rows and blocks; wrong ones do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutant_search import by_contract, survives
from rewrite_cases import Case, Holder, activation, filled
from rewrite_mutants import Mutant, Tamper, as_class
from timm.layers.layer_scale import LayerScale
from timm.models.beit import Block as BeitBlock
from timm.models.eva import EvaBlock
from torch import nn

from fidelity.rewrites.apply import apply_rewrites
from fidelity.rewrites.contract import Rewritten, Site
from fidelity.rewrites.ranked_layer_scale import RankedBlock, RankedLayerScale, RankedLayerScaleRewrite

HEADS = 2


@st.composite
def scales(draw: st.DrawFn) -> Case:
    """LayerScale by itself."""
    width = draw(st.sampled_from([3, 16, 48]))
    model = filled(draw, Holder(LayerScale(width), None))
    return Case(model.eval(), activation(draw, (2, draw(st.integers(1, 6)), width)), {}, f"LayerScale({width})")


@st.composite
def blocks(draw: st.DrawFn) -> Case:
    """EVA's block with both gains or attention's alone, and BEiT's."""
    width = draw(st.sampled_from([8, 16]))
    if draw(st.booleans()):
        block: nn.Module = EvaBlock(width, HEADS, init_values=0.1, attn_only_layer_scale=draw(st.booleans()))
    else:
        block = BeitBlock(width, HEADS, init_values=0.1)
    model = filled(draw, Holder(block, None))
    return Case(model.eval(), activation(draw, (1, draw(st.integers(2, 6)), width)), {}, type(block).__name__)


CASES = st.one_of(scales(), blocks())


@given(CASES)
def test_ranked_layer_scale(case: Case) -> None:
    assert by_contract(case, RankedLayerScaleRewrite()) == []


@given(CASES)
def test_every_bit_is_the_original_s(case: Case) -> None:
    new = apply_rewrites(case.model, [RankedLayerScaleRewrite()]).model
    with torch.no_grad():
        x = case.x.float()
        assert torch.equal(new.blocks[0](x.clone()), case.model.blocks[0](x.clone()))


@pytest.mark.parametrize("block", [EvaBlock(8, HEADS), BeitBlock(8, HEADS), nn.Linear(8, 8)])
def test_a_block_without_a_gain_is_none_of_its_concern(block: nn.Module) -> None:
    rewrite = RankedLayerScaleRewrite()
    assert not rewrite.concerns(block)
    assert "has no gain per channel" in (rewrite.refuses(Site("blocks.0", block)) or "")


def test_one_that_works_in_place_is_refused() -> None:
    site = Site("blocks.0", LayerScale(8, inplace=True))
    assert "in place" in (RankedLayerScaleRewrite().refuses(site) or "")


class _Reversed(RankedLayerScale):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma.flip(0)


class _Twice(RankedLayerScale):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.gamma


def _inner(tamper: Tamper) -> Tamper:
    """The mistake in every scale of the new module."""

    def everywhere(site: Site, rewritten: Rewritten) -> None:
        for module in rewritten.module.modules():
            if isinstance(module, RankedLayerScale):
                tamper(site, Rewritten(module, rewritten.origins))

    return everywhere


def _exchanged(_: Site, rewritten: Rewritten) -> None:
    if isinstance(block := rewritten.module, RankedBlock):
        block.scale1, block.scale2 = block.scale2, block.scale1


def _flipped_bit(_: Site, rewritten: Rewritten) -> None:
    gamma = rewritten.module.gamma
    gamma.data = gamma.data.clone()
    gamma.data.view(torch.int64 if gamma.dtype == torch.float64 else torch.int32)[0] ^= 1


MISTAKES: dict[str, Tamper] = {
    "channels reversed": _inner(as_class(_Reversed)),
    "gain applied twice": _inner(as_class(_Twice)),
    "the two gains exchanged": _exchanged,
    "one bit of a gain flipped": _inner(_flipped_bit),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_ranked_layer_scale_is_rejected(mistake: str) -> None:
    assert not survives(Mutant(RankedLayerScaleRewrite(), MISTAKES[mistake]), CASES)
