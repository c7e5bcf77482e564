"""Every PE-Core structure, rewritten whole and with each rewrite left out, and rewrites that lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers import AttentionPoolLatent
from timm.layers.attention import Attention, AttentionRope
from torch import nn

from fidelity.errors import BadInput
from fidelity.models.input_contract import input_contract
from fidelity.models.inputs import InputSet, load_inputs
from fidelity.models.source import Source
from fidelity.models.weights import Weights, build_model
from fidelity.rewrites.apply import apply_rewrites
from fidelity.rewrites.catalogue import CARD, CATALOGUE, chosen, chosen_for
from fidelity.rewrites.contract import Contract, Exactness, Rewrite, Rewritten, Site
from fidelity.rewrites.proof import Proof
from fidelity.rewrites.prove import Subject, prove
from fidelity.rewrites.weights_map import Copied, Derived, check_weights, stored_tensors

IMAGES = Path(__file__).parents[1] / "golden" / "images"
REDUCED = "depth=2&embed_dim=64&num_heads=2"
STRUCTURES = {
    "tiny": f"timm:vit_pe_core_tiny_patch16_384?{REDUCED}&img_size=64",
    "small": f"timm:vit_pe_core_small_patch16_384?{REDUCED}&img_size=64",
    "base": f"timm:vit_pe_core_base_patch16_224?{REDUCED}&img_size=64",
    "large": f"timm:vit_pe_core_large_patch14_336?{REDUCED}&img_size=56",
    "gigantic": f"timm:vit_pe_core_gigantic_patch14_448?{REDUCED}&img_size=56",
}
# two blocks: an attention each, two norms each; a pool; a norm before and one after the blocks
SITES = {"split_qkv": 2, "rotate_half": 2, "pool_one_query": 1, "safe_layernorm": 7}


@cache
def subject(structure: str, weights: str = "seeded") -> tuple[Subject, InputSet]:
    source = STRUCTURES[structure]
    model = build_model(Source.parse(source), Weights.parse(weights), 0)
    return Subject(model, source, weights), load_inputs(IMAGES, input_contract(model)).only(("coffee", "noise"))


def proof_of(structure: str, rewrites: tuple[Rewrite, ...]) -> Proof:
    judged, inputs = subject(structure)
    return prove(judged, rewrites, inputs).proof


def taken(proof: Proof) -> dict[str, int]:
    return dict(Counter(decision.rewrite for decision in proof.decisions if decision.refused is None))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_is_rewritten_whole(structure: str) -> None:
    proof = proof_of(structure, chosen_for("all", subject(structure)[0].model))
    assert proof.passed, proof.failures
    assert taken(proof) == SITES
    assert not [decision for decision in proof.decisions if decision.refused]
    assert proof.weights_map.exact
    assert proof.weights_map.derived_tensors == ("attn_pool.query",)
    assert proof.inputs == ("coffee", "noise")
    paths = {site.path for site in proof.sites}
    assert {"", "norm", "norm_pre", "attn_pool", "blocks.0", "blocks.1", "blocks.1.attn"} <= paths


def test_the_structures_differ_in_the_class_token() -> None:
    """gigantic has none: a rewrite that assumed one would be told apart by this pair."""
    prefixes = {name: subject(name)[0].model.num_prefix_tokens for name in STRUCTURES}
    assert prefixes == {"tiny": 1, "small": 1, "base": 1, "large": 1, "gigantic": 0}


@pytest.mark.parametrize("structure", ["base", "gigantic"])
@pytest.mark.parametrize("left_out", CARD)
def test_each_rewrite_can_be_left_out(structure: str, left_out: str) -> None:
    proof = proof_of(structure, chosen(",".join(name for name in CARD if name != left_out)))
    assert proof.passed, proof.failures
    assert taken(proof) == {name: count for name, count in SITES.items() if name != left_out}


@pytest.mark.parametrize("alone", [*CARD, "row_layernorm"])
def test_each_rewrite_stands_alone(alone: str) -> None:
    proof = proof_of("base", chosen(alone))
    assert proof.passed, proof.failures
    assert sum(taken(proof).values()) == SITES.get(alone, SITES["safe_layernorm"])


def test_no_rewrite_is_the_same_model_bit_for_bit() -> None:
    proof = proof_of("base", ())
    assert proof.passed
    assert {site.exactness for site in proof.sites} == {Exactness.EXACT}


def test_massive_activations_do_not_break_the_proof() -> None:
    judged, inputs = subject("base", "massive")
    proof = prove(judged, chosen("all"), inputs).proof
    assert proof.passed, proof.failures


def test_the_original_is_not_touched() -> None:
    model = subject("base")[0].model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apply_rewrites(model, chosen("all"))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_truth_is_the_original_float64_output() -> None:
    pair, inputs = subject("base")
    proved = prove(pair, chosen("all"), inputs)
    double = build_model(Source.parse(STRUCTURES["base"]), Weights.parse("seeded"), 0).double()
    with torch.no_grad():
        for name, array in inputs.arrays.items():
            np.testing.assert_array_equal(proved.outputs[name], double(torch.from_numpy(array).double()).numpy())


class Tampered:
    """A rewrite of the catalogue whose result is then changed by `damage`."""

    def __init__(self, inner: Rewrite, damage: Callable[[Rewritten], Rewritten | None]) -> None:
        self.inner, self.damage = inner, damage

    @property
    def contract(self) -> Contract:
        return self.inner.contract

    def concerns(self, module: nn.Module) -> bool:
        return self.inner.concerns(module)

    def refuses(self, site: Site) -> str | None:
        return self.inner.refuses(site)

    def rewrite(self, site: Site) -> Rewritten:
        rewritten = self.inner.rewrite(site)
        with torch.no_grad():
            return self.damage(rewritten) or rewritten


def tampered(name: str, damage: Callable[[Rewritten], Rewritten | None]) -> tuple[Rewrite, ...]:
    """All rewrites of the card, the one called `name` tampered with."""
    return tuple(Tampered(rewrite, damage) if rewrite.contract.name == name else rewrite for rewrite in chosen("all"))


def one_bit(tensor: torch.Tensor) -> None:
    """Flip the last bit of one value's significand, which no output comparison could see."""
    bits = tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int64).reshape(-1)
    bits[7] ^= 1


def flip_v(rewritten: Rewritten) -> None:
    one_bit(rewritten.module.get_parameter("v_proj.weight"))


def flip_gain(rewritten: Rewritten) -> None:
    one_bit(rewritten.module.get_parameter("weight"))


def flip_rope(rewritten: Rewritten) -> None:
    one_bit(rewritten.module.get_buffer("rope_half"))


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("split_qkv", flip_v, "blocks.0.attn.inner.v_proj.weight differs in its bits from blocks.0.attn.qkv.weight"),
        ("safe_layernorm", flip_gain, "norm.weight differs in its bits from norm.weight"),
        ("rotate_half", flip_rope, "blocks.0.attn.rope_half differs in its bits from rope.pos_embed"),
    ],
)
def test_one_flipped_bit_fails(name: str, damage: Callable[[Rewritten], None], told: str) -> None:
    proof = proof_of("base", tampered(name, damage))
    assert not proof.passed
    assert not proof.weights_map.exact
    assert told in " | ".join(proof.failures)


def test_bits_are_compared_and_not_values() -> None:
    """0.0 equals -0.0 and is not the same bits; NaN does not equal itself and is."""
    original, copied, negative = (nn.BatchNorm1d(2, affine=False, track_running_stats=True) for _ in range(3))
    for module, zero in ((original, 0.0), (copied, 0.0), (negative, -0.0)):
        module.get_buffer("running_mean").copy_(torch.tensor([zero, float("nan")]))
    origins = {name: Copied(name) for name in stored_tensors(original)}
    assert check_weights(original, copied, origins).exact
    assert not check_weights(original, negative, origins).exact


def without_origin(rewritten: Rewritten) -> Rewritten:
    return Rewritten(rewritten.module, {n: o for n, o in rewritten.origins.items() if n != "v_proj.weight"})


def lost_rows(rewritten: Rewritten) -> Rewritten:
    """v is a second copy of k: every bit has an origin, and a third of the fused weight is lost."""
    module = rewritten.module
    for kind in ("weight", "bias"):
        module.get_parameter(f"v_proj.{kind}").copy_(module.get_parameter(f"k_proj.{kind}"))
    origins = {name: rewritten.origins[name.replace("v_proj", "k_proj")] for name in rewritten.origins}
    return Rewritten(module, origins)


def unregistered(rewritten: Rewritten) -> Rewritten:
    """A bias left out of the module altogether."""
    module = rewritten.module
    module.get_submodule("v_proj").bias = None
    return Rewritten(module, {n: o for n, o in rewritten.origins.items() if n != "v_proj.bias"})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (without_origin, "tensor blocks.0.attn.v_proj.weight has no origin"),
        (lost_rows, "weight blocks.0.attn.qkv.weight of the original is lost"),
        (unregistered, "weight blocks.0.attn.qkv.bias of the original is lost"),
    ],
)
def test_a_map_with_a_hole_fails(damage: Callable[[Rewritten], Rewritten], told: str) -> None:
    """The split alone: a later rewrite would have to compose the origin that is missing."""
    proof = proof_of("base", tampered("split_qkv", damage)[:1])
    assert not proof.passed
    assert told in proof.failures


def wrong_query_scale(rewritten: Rewritten) -> None:
    """Derived, so no bit can be compared: only the outputs tell."""
    rewritten.module.get_buffer("query").mul_(1.001)


def heads_exchanged(rewritten: Rewritten) -> None:
    query = rewritten.module.get_buffer("query")
    query.copy_(query.flip(1).clone())


def wrong_eps(rewritten: Rewritten) -> None:
    """eps not divided by the scale's square: seen on the rows of small deviation that extremes hold."""
    rewritten.module.eps *= 32.0**2


def halves_unpermuted(rewritten: Rewritten) -> None:
    """Channels rotated by halves while the weights still hold them in pairs: the conversion's classic."""
    rewritten.module.rotate_half = True


def no_mlp(rewritten: Rewritten) -> None:
    rewritten.module.has_mlp = False


@pytest.mark.parametrize(
    ("name", "damage", "where"),
    [
        ("pool_one_query", wrong_query_scale, "attn_pool"),
        ("pool_one_query", heads_exchanged, "attn_pool"),
        ("pool_one_query", no_mlp, "attn_pool"),
        ("safe_layernorm", wrong_eps, "blocks.0.norm1"),
    ],
)
def test_another_function_fails_with_a_counter_example(
    name: str, damage: Callable[[Rewritten], None], where: str
) -> None:
    proof = proof_of("base", tampered(name, damage))
    assert not proof.passed
    assert proof.weights_map.exact  # every bit is right, and the function is not
    assert any(line.startswith(f"{where}: ") and "instead of" in line for line in proof.failures)
    (site,) = [site for site in proof.sites if site.path == where]
    example = site.counter_example
    assert site.exactness is Exactness.NOT_EQUIVALENT
    assert example is not None
    assert example.difference > example.allowed
    assert example.got != example.expected


def test_another_function_of_the_same_weights_fails() -> None:
    proof = proof_of("base", (tampered("split_qkv", halves_unpermuted)[0],))
    assert not proof.passed
    assert proof.weights_map.exact
    assert any(line.startswith("blocks.0.attn: ") for line in proof.failures)


def test_a_broken_promise_of_exactness_is_named() -> None:
    class Boastful(Tampered):
        @property
        def contract(self) -> Contract:
            return self.inner.contract.model_copy(update={"exactness": Exactness.EXACT})

    split, *_ = chosen("all")
    proof = proof_of("base", (Boastful(chosen("safe_layernorm")[0], lambda _: None), split))
    assert any("safe_layernorm promises EXACT and only rounds" in line for line in proof.failures)


def test_a_proof_of_nothing_does_not_pass() -> None:
    proof = proof_of("base", chosen("all"))
    assert not proof.model_copy(update={"sites": ()}).passed
    uncalled = proof.sites[0].model_copy(update={"calls": 0})
    assert not proof.model_copy(update={"sites": (uncalled,)}).passed


def _separate() -> nn.Module:
    return AttentionRope(64, num_heads=2, qkv_fused=False)


REFUSALS = [
    ("split_qkv", _separate, None, "q, k and v are separate projections already"),
    ("split_qkv", lambda: nn.Linear(2, 2), None, "Linear is not a timm attention"),
    ("rotate_half", lambda: AttentionRope(64, num_heads=2), None, "the model hands this attention no rotary embedding"),
    ("rotate_half", lambda: AttentionRope(64, 2, rotate_half=True), torch.zeros(16, 64), "rotates halves already"),
    ("rotate_half", lambda: AttentionRope(64, 2), torch.zeros(16, 32), r"\(16, 32\) is not \[tokens, 2 x 32\]"),
    ("rotate_half", lambda: Attention(64, 2), torch.zeros(16, 64), "Attention is not an attention that takes a rotary"),
    ("pool_one_query", lambda: AttentionPoolLatent(64, num_heads=2, latent_len=3), None, "3 latent queries"),
    ("pool_one_query", lambda: AttentionPoolLatent(64, num_heads=2, pool_type=""), None, "keeps the query axis"),
    ("safe_layernorm", lambda: nn.LayerNorm((4, 8)), None, "normalises over 2 axes"),
    ("row_layernorm", lambda: nn.RMSNorm(8), None, "RMSNorm is not a LayerNorm"),
]


@pytest.mark.parametrize(("name", "module", "rope", "told"), REFUSALS)
def test_what_a_rewrite_cannot_take_is_refused_with_a_reason(
    name: str, module: Callable[[], nn.Module], rope: torch.Tensor | None, told: str
) -> None:
    (rewrite,) = [rewrite for rewrite in CATALOGUE if rewrite.contract.name == name]
    reason = rewrite.refuses(Site("blocks.0", module(), rope))
    assert reason is not None
    assert re.search(told, reason), reason


def test_a_second_pass_finds_nothing_to_do() -> None:
    once = apply_rewrites(subject("base")[0].model, chosen("all"))
    twice = apply_rewrites(once.model, chosen("all"))
    assert not twice.sites
    assert {d.refused for d in twice.decisions if d.rewrite == "safe_layernorm"} == {"scaled already"}


def test_a_model_without_these_modules_is_left_alone() -> None:
    model = build_model(Source.parse("timm:resnet10t"), Weights.parse("seeded"), 0)
    rewritten = apply_rewrites(model, chosen("all"))
    assert (rewritten.decisions, rewritten.sites) == ((), ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("split", "rewrite 'split' is unknown"),
        ("", "no rewrite is named"),
        (",", "no rewrite is named"),
        ("safe_layernorm,row_layernorm", "choose one"),
    ],
)
def test_rewrites_are_chosen_by_name(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        chosen(text)


@pytest.mark.parametrize("names", [pair for n in (1, 2, 3, 4) for pair in combinations(CARD, n)])
def test_the_order_of_names_does_not_matter(names: tuple[str, ...]) -> None:
    assert chosen(",".join(reversed(names))) == chosen(",".join(names))


def test_origins_are_told_in_names_of_the_original() -> None:
    """q of a rotated, split attention: rows of the fused weight, even channels of a head first."""
    rewritten = apply_rewrites(subject("base")[0].model, chosen("all"))
    origin = rewritten.origins["blocks.1.attn.inner.k_proj.weight"]
    assert isinstance(origin, Copied)
    assert (origin.source, origin.axis) == ("blocks.1.attn.qkv.weight", 0)
    assert origin.index is not None
    head = [*range(0, 32, 2), *range(1, 32, 2)]
    assert origin.index.tolist() == [64 + channel + 32 * which for which in (0, 1) for channel in head]
    query = rewritten.origins["attn_pool.query"]
    assert isinstance(query, Derived)
    assert set(query.sources) == {"attn_pool.latent", "attn_pool.q.weight", "attn_pool.q.bias"}
