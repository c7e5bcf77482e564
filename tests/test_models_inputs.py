"""Photographs with their provenance, stress images, and the scaling that stays outside the graph."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import normalize, to_tensor

from fidelity.errors import BadInput
from fidelity.models.input_contract import InputContract, input_contract
from fidelity.models.inputs import STRESS, InputSet, load_inputs, open_image, photographs, stress_image
from fidelity.models.source import Source

IMAGES = Path(__file__).parents[1] / "golden" / "images"
HALF = (0.5, 0.5, 0.5)
CONTRACT = InputContract(shape=(1, 3, 56, 64), mean=HALF, std=HALF)
CLIP = InputContract(
    shape=(1, 3, 48, 48),
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


def every_pixel(height: int, width: int) -> np.ndarray:
    """An image in which every byte value occurs in every channel, in different places."""
    values = np.arange(height * width * 3).reshape(height, width, 3)
    return (values * 7 % 256).astype(np.uint8)


@pytest.mark.parametrize("contract", [CONTRACT, CLIP], ids=["half", "clip"])
def test_scaling_is_torchvisions(contract: InputContract) -> None:
    """torchvision divides, subtracts and divides in float32: three roundings of values below 2.7.

    Each is at most half an ulp of its result; carried through the division by std >= 0.26 that is
    below 3 * 2^-24 * 2 / 0.26 = 1.4e-6.
    """
    pixels = every_pixel(*contract.shape[2:])
    scaled = contract.scale(pixels)
    expected = normalize(to_tensor(Image.fromarray(pixels)), list(contract.mean), list(contract.std))[None].numpy()
    assert (scaled.dtype, scaled.shape) == (np.float32, contract.shape)
    assert np.abs(scaled - expected).max() < 1.4e-6
    assert scaled.flags.c_contiguous


def test_scaling_is_told_apart_from_its_usual_mistakes() -> None:
    """What the tolerance above kills: BGR, HWC read as CHW, no division, mean and std exchanged."""
    pixels = every_pixel(48, 48)
    right = CLIP.scale(pixels)
    exchanged = InputContract(shape=CLIP.shape, mean=CLIP.std, std=CLIP.mean)
    mistakes = [
        CLIP.scale(pixels[..., ::-1].copy()),
        CLIP.scale(pixels.transpose(1, 0, 2).copy()),
        exchanged.scale(pixels),
        right * 255,
        CLIP.scale((pixels.astype(int) * 255 // 256).astype(np.uint8)),
    ]
    for mistake in mistakes:
        assert np.abs(mistake - right).max() > 1e-3


def test_scaling_reaches_both_ends() -> None:
    assert CONTRACT.scale(np.zeros((56, 64, 3), np.uint8)).max() == -1.0
    assert CONTRACT.scale(np.full((56, 64, 3), 255, np.uint8)).min() == 1.0


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((64, 56, 3), np.uint8),
        np.zeros((56, 64), np.uint8),
        np.zeros((56, 64, 4), np.uint8),
        np.zeros((56, 64, 3), np.float32),
        np.zeros((3, 56, 64), np.uint8),
    ],
)
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(BadInput, match="the model takes uint8"):
        CONTRACT.scale(pixels)


def test_a_photograph_is_its_centre_square() -> None:
    """A wide photograph whose left and right thirds are red: nothing red may come through."""
    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 0, 255), (100, 0, 200, 100))
    array = CONTRACT.photograph(image)
    assert array[0, 0].max() == -1.0
    assert array[0, 2].min() == 1.0


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_photographs_of_every_mode_become_rgb(mode: str) -> None:
    image = Image.fromarray(every_pixel(80, 70)).convert(mode)
    array = CONTRACT.photograph(image)
    assert array.shape == CONTRACT.shape
    assert np.isfinite(array).all()


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("timm:vit_pe_core_tiny_patch16_384?depth=1&img_size=32", 32),
        ("timm:vit_pe_core_gigantic_patch14_448?depth=1&embed_dim=64&num_heads=2&img_size=56", 56),
        ("timm:resnet10t", 176),
    ],
)
def test_the_contract_is_the_models(source: str, size: int) -> None:
    model = Source.parse(source).build()
    contract = input_contract(model)
    assert contract.shape == (1, 3, size, size)
    assert contract.mean == tuple(model.pretrained_cfg["mean"])
    assert contract.std == tuple(model.pretrained_cfg["std"])
    with torch.no_grad():
        assert model(torch.zeros(contract.shape)).shape[0] == 1


def test_a_model_of_something_else_has_no_contract() -> None:
    with pytest.raises(BadInput, match="not a model of one RGB image"):
        input_contract(torch.nn.Linear(2, 2))
    with pytest.raises(BadInput, match="not a model of one RGB image"):
        input_contract(Source.parse("timm:vit_tiny_patch16_224?depth=1&in_chans=1").build())


def test_the_committed_set_is_whole() -> None:
    inputs = load_inputs(IMAGES, CONTRACT)
    listed = json.loads((IMAGES / "provenance.json").read_text("utf-8"))["photographs"]
    assert inputs.photographs == tuple(Path(photo["file"]).stem for photo in listed)
    assert tuple(inputs.arrays) == (*inputs.photographs, *STRESS)
    for record in inputs.records:
        array = inputs.arrays[record.name]
        assert (array.shape, array.dtype) == (CONTRACT.shape, np.float32)
        assert record.sha256 == hashlib.sha256(array.tobytes()).hexdigest()
        assert record.kind == ("stress" if record.name in STRESS else "photograph")
    assert len({record.sha256 for record in inputs.records}) == len(inputs.records)


def test_stress_images_are_what_they_are_called() -> None:
    made = {name: stress_image(name, 5, 6, seed=0) for name in STRESS}
    assert {image.shape for image in made.values()} == {(5, 6, 3)}
    assert made["black"].max() == 0
    assert made["white"].min() == 255
    assert made["checkerboard"][:2, :2, 0].tolist() == [[0, 255], [255, 0]]
    assert (made["checkerboard"] == 255).sum() == made["checkerboard"].size // 2
    assert np.argwhere(made["one-pixel"].any(axis=2)).tolist() == [[2, 3]]
    assert len(np.unique(stress_image("noise", 64, 64, seed=0))) == 256
    with pytest.raises(BadInput, match="expected one of black"):
        stress_image("grey", 5, 6, seed=0)


def test_noise_depends_on_the_seed_alone() -> None:
    """The hash pins the bits; torch, NumPy's distributions and the platform have no part in them."""
    noise = stress_image("noise", 8, 8, seed=0)
    assert hashlib.sha256(noise.tobytes()).hexdigest()[:16] == "3e6a1d85a7078e55"
    assert (noise != stress_image("noise", 8, 8, seed=1)).mean() > 0.9
    assert noise.std() > 60  # uniform bytes deviate by 73.9


def folder_of(tmp_path: Path, *, file: str = "a.png", extra: dict[str, Any] | None = None) -> Path:
    """A folder with one listed photograph."""
    Image.fromarray(every_pixel(60, 70)).save(tmp_path / "a.png")
    photo = {
        "file": file,
        "title": "t",
        "author": "x",
        "licence": "CC0",
        "origin": "test",
        "sha256": hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest(),
    }
    provenance = {"processing": "none", "photographs": [photo], **(extra or {})}
    (tmp_path / "provenance.json").write_text(json.dumps(provenance), "utf-8")
    return tmp_path


def test_a_listed_photograph_is_read(tmp_path: Path) -> None:
    assert tuple(photographs(folder_of(tmp_path), CONTRACT)) == ("a",)


def test_an_altered_photograph_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    Image.fromarray(every_pixel(60, 70) // 2).save(folder / "a.png")
    with pytest.raises(BadInput, match=r"a\.png: missing, or altered"):
        load_inputs(folder, CONTRACT)


def test_a_missing_photograph_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "a.png").unlink()
    with pytest.raises(BadInput, match=r"a\.png: missing, or altered"):
        load_inputs(folder, CONTRACT)


@pytest.mark.parametrize("name", ["b.png", "b.jpg", "b.jpeg", "b.PNG", "b.webp"])
def test_an_unlisted_photograph_is_refused(name: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    shutil.copy(folder / "a.png", folder / name)
    with pytest.raises(BadInput, match="no provenance"):
        load_inputs(folder, CONTRACT)


def test_two_photographs_of_one_name_are_refused(tmp_path: Path) -> None:
    """a.png and a.jpg would both be the input `a`: one would silently replace the other."""
    folder = folder_of(tmp_path)
    Image.fromarray(every_pixel(60, 70)).save(folder / "a.jpg")
    provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
    second = {**provenance["photographs"][0], "file": "a.jpg"}
    second["sha256"] = hashlib.sha256((folder / "a.jpg").read_bytes()).hexdigest()
    provenance["photographs"].append(second)
    (folder / "provenance.json").write_text(json.dumps(provenance), "utf-8")
    with pytest.raises(BadInput, match=r"'?a'?"):
        load_inputs(folder, CONTRACT)


@pytest.mark.parametrize("stress", STRESS)
def test_a_photograph_called_like_a_stress_image_is_refused(stress: str, tmp_path: Path) -> None:
    """Else the stress image takes its place, and the photograph is never run."""
    folder = folder_of(tmp_path, file=f"{stress}.png")
    (folder / "a.png").rename(folder / f"{stress}.png")
    with pytest.raises(BadInput, match=stress):
        load_inputs(folder, CONTRACT)


def test_a_listed_path_does_not_leave_the_folder(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    folder = folder_of(inner, file="../a.png")
    (inner / "a.png").rename(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"inner/a\.png: missing"):
        load_inputs(folder, CONTRACT)


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"these are words", b"\x89PNG\r\n\x1a\n" + b"\0" * 100],
    ids=["empty", "cut", "text", "broken"],
)
def test_a_file_that_is_no_image_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.png: not an image"):
        open_image(path)


def test_a_truncated_image_is_refused(tmp_path: Path) -> None:
    path = folder_of(tmp_path) / "a.png"
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(BadInput, match=r"a\.png: not an image"):
        open_image(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "provenance.json"),
        ("{}", "field 'processing'"),
        ('{"processing": "x", "photographs": [], "more": 1}', "field 'more'"),
        ('{"processing": "x", "photographs": [{"file": "a.png"}]}', "photographs.0.title"),
    ],
)
def test_a_broken_provenance_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(text, "utf-8")
    with pytest.raises(BadInput, match=told):
        load_inputs(tmp_path, CONTRACT)


def test_a_folder_without_provenance_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(BadInput, match=r"provenance\.json: cannot be read"):
            load_inputs(folder, CONTRACT)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_is_refused(value: float) -> None:
    array = np.zeros(CONTRACT.shape, np.float32)
    array[0, 1, 2, 3] = value
    with pytest.raises(BadInput, match="input 'x': holds NaN or Inf"):
        InputSet({"x": array}, {"x": "photograph"})


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(BadInput, match="no inputs"):
        InputSet({}, {})
    inputs = InputSet({"x": np.zeros(CONTRACT.shape, np.float32)}, {"x": "photograph"})
    with pytest.raises(BadInput, match="no inputs"):
        inputs.only(())


def test_a_subset_keeps_the_sets_order_and_kinds() -> None:
    array = np.zeros(CONTRACT.shape, np.float32)
    inputs = InputSet({"a": array, "b": array + 1, "c": array}, {"a": "photograph", "b": "stress", "c": "photograph"})
    chosen = inputs.only(("c", "b"))
    assert tuple(chosen.arrays) == ("b", "c")
    assert chosen.records == inputs.records[1:]
    with pytest.raises(BadInput, match=r"input 'd': not in the set \(a, b, c\)"):
        inputs.only(("a", "d"))
