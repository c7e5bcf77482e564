"""The rewrites keep their contracts in emulated fp16, on four devices; wrong ones do not. The bound: fp16_checks.py."""

from __future__ import annotations

import pytest
import torch
from fp16_checks import PROFILES, Compared, compare, computable
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rewrite_cases import Case, Holder, attentions, pools
from rewrite_mutants import MUTANTS, Mutant, Tamper, as_class
from torch import nn

from fidelity.models.counter_random import normal
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.pool_one_query import PoolOneQuery
from fidelity.rewrites.rotate_half import RotateHalf
from fidelity.rewrites.safe_layernorm import (
    FIXED_SCALE,
    GREATEST_FACTOR,
    RowLayerNormRewrite,
    RowScaledLayerNorm,
    SafeLayerNorm,
    SafeLayerNormRewrite,
    row_target,
)
from fidelity.rewrites.split_qkv import SplitQkv

pytestmark = pytest.mark.timeout(300)
every_profile = pytest.mark.parametrize("profile", PROFILES)
WIDTH = 768  # what the contracts' deviations are stated for


def everywhere(compared: Compared) -> list[str]:
    """Contracts that claim: finite wherever the original is."""
    return compared.violations(compared.finite)


@every_profile
@settings(max_examples=8)
@given(case=attentions(rotary=False))
def test_split_qkv(profile: str, case: Case) -> None:
    assume(computable(case, PROFILES[profile]))
    assert everywhere(compare(case, [SplitQkv()], PROFILES[profile])) == []


@every_profile
@settings(max_examples=8)
@given(case=attentions(rotary=True))
def test_rotate_half_after_split_qkv(profile: str, case: Case) -> None:
    assume(computable(case, PROFILES[profile]))
    assert everywhere(compare(case, [SplitQkv(), RotateHalf()], PROFILES[profile])) == []


@every_profile
@settings(max_examples=8)
@given(case=pools())
def test_pool_one_query(profile: str, case: Case) -> None:
    assert everywhere(compare(case, [PoolOneQuery()], PROFILES[profile])) == []


@st.composite
def norm_rows(draw: st.DrawFn, low: float, high: float) -> Case:
    """A LayerNorm and rows of one deviation between `low` and `high`, as for width 768; with an offset or not.

    High ones are scaled by sqrt(768 / width), as the contract says, since the same sum of squares fits; 0.9
    of it, since a row that is drawn deviates a little more than its distribution.
    """
    width = draw(st.sampled_from([16, 192, WIDTH]))
    norm = nn.LayerNorm(width, eps=draw(st.sampled_from([1e-6, 1e-5])), elementwise_affine=draw(st.booleans()))
    seed = draw(st.integers(0, 2**16))
    with torch.no_grad():
        for name, parameter in norm.named_parameters():
            noise = torch.from_numpy(normal(seed, name, tuple(parameter.shape)).copy()) * 0.3
            parameter.copy_(noise + 1 if name == "weight" else noise)
    top = 0.9 * high * (WIDTH / width) ** 0.5 if high < 1e4 else high
    deviation = low * (top / low) ** draw(st.floats(0, 1))
    rows = torch.from_numpy(normal(seed, "rows", (1, 4, width)).copy()).double()
    rows = (rows - rows.mean(-1, keepdim=True)) / rows.std(-1, correction=0, keepdim=True)
    x = (rows + draw(st.sampled_from([0.0, 0.0, 1.0]))) * deviation
    return Case(Holder(norm, None).eval(), x, {}, f"LayerNorm({width}, {norm.eps}), deviation {deviation:.3g}")


SAFE = SafeLayerNormRewrite.contract.fp16_row_deviation or (0.0, 0.0)
ROW_LARGEST = 65504 / 8  # a row of that deviation holds numbers up to 5 deviations and an offset
safe_rows, row_rows = norm_rows(*SAFE), norm_rows(1e-3, ROW_LARGEST)


def variance(x: torch.Tensor) -> torch.Tensor:
    """Of every row, before any scale."""
    return x.reshape(-1, x.shape[-1]).var(dim=-1, correction=0)


def safe_variance(x: torch.Tensor) -> torch.Tensor:
    return variance(x) / FIXED_SCALE**2


def row_variance(x: torch.Tensor) -> torch.Tensor:
    target = row_target(x.shape[-1])
    amax = x.reshape(-1, x.shape[-1]).abs().amax(dim=-1).clamp(min=target / GREATEST_FACTOR)
    return variance(x) * (target / amax) ** 2


def safe_violations(case: Case, rewrite: Rewrite, profile: str) -> list[str]:
    compared = compare(case, [rewrite], PROFILES[profile], safe_variance)
    return compared.violations(torch.ones_like(compared.finite), holds=True)


def row_violations(case: Case, rewrite: Rewrite, profile: str) -> list[str]:
    compared = compare(case, [rewrite], PROFILES[profile], row_variance)
    return compared.violations(torch.ones_like(compared.finite), holds=True)


@every_profile
@settings(max_examples=10)
@given(case=safe_rows)
def test_safe_layernorm_on_its_whole_domain(profile: str, case: Case) -> None:
    assert safe_violations(case, SafeLayerNormRewrite(), profile) == []


@every_profile
@settings(max_examples=10)
@given(case=row_rows)
def test_row_layernorm_on_its_whole_domain(profile: str, case: Case) -> None:
    assert row_violations(case, RowLayerNormRewrite(), profile) == []


@every_profile
def test_row_layernorm_gives_the_bias_for_rows_without_deviation(profile: str) -> None:
    norm = nn.LayerNorm(64)
    with torch.no_grad():
        norm.bias.copy_(torch.arange(64) / 64)
    case = Case(Holder(norm, None).eval(), torch.tensor([[[0.0] * 64, [1e-7] * 64]]).double())
    compared = compare(case, [RowLayerNormRewrite()], PROFILES[profile])
    assert compared.violations(torch.ones(2, dtype=torch.bool)) == []


def no_scale(scale: float) -> type[SafeLayerNorm]:
    class Other(SafeLayerNorm):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.normalise(x * (1 / scale), self.eps / scale**2)

    return Other


class Unclamped(RowScaledLayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.target / x.abs().amax(dim=-1, keepdim=True)
        return self.normalise(x * scale, (scale * scale) * self.eps)


class TooLarge(RowScaledLayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = 16 * self.target / torch.clamp(x.abs().amax(dim=-1, keepdim=True), min=self.least)
        return self.normalise(x * scale, (scale * scale) * self.eps)


class FloorOf768(RowScaledLayerNorm):
    """The floor 1 / 16: at width 192 and less the square of the scale overflows on rows near zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.target / torch.clamp(x.abs().amax(dim=-1, keepdim=True), min=1 / 16)
        return self.normalise(x * scale, (scale * scale) * self.eps)


LAYERNORM_MUTANTS: dict[str, tuple[type[Rewrite], Tamper, str]] = {
    "S = 1": (SafeLayerNormRewrite, as_class(no_scale(1)), "running-fp16"),
    "S = 4": (SafeLayerNormRewrite, as_class(no_scale(4)), "card-mali-opencl"),
    "S = 2048": (SafeLayerNormRewrite, as_class(no_scale(2048)), "ieee-fp16-storage"),
    "eps not scaled": (
        SafeLayerNormRewrite,
        MUTANTS["safe_layernorm"][1]["eps not scaled"],
        "mldrift-webgpu-lavapipe",
    ),
    "scale undone twice": (
        SafeLayerNormRewrite,
        MUTANTS["safe_layernorm"][1]["scale undone twice"],
        "ieee-fp16-storage",
    ),
    "row's target too large": (RowLayerNormRewrite, as_class(TooLarge), "running-fp16"),
    "row's floor that of width 768": (RowLayerNormRewrite, as_class(FloorOf768), "ieee-fp16-storage"),
}


@pytest.mark.parametrize("mistake", LAYERNORM_MUTANTS)
def test_a_wrong_layernorm_is_rejected(mistake: str) -> None:
    honest, tamper, profile = LAYERNORM_MUTANTS[mistake]
    safe = honest is SafeLayerNormRewrite
    judge, cases = (safe_violations, safe_rows) if safe else (row_violations, row_rows)
    assert survives(Mutant(honest(), tamper), cases, lambda case, mutant: judge(case, mutant, profile)) is None


def test_a_row_scale_without_its_floor_is_rejected_on_a_row_of_zeros() -> None:
    case = Case(Holder(nn.LayerNorm(64), None).eval(), torch.zeros(1, 1, 64).double())
    compared = compare(case, [Mutant(RowLayerNormRewrite(), as_class(Unclamped))], PROFILES["ieee-fp16-storage"])
    assert compared.violations(torch.ones(1, dtype=torch.bool)) != []


@pytest.mark.parametrize(
    ("rewrite", "mistake"),
    [
        ("rotate_half", "permutation on q only"),
        ("rotate_half", "sine and cosine swapped"),
        ("split_qkv", "softmax scale forgotten"),
        ("split_qkv", "k and v swapped"),
        ("pool_one_query", "scale forgotten"),
        ("pool_one_query", "softmax over the heads"),
    ],
)
def test_a_wrong_attention_is_rejected(rewrite: str, mistake: str) -> None:
    honest, mistakes = MUTANTS[rewrite]
    mutant = Mutant(honest(), mistakes[mistake])
    cases = pools() if rewrite == "pool_one_query" else attentions(rotary=rewrite == "rotate_half")
    profile = PROFILES["ieee-fp16-storage"]
    assert survives(mutant, cases, lambda case, wrong: everywhere(compare(case, [wrong], profile))) is None


def survives(mutant: Rewrite, cases: st.SearchStrategy[Case], judge: object) -> str | None:
    """None when some case rejects the mutant; else how many were tried."""
    found: list[str] = []

    @settings(max_examples=25)
    @given(case=cases)
    def search(case: Case) -> None:
        if not found:
            found.extend(judge(case, mutant))  # type: ignore[operator]

    search()
    return None if found else "survived 25 cases"


@every_profile
def test_the_bound_is_no_licence(profile: str) -> None:
    """On ordinary activations it stays below a tenth, where every gross mistake shows."""
    norm = nn.LayerNorm(WIDTH)
    case = Case(Holder(norm, None).eval(), torch.from_numpy(normal(1, "x", (1, 4, WIDTH)).copy()).double() * 5)
    compared = compare(case, [SafeLayerNormRewrite()], PROFILES[profile], safe_variance)
    # 6 x 2^-11 x sqrt(768) = 0.081, and q / v = 2^-24 x 1024 / 25 = 2.4e-6
    assert float(compared.allowed.max()) < 0.1
    assert float(compared.rewritten.max()) < 0.02
