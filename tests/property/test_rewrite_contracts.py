"""Every rewrite keeps its contract on drawn modules, weights and activations."""

from __future__ import annotations

from hypothesis import given
from rewrite_cases import Case, attentions, layernorms, pools
from rewrite_checks import violations

from fidelity.rewrites.pool_one_query import PoolOneQuery
from fidelity.rewrites.rotate_half import RotateHalf
from fidelity.rewrites.safe_layernorm import RowLayerNormRewrite, SafeLayerNormRewrite
from fidelity.rewrites.split_qkv import SplitQkv


@given(attentions(rotary=False))
def test_split_qkv(case: Case) -> None:
    assert violations(case, [SplitQkv()]) == []


@given(attentions(rotary=True))
def test_split_qkv_with_rotary_embedding(case: Case) -> None:
    assert violations(case, [SplitQkv()]) == []


@given(attentions(rotary=True))
def test_rotate_half_on_fused_attention(case: Case) -> None:
    assert violations(case, [RotateHalf()]) == []


@given(attentions(rotary=True, fused=False))
def test_rotate_half_on_separate_projections(case: Case) -> None:
    assert violations(case, [RotateHalf()]) == []


@given(attentions(rotary=True))
def test_rotate_half_after_split_qkv(case: Case) -> None:
    assert violations(case, [SplitQkv(), RotateHalf()]) == []


@given(pools())
def test_pool_one_query(case: Case) -> None:
    assert violations(case, [PoolOneQuery()]) == []


@given(layernorms())
def test_safe_layernorm(case: Case) -> None:
    assert violations(case, [SafeLayerNormRewrite()]) == []


@given(layernorms())
def test_row_layernorm(case: Case) -> None:
    assert violations(case, [RowLayerNormRewrite()]) == []
