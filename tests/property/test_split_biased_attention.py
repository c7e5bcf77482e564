"""split_qkv keeps its contract on BEiT's attention and its relative position biases; wrong ones do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutant_search import by_contract, survives
from rewrite_cases import Case, Holder, activation, filled
from rewrite_mutants import Mutant, Tamper, as_class, without
from timm.models.beit import Attention

from fidelity.models.counter_random import normal
from fidelity.rewrites.contract import Rewritten, Site
from fidelity.rewrites.split_qkv import SplitBiasedAttention, SplitQkv
from fidelity.rewrites.weights_map import Derived


@st.composite
def biased_attentions(draw: st.DrawFn) -> Case:
    """BEiT's attention on a small window with a class token, biases and tables or none."""
    heads, width = draw(st.integers(1, 3)), draw(st.sampled_from([4, 8]))
    grid = (draw(st.integers(1, 3)), draw(st.integers(2, 3)))
    own, shared = draw(st.booleans()), draw(st.booleans())
    attention = Attention(
        heads * width,
        heads,
        qkv_bias=draw(st.booleans()),
        qkv_bias_separate=draw(st.booleans()),
        window_size=grid if own else None,
    )
    tokens = grid[0] * grid[1] + 1
    x = activation(draw, (draw(st.integers(1, 2)), tokens, heads * width))
    given_bias = torch.from_numpy(normal(draw(st.integers(0, 99)), "shared", (heads, tokens, tokens)).copy()).double()
    case = Case(filled(draw, Holder(attention, None)).eval(), x, told=f"{heads} heads of {width}, {grid}, own {own}")
    return replace(case, kwargs={"shared_rel_pos_bias": given_bias}) if shared else case


@given(biased_attentions())
def test_split_qkv_of_biased_attention(case: Case) -> None:
    assert by_contract(case, SplitQkv()) == []


def test_the_bias_is_the_table_bit_for_bit() -> None:
    """It is listed as derived, which the weights map does not compare: looking up rounds nothing."""
    attention = Attention(8, 2, qkv_bias=True, window_size=(2, 3))
    torch.nn.init.normal_(attention.relative_position_bias_table)
    rewritten = SplitQkv().rewrite(Site("blocks.0.attn", attention))
    bias, index = rewritten.module.relative_bias, attention.relative_position_index
    for head in range(2):
        mine = bias.reshape(7, 2, 7)[:, head]
        assert torch.equal(mine, attention.relative_position_bias_table[index, head])
    origin = rewritten.origins["relative_bias"]
    assert isinstance(origin, Derived)
    assert origin.sources == ("relative_position_bias_table", "relative_position_index")


class _BiasBeforeScale(SplitBiasedAttention):
    def forward(self, x: torch.Tensor, shared_rel_pos_bias: torch.Tensor | None = None) -> torch.Tensor:
        before = self.relative_bias
        self.relative_bias = None if before is None else before * self.head_dim**-0.5
        try:
            return super().forward(x, shared_rel_pos_bias)
        finally:
            self.relative_bias = before


class _SharedForgotten(SplitBiasedAttention):
    def forward(self, x: torch.Tensor, shared_rel_pos_bias: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x, None)


def turned(bias: torch.Tensor) -> torch.Tensor:
    """The bias of k's tokens towards q's."""
    tokens = bias.shape[1]
    return bias.reshape(tokens, -1, tokens).permute(2, 1, 0).reshape(bias.shape)


def another_bias(change: Callable[[torch.Tensor], torch.Tensor]) -> Tamper:
    """Another constant in place of the bias that was looked up."""

    def tamper(_: Site, rewritten: Rewritten) -> None:
        bias = rewritten.module.relative_bias
        rewritten.module.relative_bias = None if bias is None else change(bias)  # type: ignore[assignment]

    return tamper


MISTAKES: dict[str, Tamper] = {
    "bias scaled like the logits": as_class(_BiasBeforeScale),
    "shared bias forgotten": as_class(_SharedForgotten),
    "bias transposed": another_bias(turned),
    "heads of the bias swapped": another_bias(lambda bias: bias.roll(bias.shape[1], dims=-1)),
    "bias one token late": another_bias(lambda bias: bias.roll(1, dims=1)),
    "bias rounded to fp16": another_bias(lambda bias: bias.half().to(bias.dtype)),
    "bias of v dropped": without("v_proj.bias"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_split_is_rejected(mistake: str) -> None:
    assert not survives(Mutant(SplitQkv(), MISTAKES[mistake]), biased_attentions())
