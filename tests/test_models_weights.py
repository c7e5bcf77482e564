"""Seeded and planted weights do what they are for, and weight files fit wholly or not at all."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file

from fidelity.errors import BadInput
from fidelity.models import massive, seeded_roles
from fidelity.models.counter_random import normal, uniform_integers
from fidelity.models.input_contract import input_contract
from fidelity.models.inputs import load_inputs
from fidelity.models.source import Source
from fidelity.models.trace import block_outputs
from fidelity.models.weight_file import load_weight_file
from fidelity.models.weights import Weights, build_model, weights_sha256

IMAGES = Path(__file__).parents[1] / "golden" / "images"
SMALL = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"
SMALL_SHA256 = "07f4027a79ca22ee6d93759808a82299f013d2bcd7bf0c773f652cf6ca7585d5"
DEEP = "timm:vit_pe_core_base_patch16_224?depth=12&embed_dim=128&num_heads=4&img_size=64"


def small(seed: int = 0) -> torch.nn.Module:
    return build_model(Source.parse(SMALL), Weights.parse("seeded"), seed)


def philox_words(seed: int, name: str, count: int) -> list[int]:
    """Philox 4x64-10 in Python integers, from its paper (Salmon et al. 2011); the counter starts at 1."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    first_key = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")]
    mask = (1 << 64) - 1
    words: list[int] = []
    for block in range(1, -(-count // 4) + 1):
        c, k = [block, 0, 0, 0], list(first_key)
        for _ in range(10):
            low, high = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(high >> 64) ^ c[1] ^ k[0], high & mask, (low >> 64) ^ c[3] ^ k[1], low & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        words += c
    return words[:count]


def irwin_hall(words: list[int]) -> list[float]:
    """Each pair of words is eight 16-bit pieces; their sum, centred and scaled, in Python floats."""
    values = []
    for low, high in zip(words[::2], words[1::2], strict=True):
        total = sum((word >> shift) & 0xFFFF for word in (low, high) for shift in (0, 16, 32, 48))
        values.append((total - 8 * 65535 / 2) / (8 * (65536.0**2 - 1) / 12) ** 0.5)
    return values


@given(seed=st.integers(0, 2**40), name=st.text(max_size=20))
def test_the_generator_is_philox_and_irwin_hall(seed: int, name: str) -> None:
    words = philox_words(seed, name, 12)
    assert uniform_integers(seed, name, 12).tolist() == words
    assert normal(seed, name, (2, 3)).tolist() == np.float32(irwin_hall(words)).reshape(2, 3).tolist()


def test_a_long_tensor_is_one_stream() -> None:
    """Values are made in chunks of 2^20; a chunk that began the stream anew would repeat the first."""
    long = normal(0, "long", ((1 << 20) + 3,))
    expected = irwin_hall(philox_words(0, "long", 2 * 3))
    np.testing.assert_array_equal(long[:3], np.float32(expected))
    generator = np.random.Philox(key=np.frombuffer(hashlib.sha256(b"0/long").digest()[:16], dtype="<u8"))
    tail = np.asarray(generator.random_raw(2 * len(long)), dtype=np.uint64)[-6:]
    np.testing.assert_array_equal(long[-3:], np.float32(irwin_hall([int(word) for word in tail])))


def test_moments() -> None:
    """n = 2^20. Standard errors: mean 1/sqrt(n) = 0.00098, variance sqrt(kurtosis + 2) / sqrt(n) = 0.0013.

    The excess kurtosis of a sum of 8 uniforms is -1.2 / 8; its standard error is below sqrt(24 / n)
    = 0.0048. Limits are five standard errors.
    """
    x = normal(1, "moments", (1 << 20,)).astype(np.float64)
    assert abs(x.mean()) < 0.005
    assert abs(x.var() - 1) < 0.007
    assert abs((x**4).mean() / x.var() ** 2 - 3 + 0.15) < 0.024
    assert np.abs(x).max() <= 4.9


def test_names_and_seeds_have_their_own_streams() -> None:
    streams = [normal(seed, name, (1000,)) for seed, name in ((0, "a"), (0, "b"), (1, "a"))]
    correlations = np.corrcoef(streams)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 5 / 1000**0.5


def test_seeded_weights_are_the_same_bytes_everywhere() -> None:
    """The hash was made on another day than this test runs: torch's own initialisation left no trace."""
    torch.manual_seed(1)
    assert weights_sha256(small()) == SMALL_SHA256
    assert weights_sha256(small(seed=1)) != SMALL_SHA256


def test_the_weights_hash_sees_one_bit_and_one_name() -> None:
    model = small()
    weight = model.get_parameter("norm.weight")
    with torch.no_grad():
        weight[3] = np.nextafter(np.float32(weight[3]), np.float32(9)).item()
    assert weights_sha256(model) != SMALL_SHA256


@cache
def deep(weights: str) -> tuple[list[float], dict[str, NDArray[np.float64]]]:
    """Largest magnitude after each block, and the float32 model's embedding of each photograph."""
    model = build_model(Source.parse(DEEP), Weights.parse(weights), 0)
    inputs = load_inputs(IMAGES, input_contract(model)).only(("astronaut", "coffee", "gravel", "retina"))
    blocks = block_outputs(model, inputs)
    peaks = [max(np.abs(v).max() for k, v in blocks.items() if k.startswith(f"blocks.{i}/")) for i in range(12)]
    with torch.no_grad():
        outputs = {n: model(torch.from_numpy(a)).double().numpy()[0] for n, a in inputs.arrays.items()}
    return [float(peak) for peak in peaks], outputs


def between_photographs(outputs: dict[str, NDArray[np.float64]]) -> float:
    """Mean correlation of the embeddings of two different photographs."""
    matrix = np.corrcoef(np.stack(list(outputs.values())))
    return float(matrix[~np.eye(len(matrix), dtype=bool)].mean())


def with_seeded(outputs: dict[str, NDArray[np.float64]]) -> float:
    """Mean correlation with the seeded model's embedding of the same photograph."""
    return float(np.mean([np.corrcoef(deep("seeded")[1][name], output)[0, 1] for name, output in outputs.items()]))


@pytest.mark.parametrize("weights", ["seeded", "massive", "massive:400@3"])
def test_a_deep_model_still_sees_its_image(weights: str) -> None:
    """Measured 0.54, 0.71 and 0.81; a network that forgot its image would give 1."""
    assert between_photographs(deep(weights)[1]) < 0.9


def test_a_network_that_forgets_its_image_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter-example of the test above: attention that averages all tokens, and outweighs them."""
    monkeypatch.setattr(seeded_roles, "QUERY_KEY_GAIN", 0.01)
    monkeypatch.setattr(seeded_roles, "ATTENTION_SHARE", 4.0)
    assert between_photographs(deep.__wrapped__("seeded")[1]) > 0.99


def test_seeded_weights_have_no_massive_activations() -> None:
    assert max(deep("seeded")[0]) < 20


@pytest.mark.parametrize(("weights", "peak", "block"), [("massive", 235, 1), ("massive:400@3", 400, 3)])
def test_massive_activations_reach_their_peak_at_their_block(weights: str, peak: float, block: int) -> None:
    """The ordinary stream under the planted channels is the few units that the peak may be off."""
    peaks, _ = deep(weights)
    ordinary = max(deep("seeded")[0])
    assert max(peaks[:block], default=0) <= ordinary
    assert all(abs(value - peak) <= ordinary for value in peaks[block:])


def test_massive_activations_leave_the_function_recognisable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Correlation with the seeded model: 0.67 here (0.90 on the reference model, seven times as wide).

    Without the re-weighted gains the planted channels swallow it: that mutant must be told apart.
    """
    kept = with_seeded(deep("massive")[1])
    assert kept > 0.6
    monkeypatch.setattr(massive, "_reweight", lambda *_: None)
    swallowed = with_seeded(deep.__wrapped__("massive")[1])
    assert swallowed < kept - 0.1


@pytest.mark.parametrize("block", [2, 99])
def test_massive_needs_its_block(block: int) -> None:
    with pytest.raises(BadInput, match=f"block {block} is not among the model's 2 blocks"):
        build_model(Source.parse(SMALL), Weights.parse(f"massive:10@{block}"), 0)


def test_massive_needs_an_mlp() -> None:
    with pytest.raises(BadInput, match="massive"):
        build_model(Source.parse("timm:resnet10t"), Weights.parse("massive"), 0)


def store_safetensors(state: dict[str, torch.Tensor], path: Path) -> Path:
    path = path / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def store_pt(state: dict[str, torch.Tensor], path: Path) -> Path:
    path = path / "w.pt"
    torch.save(state, path)
    return path


def store_wrapped(state: dict[str, torch.Tensor], path: Path) -> Path:
    path = path / "w.pth"
    torch.save({"state_dict": {"model": state}}, path)
    return path


Store = Callable[[dict[str, torch.Tensor], Path], Path]
STORES: list[Store] = [store_safetensors, store_pt, store_wrapped]


@pytest.mark.parametrize("store", STORES)
def test_a_weight_file_gives_every_bit(store: Store, tmp_path: Path) -> None:
    path = store(small(seed=5).state_dict(), tmp_path)
    loaded = build_model(Source.parse(SMALL), Weights.parse(f"file:{path}"), 0)
    assert weights_sha256(loaded) == weights_sha256(small(seed=5)) != SMALL_SHA256


def test_half_precision_weights_are_loaded_as_float32(tmp_path: Path) -> None:
    path = store_pt({name: tensor.half() for name, tensor in small(seed=5).state_dict().items()}, tmp_path)
    model = small()
    load_weight_file(model, path)
    expected = small(seed=5).get_parameter("norm.weight").half().float()
    assert torch.equal(model.get_parameter("norm.weight"), expected)


def test_a_weight_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = store_pt(small().state_dict(), tmp_path)
    weights = Weights.parse(f"file:{path}")
    before = weights.identity()
    assert before == f"file:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    store_pt(small(seed=1).state_dict(), tmp_path)
    assert weights.identity() != before
    path.unlink()
    with pytest.raises(BadInput, match="no such file"):
        weights.identity()


def _missing(state: dict[str, torch.Tensor]) -> None:
    del state["norm.bias"]


def _extra(state: dict[str, torch.Tensor]) -> None:
    state["head.scale"] = torch.ones(1)


def _misshapen(state: dict[str, torch.Tensor]) -> None:
    state["norm.bias"] = state["norm.bias"][:-1]


def _broadcastable(state: dict[str, torch.Tensor]) -> None:
    state["norm.bias"] = state["norm.bias"][:1]


def _nan(state: dict[str, torch.Tensor]) -> None:
    state["norm.bias"] = torch.full_like(state["norm.bias"], float("nan"))


def _infinite(state: dict[str, torch.Tensor]) -> None:
    state["norm.bias"] = state["norm.bias"].clone()
    state["norm.bias"][0] = float("inf")


DAMAGES = [
    (_missing, "missing tensor norm.bias"),
    (_extra, "extra tensor head.scale"),
    (_misshapen, r"wrong shape: norm.bias is \(63,\), not \(64,\)"),
    (_broadcastable, r"wrong shape: norm.bias is \(1,\), not \(64,\)"),
    (_nan, "not finite: norm.bias"),
    (_infinite, "not finite: norm.bias"),
]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(("damage", "told"), DAMAGES)
def test_weights_that_do_not_fit_are_refused_by_name(
    damage: Callable[[dict[str, torch.Tensor]], None], told: str, store: Store, tmp_path: Path
) -> None:
    state = dict(small(seed=5).state_dict())
    damage(state)
    model = small()
    with pytest.raises(BadInput, match=told) as caught:
        load_weight_file(model, store(state, tmp_path))
    assert "w.p" in str(caught.value) or "w.safetensors" in str(caught.value)
    assert weights_sha256(model) == SMALL_SHA256  # nothing was half loaded


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    state = dict(small().state_dict())
    for damage in (_missing, _extra):
        damage(state)
    state["norm.weight"] = state["norm.weight"] * float("nan")
    with pytest.raises(BadInput, match=r"missing tensor norm.bias; extra tensor head.scale; not finite: norm.weight"):
        load_weight_file(small(), store_pt(state, tmp_path))


class _Code:
    """A pickle that would write a file when it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    for name, write in {
        "new.pt": torch.save,
        "old.pt": lambda thing, path: path.write_bytes(pickle.dumps(thing)),
    }.items():
        path = tmp_path / name
        write({"norm.bias": _Code(target)}, path)
        with pytest.raises(BadInput, match="not a weights-only checkpoint") as caught:
            load_weight_file(small(), path)
        assert "\n" not in str(caught.value)
        assert not target.exists()


def _archive(thing: object) -> bytes:
    stream = io.BytesIO()
    torch.save(thing, stream)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"these are words\n", b"\x80\x04", _archive({"a": torch.ones(3)})[:200], b"\xff" * 4096]
)
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"weights file .*: not a ") as caught:
        load_weight_file(small(), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [torch.ones(3), [1, 2], {"norm.bias": 3}, {"a": {"b": 1}, "c": {}}])
def test_a_checkpoint_of_something_else_is_refused(thing: object, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(_archive(thing))
    with pytest.raises(BadInput, match="no plain mapping of names to tensors"):
        load_weight_file(small(), path)


def test_an_empty_checkpoint_misses_everything(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing tensor .* and .* more"):
        load_weight_file(small(), store_pt({}, tmp_path))


@pytest.mark.parametrize(("name", "told"), [("w.npz", "expected .safetensors"), ("gone.pt", "no such file")])
def test_other_files_are_refused(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(b"")
    with pytest.raises(BadInput, match=told):
        load_weight_file(small(), tmp_path / name)
