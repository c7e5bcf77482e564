"""A torch module under a profile: the kernels' own bits, the artefact's own bits, and what is missing by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fidelity.arithmetic.float16 import Conversion, rounded
from fidelity.arithmetic.kernels import elementwise, functions, products, reductions, softmax
from fidelity.arithmetic.observe import Observer
from fidelity.arithmetic.profile import Profile, load_profile, shipped
from fidelity.arithmetic.rules import BINARY, LAYER_NORM, SUMS, UNARY, Softmax
from fidelity.arithmetic.torch.device import Device, TorchSite
from fidelity.arithmetic.torch.run import MODULE, TorchEmulator
from fidelity.arithmetic.torch.tensors import array, converted, tensor
from fidelity.errors import BadInput
from fidelity.models.counter_random import normal, uniform_integers
from fidelity.models.source import Source
from fidelity.models.tower import ImageTower
from fidelity.models.weights import Weights, build_model
from fidelity.rewrites.apply import apply_rewrites
from fidelity.rewrites.catalogue import chosen

TINY = "timm:vit_pe_core_base_patch16_224?depth=1&embed_dim=64&num_heads=2&img_size=64"
SPECIAL = np.float32([0.0, -0.0, 1.0, -1.0, 65504.0, 65520.0, -7e4, 6e-8, -3e-8, 1e-6, 6.1e-5, np.inf, -np.inf, np.nan])


def values(shape: tuple[int, ...], name: str = "x", scale: float = 1.0) -> np.ndarray:
    return normal(7, name, shape) * np.float32(scale)


def hostile(name: str, profile: Profile) -> np.ndarray:
    """Numbers of every magnitude and every special one, as the profile stores them; [6, 14]."""
    drawn = values((6, SPECIAL.size), name) * np.float32(10.0) ** np.arange(-3, 3, dtype=np.float32)[:, None]
    return rounded(np.concatenate([SPECIAL[None], drawn[:5]]), profile.inputs)


def same(left: Any, right: Any) -> None:
    np.testing.assert_array_equal(np.asarray(left).view(np.uint32), np.asarray(right).view(np.uint32))


@pytest.mark.parametrize("conversion", [None, Conversion(), Conversion("toward_zero", "saturate", "flushed")])
def test_rounding_by_torch_gives_the_bits_of_the_definition(conversion: Conversion | None) -> None:
    drawn = uniform_integers(1, "bits", 1 << 15).astype("<u8").view("<u4")  # every exponent and sign
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = halves[~np.isnan(halves)]
    finite = halves[np.isfinite(halves)]
    x = np.concatenate([drawn.view(np.float32), halves, (finite[:-1] + finite[1:]) / 2])  # midpoints: 12 bits
    x = x[~np.isnan(x)]  # a NaN stays one; which of them, nothing here says
    same(array(converted(tensor(x), conversion)), rounded(x, conversion))
    assert np.isnan(array(converted(torch.tensor([np.nan]), conversion))).all()


@pytest.mark.parametrize("name", shipped())
def test_every_kind_gives_the_kernel_s_bits(name: str) -> None:
    profile = load_profile(name)
    device, rules = Device(profile, frozenset()), profile.rules
    a, b = hostile("a", profile), hostile("b", profile)[:, ::-1]
    for kind in BINARY:
        np.testing.assert_array_equal(
            array(device.binary(kind, tensor(a), tensor(b))), elementwise.binary(kind, a, b, rules[kind]), kind
        )
    for kind in (kind for kind in UNARY if kind in rules):
        same(array(device.unary(kind, tensor(a))), functions.unary(kind, a, rules[kind]))
    for kind in SUMS:
        for axes in ((1,), (0,), (0, 1)):
            got = array(device.reduce(kind, tensor(a[1:]), axes, keep=True))
            same(got, reductions.reduce(kind, a[1:], axes, rules[kind]))
    rule = rules["SOFTMAX"]
    assert isinstance(rule, Softmax)
    same(array(device.softmax(tensor(a[1:]), -1)), softmax.softmax(a[1:], rule))
    same(array(device.softmax(tensor(a[1:]), 0)), softmax.softmax(np.ascontiguousarray(a[1:].T), rule).T)


def test_products_with_an_order_give_the_kernel_s_bits() -> None:
    profile = load_profile("mldrift-webgpu-lavapipe")
    x, w, bias = (rounded(values(shape, shape_name), profile.inputs) for shape_name, shape in _PRODUCT)
    weights = tensor(w)
    device = Device(profile, {weights.untyped_storage().data_ptr()})
    rule = profile.rules["FULLY_CONNECTED"]
    expected = products.fully_connected(x, products.weights(w, rule), bias, rule)
    for _ in range(2):  # the second from prepared weights
        same(array(device.matmul(tensor(x), weights.T, tensor(bias))), expected)
    image, kernel = (rounded(values(s, n), profile.inputs) for n, s in (("i", (1, 3, 8, 8)), ("k", (5, 3, 4, 4))))
    window = products.Window((4, 4))
    got = array(device.convolution(tensor(image), tensor(kernel), tensor(bias[:5]), window))
    rule = profile.rules["CONV_2D"]
    prepared = products.weights(kernel.transpose(0, 2, 3, 1), rule)
    want = products.conv_2d(image.transpose(0, 2, 3, 1), prepared, (4, 4), window, bias[:5], rule)
    same(got, want.transpose(0, 3, 1, 2))


_PRODUCT = (("x", (20, 64)), ("w", (24, 64)), ("b", (24,)))


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(Source.parse(TINY), Weights.parse("seeded"), 0)


TAKEN_TOGETHER = ("stored_absorbed", "absorbs", "merges_before", "merges_after", LAYER_NORM)


def without_merging(name: str) -> Profile:
    """The profile of a device that takes nothing together, which is what a torch module can show."""

    def apart(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: apart(inner) for key, inner in value.items() if key not in TAKEN_TOGETHER}
        return [apart(inner) for inner in value] if isinstance(value, list) else value

    return Profile.model_validate(apart(load_profile(name).model_dump(mode="json")))


def test_a_rewritten_block_has_the_bits_of_its_artefact(model: Any, tmp_path: Path) -> None:
    """One transformer block, converted by the real converter: every order is the profile's, so bits must agree."""
    pytest.importorskip("litert_torch")
    from fidelity.tflite.convert import convert  # noqa: PLC0415
    from fidelity.tflite.emulation.emulate import Emulator  # noqa: PLC0415
    from fidelity.tflite.graph import read_graph  # noqa: PLC0415

    block = apply_rewrites(model, chosen("split_qkv,rotate_half,safe_layernorm")).model.blocks[0]
    x, path = values((1, 17, 64)), tmp_path / "block.tflite"
    convert(block, {"x": tensor(x)}, path, outputs=("y",))
    profile = without_merging("mldrift-webgpu-lavapipe")
    artefact = Emulator(read_graph(path), profile)
    (name, _), *_ = artefact.signature.inputs
    expected = artefact.run({name: x}).outputs["y"]
    same(array(TorchEmulator(block, profile).run(tensor(x)).complete()), expected)
    other = TorchEmulator(block, load_profile("ieee-fp16-storage")).run(tensor(x)).complete()
    assert not np.array_equal(array(other), expected)  # another arithmetic is told apart


# Two float32 evaluations of one function: sums of at most 768 terms, 2 LAMBDA u sqrt(K) = 6 x 6e-8 x 28 = 1e-5
# (rewrites/rounding.py), times an amplification of a few in one block.
FLOAT32 = 5e-5


@pytest.mark.parametrize("rewrites", ["none", "all"])
def test_float32_without_rounding_is_torch_s_own_forward(model: Any, rewrites: str) -> None:
    tower = ImageTower(apply_rewrites(model, chosen(rewrites)).model).eval()
    image = tensor(values((2, 3, 64, 64)))
    with torch.no_grad():
        expected = tower(image)
    run = TorchEmulator(tower, load_profile("ieee-fp32")).run(image)
    assert run.missing == ()
    assert float((run.output - expected).norm() / expected.norm()) < FLOAT32
    halves = TorchEmulator(tower, load_profile("ieee-fp16-storage")).run(image).complete()
    error = float((halves - expected).norm() / expected.norm())
    # every result of some 60 successive ones is off by up to 2^-11, at random: sqrt(60) x 2.8e-4 (rms) = 2e-3
    assert 2e-4 < error < 1e-2


def test_the_module_given_is_left_as_it_was(model: Any) -> None:
    before = {name: p.clone() for name, p in model.named_parameters()}
    TorchEmulator(model, load_profile("ieee-fp16-storage")).run(tensor(values((1, 3, 64, 64))))
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def seen(module: Any, profile: str, *args: Any) -> dict[tuple[str, str, str], float]:
    """Largest magnitude of everything that the watch is shown, by path, kind and part."""
    found: dict[tuple[str, str, str], float] = {}

    def watch(site: TorchSite) -> Observer:
        def observe(part: Any, numbers: np.ndarray) -> None:
            key = (site.path, site.kind, part)
            found[key] = max(found.get(key, 0.0), float(np.abs(numbers).max()))

        return observe

    TorchEmulator(module, load_profile(profile)).run(*args, watch=watch)
    return found


def test_the_overflow_inside_a_layernorm_is_seen_where_every_tensor_is_finite() -> None:
    norm = torch.nn.Sequential(torch.nn.LayerNorm(64))
    found = seen(norm, "card-mali-opencl", tensor(values((1, 3, 64), scale=60.0)))
    assert np.isinf(found["0", "MEAN", "sum"])
    assert np.isfinite(found["0", "SQUARED_DIFFERENCE", "result"])
    assert np.isfinite(found["", MODULE, "result"])
    assert np.isfinite(seen(norm, "ieee-fp32", tensor(values((1, 3, 64), scale=60.0)))["0", "MEAN", "sum"])


def test_attention_s_logits_and_softmax_s_sum_are_seen(model: Any) -> None:
    found = seen(model, "ieee-fp16-storage", tensor(values((1, 3, 64, 64))))
    path = "blocks.0.attn"
    assert found[path, "BATCH_MATMUL", "sum"] > 0
    assert 1 <= found[path, "SOFTMAX", "sum"] <= 17.01  # e^0 of the greatest, and at most all tokens
    assert {("blocks.0.mlp.act", "GELU", "result"), ("blocks.0", MODULE, "result")} <= set(found)


class Odd(torch.nn.Module):
    """A known operation, one that is unknown, and one behind it."""

    def __init__(self, odd: Callable[[Any], Any]) -> None:
        super().__init__()
        self.before, self.inner = torch.nn.Linear(4, 4), Inner(odd)

    def forward(self, x: Any) -> Any:
        return self.inner(self.before(x)) + x


class Inner(torch.nn.Module):
    def __init__(self, odd: Callable[[Any], Any]) -> None:
        super().__init__()
        self.odd = odd

    def forward(self, x: Any) -> Any:
        return self.odd(x)


@pytest.mark.parametrize(
    ("odd", "name"),
    [
        (lambda x: x.cumsum(-1), "cumsum"),
        (lambda x: x.double(), "_to_copy"),
        (lambda x: torch.nn.functional.gelu(x, approximate="tanh"), "gelu"),
        (lambda x: x.pow(x), "pow"),
        (lambda x: torch.div(x, 2.0, rounding_mode="floor"), "div"),
    ],
)
def test_what_is_missing_is_named_with_its_path_and_gives_nan(odd: Callable[[Any], Any], name: str) -> None:
    run = TorchEmulator(Odd(odd), load_profile("ieee-fp16-storage")).run(torch.ones(1, 4))
    assert (run.missing[0].path, run.missing[0].name) == ("inner", name)
    assert torch.isnan(run.output).all()
    with pytest.raises(BadInput, match=rf"^inner: {name} cannot be emulated"):
        run.complete()


def test_a_profile_without_a_rule_is_told_as_missing() -> None:
    profile = load_profile("ieee-fp16-storage")
    bare = profile.model_copy(update={"rules": {k: r for k, r in profile.rules.items() if k != "GELU"}})
    (missing,) = TorchEmulator(torch.nn.Sequential(torch.nn.GELU()), bare).run(torch.ones(2, 2)).missing
    assert (missing.path, missing.name) == ("0", "gelu")
    assert "has no rule for GELU" in missing.reason


def test_in_place_operations_constants_and_choices_are_computed() -> None:
    class InPlace(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            y = x.clone()
            y.mul_(1 / 3).add_(torch.full((3,), 0.1), alpha=2)
            return torch.where(y.argmax(-1, keepdim=True) == torch.arange(3), y, y.new_zeros(()))

    half = np.float16
    got = TorchEmulator(InPlace(), load_profile("ieee-fp16-storage")).run(torch.tensor([[1.0, 2.0, 3.0]])).complete()
    third, tenth = half(1 / 3), half(half(0.1) * half(2))
    expected = [0.0, 0.0, float(half(half(half(3) * third) + tenth))]
    assert got[0].tolist() == expected


def test_a_module_that_gives_no_tensor_is_bad_input() -> None:
    with pytest.raises(BadInput, match="gives a tuple, not one tensor"):
        TorchEmulator(Inner(lambda x: (x, x)), load_profile("ieee-fp32")).run(torch.ones(1))
