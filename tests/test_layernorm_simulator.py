"""LayerNorm under a profile: the torch modules' bits, headroom to the bit, a model's safe scales, the collapse."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from torch import nn

from fidelity.arithmetic.layernorm import (
    PER_ROW,
    STOCK,
    NormRows,
    Scale,
    normalise,
    rounding_error,
    row_target,
    simulate,
)
from fidelity.arithmetic.layernorm_steps import Steps
from fidelity.arithmetic.layernorm_sweep import LayerNormSweep, ScaleOutcome, advise, scale_outcome
from fidelity.arithmetic.profile import load_profile, shipped
from fidelity.arithmetic.torch.collapse import collapse, correlation
from fidelity.arithmetic.torch.observed import norms_of, observe_truth, ordinary_channels
from fidelity.arithmetic.torch.run import TorchEmulator
from fidelity.arithmetic.torch.sweep import sweep_layernorm
from fidelity.cli.layernorm_sweep import CAVEAT, advice_text, layernorm_sweep, sweep_lines
from fidelity.cli.options import Session
from fidelity.errors import BadInput
from fidelity.models.counter_random import normal
from fidelity.models.input_contract import input_contract
from fidelity.models.inputs import photographs
from fidelity.models.source import Source
from fidelity.models.weights import Weights, build_model
from fidelity.progress import Reporter
from fidelity.report.layernorm_plot import collapse_plot, scales_plot
from fidelity.rewrites import safe_layernorm

IMAGES = Path(__file__).parents[1] / "golden/images"
B16 = "timm:vit_pe_core_base_patch16_224"
TINY = f"{B16}?depth=2&embed_dim=64&num_heads=2&img_size=64"
CARD = "card-mali-opencl"


def rows(width: int = 64, scale: float = 1.0, count: int = 5) -> np.ndarray:
    return normal(5, "rows", (count, width)) * np.float32(scale)


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("scale", ["none", "32", "row", "rms"])
def test_the_steps_are_those_of_the_torch_module_bit_for_bit(name: str, scale: str) -> None:
    profile = load_profile(name)
    for width, magnitude in ((64, 1.0), (64, 40.0), (192, 1e-3), (768, 9.0)):
        x = rows(width, magnitude)
        norm = nn.LayerNorm(width, elementwise_affine=False)
        modules = {
            "none": norm,
            "32": safe_layernorm.SafeLayerNorm(norm),
            "row": safe_layernorm.RowScaledLayerNorm(norm),
            "rms": nn.RMSNorm(width, eps=1e-5, elementwise_affine=False),
        }
        module = TorchEmulator(modules[scale], profile).run(torch.from_numpy(x)).complete().numpy()
        rms = scale == "rms"
        got = normalise(NormRows(x, 1e-5, rms), STOCK if rms else Scale.parse(scale), Steps(profile))
        np.testing.assert_array_equal(got, module)


def test_the_row_s_target_is_the_rewrite_s() -> None:
    assert all(row_target(width) == safe_layernorm.row_target(width) for width in (16, 64, 192, 768, 1024, 1536))


def test_headroom_is_the_distance_to_the_largest_value_in_bits() -> None:
    """Rows of +a and -a of width 1024: the sum of squares is 1024 a^2, exactly, in pairs."""
    profile = load_profile("card-mali-opencl-pairwise")
    signs = np.tile(np.float32([1, -1]), 512)[None]
    for a, bits in ((4.0, math.log2(65504 / 2**14)), (7.75, math.log2(65504 / (1024 * 7.75**2)))):
        found = simulate(NormRows(signs * np.float32(a), 1e-5), STOCK, profile)
        assert found.headroom == pytest.approx(bits, abs=1e-6)
        assert (found.overflowing, found.tightest) == (0, "sum of the variance")
    over = simulate(NormRows(signs * np.float32(8), 1e-5), STOCK, profile)  # 65,536
    assert over.headroom == pytest.approx(math.log2(65504 / 65536), abs=1e-6)
    assert over.overflowing == 1
    assert simulate(NormRows(signs * np.float32(8), 1e-5), Scale.parse("2"), profile).overflowing == 0


def test_an_overflow_that_saturates_is_one_too() -> None:
    """The measured delegate stores the square of 300 as infinity and a mean beyond 65,504 as 65,504."""
    found = simulate(NormRows(rows(64, 300.0), 1e-5), STOCK, load_profile("mldrift-webgpu-lavapipe"))
    assert found.overflowing == 1
    assert found.tightest == "square"


def test_rms_norm_keeps_the_mean() -> None:
    shifted = rows(64, 0.1) + np.float32(10)
    found = simulate(NormRows(shifted, 1e-5, rms=True), STOCK, load_profile(CARD))
    assert found.overflowing == 0
    assert found.worst_error < rounding_error(64)
    assert simulate(NormRows(shifted * np.float32(4), 1e-5, rms=True), STOCK, load_profile(CARD)).overflowing == 1
    assert simulate(NormRows(shifted * np.float32(4), 1e-5), STOCK, load_profile(CARD)).overflowing == 0


@pytest.mark.parametrize("text", ["", "0", "-2", "nan", "inf", "rows"])
def test_a_scale_that_is_none_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="expected none, row or a positive number"):
        Scale.parse(text)
    assert [str(Scale.parse(good)) for good in ("none", "row", "32")] == ["none", "row", "32"]


def test_outcomes_name_the_norm_and_the_shares_are_of_all_rows() -> None:
    norms = {"calm": NormRows(rows(64), 1e-5), "wild": NormRows(rows(64, 60.0), 1e-5), "wide": NormRows(rows(96), 1e-6)}
    found = scale_outcome(norms, STOCK, load_profile(CARD))
    assert (found.at, found.worst_at, found.outcome.rows) == ("wild", "wild", 15)
    assert found.outcome.overflowing == pytest.approx(1 / 3)
    assert not found.safe
    assert scale_outcome(norms, Scale.parse("32"), load_profile(CARD)).safe
    assert not scale_outcome(norms, Scale.parse("32"), load_profile(CARD), magnitude=64.0).safe


def outcomes(norms: dict[str, NormRows], profile: str) -> tuple[ScaleOutcome, ...]:
    scales = (STOCK, *(Scale(kind="fixed", divisor=2.0**power) for power in range(1, 13)), PER_ROW)
    return tuple(scale_outcome(norms, scale, load_profile(profile)) for scale in scales)


def test_the_advice_lies_within_the_safe_range_and_falls_back_to_the_row() -> None:
    calm = advise(outcomes({"a": NormRows(rows(64), 1e-5)}, CARD))
    assert (calm.least, calm.scale) == (1, "none")
    assert "use stock LayerNorm" in advice_text(calm)
    large = advise(outcomes({"a": NormRows(rows(64, 200.0), 1e-5)}, CARD))
    # 64 x 200^2 / S^2 <= 65,504 from S = 6.25 on; the variance is normal, >= 2^-14, up to S = 200 x 128
    assert large.least == 8
    assert large.greatest == 4096
    assert 8 < float(large.scale) < 4096
    both = {"small": NormRows(rows(64, 2e-3), 1e-5), "huge": NormRows(rows(64, 9e3), 1e-5)}
    impossible = advise(outcomes(both, "ieee-fp16-storage"))
    assert (impossible.least, impossible.scale) == (None, "row")
    assert "per-row" in advice_text(impossible)
    nothing = advise(tuple(o for o in outcomes(both, "ieee-fp16-storage") if o.outcome.scale != "row"))
    assert nothing.scale == ""
    assert advice_text(nothing).startswith("no scale is safe")


def test_inputs_of_every_norm_are_recorded_and_the_model_is_left_alone() -> None:
    model = build_model(Source.parse(TINY), Weights.parse("massive:900@0"), 0)
    images = torch.from_numpy(np.concatenate(list(photographs(IMAGES, input_contract(model)).values())[:2]))
    truth = observe_truth(model, images, 4)
    assert set(truth.norms) == set(norms_of(model))
    assert {"norm_pre", "blocks.0.norm1", "blocks.1.norm2", "attn_pool.norm"} <= set(truth.norms)
    assert all(len(norm.rows) <= 4 for norm in truth.norms.values())
    assert truth.peak == pytest.approx(900, rel=0.05)
    assert (~ordinary_channels(truth.blocks["model.blocks.1"])).sum() == 4  # those that massive.py plants
    assert next(model.parameters()).dtype == torch.float32
    deviations = truth.norms["blocks.1.norm1"].rows.std(axis=1)
    assert (np.diff(deviations) >= 0).all()


@pytest.fixture(scope="module")
def small() -> LayerNormSweep:
    model = build_model(Source.parse(TINY), Weights.parse("massive:900@0"), 0)
    images = dict(list(photographs(IMAGES, input_contract(model)).items())[:2])
    return sweep_layernorm(
        TINY, "massive:900@0", (load_profile(CARD),), images, 0, Reporter(), shares=(0.05, 1.0), forms=("stock", "safe")
    )


def test_a_sweep_finds_the_collapse_and_what_cures_it(small: LayerNormSweep) -> None:
    points = {(point.form, round(point.peak / small.peak, 2)): point for point in small.collapse}
    assert points["stock", 0.05].correlation > 0.999  # a peak of 45: nothing overflows at width 64
    assert points["stock", 1.0].correlation < 0.5
    assert points["safe", 1.0].correlation > 0.999
    assert points["stock", 1.0].blocks[0] > points["stock", 1.0].blocks[1]
    by_scale = {each.outcome.scale: each for each in small.scales}
    assert not by_scale["none"].safe
    assert by_scale["32"].safe
    assert by_scale["none"].outcome.overflowing > 0.25
    (advice,) = small.advice
    assert advice.least is not None
    assert advice.least > 1
    assert LayerNormSweep.model_validate_json(small.to_json()) == small


def test_the_lines_tell_advice_and_caveat(small: LayerNormSweep) -> None:
    lines = sweep_lines(small)
    assert lines[-1] == CAVEAT
    assert any("use " in line and "safe for this model" in line for line in lines)
    assert sum("stock: correlation" in line for line in lines) == 2


def test_the_figures_stand_alone_and_are_the_same_every_time(small: LayerNormSweep) -> None:
    for draw, words in (
        (collapse_plot, ("stock LayerNorm", "1 - correlation")),
        (scales_plot, ("divided by 32", "per-row scale")),
    ):
        svg = draw(small)
        root = ET.fromstring(svg)  # noqa: S314
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        text = " ".join("".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text"))
        assert all(word in text for word in words)
        assert not re.search(r"#0000[ef]\d", svg)
        for variable in set(re.findall(r"var\((--[a-z0-9-]+)\)", svg)):
            assert f"{variable}:" in svg, variable
        assert draw(small) == svg


def test_a_sweep_of_what_has_no_scale_is_bad_input(tmp_path: Path) -> None:
    session = Session(False, False, None)
    with pytest.raises(BadInput, match="a sweep is of a SOURCE"):
        layernorm_sweep("model.tflite", CARD, "seeded", IMAGES, None, 0, session)
    with pytest.raises(BadInput, match="needs --profile"):
        layernorm_sweep(TINY, " ", "seeded", IMAGES, None, 0, session)


def test_a_constant_output_has_no_correlation() -> None:
    assert correlation(np.ones(4), np.arange(4.0)) == 0
    assert correlation(np.array([1, np.nan, 2, 3]), np.arange(4.0)) == 0
    assert correlation(np.arange(4.0) * 2 + 1, np.arange(4.0)) == pytest.approx(1)


@pytest.mark.timeout(900)
def test_b16_collapses_as_the_card_says_and_the_safe_form_cures_it() -> None:
    """The card: correlation about 0.28 after 12 blocks. Which floor is reached is a matter of LayerNorm's biases."""
    model = build_model(Source.parse(B16), Weights.parse("massive:187.5@1"), 0)
    images = torch.from_numpy(np.concatenate(list(photographs(IMAGES, input_contract(model)).values())[:2]))
    truth = observe_truth(model, images, 8)
    stock = collapse(model, "stock", load_profile(CARD), images, truth)
    assert stock.correlation < 0.6
    falling = stock.blocks[1:]  # the massive channels are written by block 1, and read from block 2 on
    assert all(before > after for before, after in pairwise(falling))
    assert falling[0] > 0.999
    assert falling[-1] < 0.7
    assert collapse(model, "safe", load_profile(CARD), images, truth).worst >= 0.999
    assert collapse(model, "safe", load_profile(f"{CARD}-pairwise"), images, truth).worst >= 0.9999
    advice = advise(outcomes(truth.norms, CARD))
    assert advice.least is not None
    assert advice.greatest is not None
    assert advice.least <= 32 <= advice.greatest
