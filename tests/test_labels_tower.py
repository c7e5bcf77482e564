"""The text tower: open_clip's own, from seed or file, and its label embeddings against open_clip's classifier."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.models.label_embeddings import make_label_set
from fidelity.models.label_set import read_label_set, write_label_set
from fidelity.models.prompts import read_templates
from fidelity.models.text_source import TextSource, open_clip
from fidelity.models.text_weights import build_text_tower
from fidelity.models.weights import Weights

TINY = "open_clip:PE-Core-B-16?embed_dim=24&width=16&heads=2&layers=2"
SOURCE = TextSource.parse(TINY)
SEEDED = Weights.parse("seeded")
LABELS = ("cat", "dog", "a very old traffic light", "car")
TEMPLATES = ("a photo of a {}.", "art of the {}.", "{}")


def embedded(labels: tuple[str, ...] = LABELS, weights: Weights = SEEDED, source: TextSource = SOURCE) -> np.ndarray:
    record, content = make_label_set(source, weights, 0, (labels, TEMPLATES), "x.npy", lambda _: None)
    assert record.shape == (len(labels), 24)
    return np.lib.format.read_array(io.BytesIO(content))


@pytest.fixture(scope="module")
def whole() -> torch.nn.Module:
    """A whole model around the seeded tower: the vision tower is a tiny one of another kind."""
    package = open_clip()
    text = {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    vision = package.CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=16, image_size=32)
    model = package.CustomTextCLIP(24, vision, package.CLIPTextCfg(**text)).eval()
    model.text.load_state_dict(build_text_tower(SOURCE, SEEDED, 0).state_dict())
    return model


def test_it_is_open_clips_own_classifier(whole: torch.nn.Module) -> None:
    package = open_clip()
    tokenizer = package.get_tokenizer("PE-Core-B-16")
    wanted = package.build_zero_shot_classifier(whole, tokenizer, LABELS, TEMPLATES).T.double().numpy()
    # a few float32 roundings of the mean and the two normalisations: 8 eps
    assert np.abs(embedded() - wanted).max() < 8 * 2**-23
    assert np.abs(np.linalg.norm(embedded(), axis=1) - 1).max() < 1e-15


def test_seeded_labels_differ_by_their_text_and_are_the_same_again() -> None:
    found = embedded()
    cosines = found @ found.T
    assert cosines[np.triu_indices(4, 1)].max() < 0.98
    assert embedded().tobytes() == found.tobytes()
    # the end of a prompt is read, and still the beginning counts
    ends = embedded(("red cat on the wall", "blue cat on the wall"))
    assert ends[0] @ ends[1] < 0.9999


def test_a_set_goes_to_disk_and_back(tmp_path: Path) -> None:
    record, content = make_label_set(SOURCE, SEEDED, 0, (LABELS, TEMPLATES), "set.npy", lambda _: None)
    write_label_set(tmp_path / "set.json", record, content)
    found = read_label_set(tmp_path / "set.json")
    assert found.record == record
    assert (found.record.model, found.record.context_length) == (TINY, 32)
    assert set(found.record.versions) == {"open_clip_torch", "torch"}


@pytest.mark.parametrize("part", ["whole", "tower", "original"])
def test_weights_of_a_file(whole: torch.nn.Module, tmp_path: Path, part: str) -> None:
    """Of the whole model, of the tower alone, or in the names of the original publication: no prefix."""
    state = whole.state_dict()
    if part == "tower":
        state = {name: value for name, value in state.items() if name.startswith("text.")}
    if part == "original":
        state = {name.removeprefix("text."): value for name, value in state.items()}
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    assert embedded(weights=Weights.parse(f"file:{path}")).tobytes() == embedded().tobytes()


def test_weights_of_a_safetensors_file_and_of_another_tower(whole: torch.nn.Module, tmp_path: Path) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in whole.state_dict().items()}, path)
    weights = Weights.parse(f"file:{path}")
    assert embedded(weights=weights).tobytes() == embedded().tobytes()
    with pytest.raises(BadInput, match=r"missing tensor transformer\.resblocks\.2"):
        build_text_tower(TextSource.parse(TINY.replace("layers=2", "layers=3")), weights, 0)
    state = whole.state_dict()
    state["text.ln_final.bias"] = state["text.ln_final.bias"] * torch.nan
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(BadInput, match=r"not finite: ln_final\.bias"):
        build_text_tower(SOURCE, Weights.parse(f"file:{tmp_path / 'nan.pt'}"), 0)


def test_no_code_of_a_weight_file_is_run(tmp_path: Path) -> None:
    torch.save({"text.ln_final.bias": Path("x")}, tmp_path / "bad.pt")
    with pytest.raises(BadInput, match="not a weights-only checkpoint"):
        build_text_tower(SOURCE, Weights.parse(f"file:{tmp_path / 'bad.pt'}"), 0)


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(TextSource, "build", lambda _: torch.nn.Identity())
    monkeypatch.setattr(open_clip(), "download_pretrained", gone)
    with pytest.raises(EnvironmentMissing, match=r"no route to host.*--weights file:PATH") as missing:
        build_text_tower(TextSource.parse("open_clip:PE-Core-B-16"), Weights.parse("pretrained"), 0)
    assert "\n" not in str(missing.value)
    with pytest.raises(BadInput, match="its size is another"):
        build_text_tower(SOURCE, Weights.parse("pretrained"), 0)
    with pytest.raises(BadInput, match="image towers"):
        build_text_tower(SOURCE, Weights.parse("massive:300"), 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PE-Core-B-16", "expected open_clip:NAME"),
        ("timm:vit_base", "expected open_clip:NAME"),
        ("open_clip:PE-Core-B-16?depth=2", "depth=2"),
        ("open_clip:PE-Core-B-16?width=0", "width=0"),
        ("open_clip:PE-Core-B-16?width=-4", "width=-4"),
        ("open_clip:PE-Core-B-16?width=1e3", "width=1e3"),
        ("open_clip:PE-Core-X-16", "no such model; close: PE-Core"),
        ("open_clip:ViT-B-16-SigLIP", "on a hub"),
        (TINY.replace("heads=2", "heads=3"), "refuses these sizes"),
    ],
)
def test_models_that_are_none(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        TextSource.parse(text).build()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("Cat", "cat"), "'Cat' and 'cat' are one text to its tokenizer"),
        (("cat", "word " * 40), "tokens, the tower takes 32"),
    ],
)
def test_labels_that_the_tower_cannot_tell_or_take(labels: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        embedded(labels)


def test_every_pe_core_text_tower_has_its_tokenizer_here() -> None:
    lengths = {
        name: TextSource(name=name).tokenizer().context_length
        for name in open_clip().list_models()
        if name.startswith("PE-Core")
    }
    assert lengths == {
        "PE-Core-B-16": 32,
        "PE-Core-L-14-336": 32,
        "PE-Core-S-16-384": 32,
        "PE-Core-T-16-384": 32,
        "PE-Core-bigG-14-448": 72,
    }


def test_templates_of_open_clip() -> None:
    assert len(read_templates("imagenet")) == 80
    assert len(read_templates("imagenet-small")) == 7
    assert all("{}" in template for template in read_templates("imagenet"))
