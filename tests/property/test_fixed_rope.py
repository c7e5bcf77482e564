"""fixed_rope keeps its contract on drawn attentions under DINOv3's embedding; wrong constants do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutant_search import by_contract, survives
from rewrite_cases import Case, Holder, activation, filled
from rewrite_mutants import Mutant, Tamper
from timm.layers.attention import AttentionRope
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from timm.models.eva import EvaAttention
from torch import nn

from fidelity.rewrites.contract import Rewritten, Site
from fidelity.rewrites.fixed_rope import FixedRope, FixedRopeAttention


class Patches(nn.Module):
    """What a model of any size says of the size that it was built for."""

    def __init__(self, grid_size: tuple[int, int]) -> None:
        super().__init__()
        self.grid_size = grid_size


@st.composite
def rotary_attentions(draw: st.DrawFn) -> Case:
    """Attention that rotates halves, in a model of any size that was built for a small grid."""
    kind = draw(st.sampled_from([AttentionRope, EvaAttention]))
    heads, width = draw(st.integers(1, 2)), draw(st.sampled_from([4, 8]))
    grid, prefix = (draw(st.integers(1, 3)), draw(st.integers(2, 4))), draw(st.integers(0, 2))
    module = kind(
        heads * width,
        heads,
        num_prefix_tokens=prefix,
        qkv_fused=draw(st.booleans()),
        rotate_half=True,
        scale_norm=False,
    )
    rope = RotaryEmbeddingDinoV3(width, temperature=draw(st.sampled_from([10.0, 100.0])))
    handed = RotaryEmbeddingDinoV3(width, temperature=rope.temperature).double().get_embed(shape=list(grid))
    model = filled(draw, Holder(module, rope))
    model.patch_embed = Patches(grid)
    x = activation(draw, (1, prefix + grid[0] * grid[1], heads * width))
    return Case(model.eval(), x, {"rope": handed}, f"{kind.__name__}, {heads} heads of {width}, {grid}, {prefix}")


@given(rotary_attentions())
def test_fixed_rope(case: Case) -> None:
    assert by_contract(case, FixedRope()) == []


def test_what_the_model_hands_over_is_not_read() -> None:
    attention = FixedRopeAttention(AttentionRope(8, 2, rotate_half=True, num_prefix_tokens=0), torch.rand(6, 8)).eval()
    x = torch.rand(1, 6, 8)
    assert torch.equal(attention(x), attention(x, rope=torch.full((6, 8), torch.nan)))


def test_a_stored_embedding_is_left_alone() -> None:
    """So that nothing is new about a model whose rope is a constant, or which interleaves."""
    site = Site("blocks.0.attn", AttentionRope(8, 2, rotate_half=True), torch.zeros(4, 8))
    assert "stores" in str(FixedRope().refuses(site))
    assert not FixedRope().concerns(AttentionRope(8, 2))


def another(change: Callable[[torch.Tensor], torch.Tensor]) -> Tamper:
    """Another constant in place of the embedding."""

    def tamper(_: Site, rewritten: Rewritten) -> None:
        rewritten.module.rope = change(rewritten.module.rope)  # type: ignore[arg-type]

    return tamper


MISTAKES: dict[str, Tamper] = {
    "sine and cosine swapped": another(lambda rope: rope.roll(rope.shape[1] // 2, dims=1)),
    "one patch late": another(lambda rope: rope.roll(1, dims=0)),
    "rounded to fp16": another(lambda rope: rope.half().to(rope.dtype)),
    "turned the other way": another(lambda rope: torch.cat([-rope.chunk(2, 1)[0], rope.chunk(2, 1)[1]], dim=1)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_constant_is_rejected(mistake: str) -> None:
    assert not survives(Mutant(FixedRope(), MISTAKES[mistake]), rotary_attentions())
