"""The inputs that every stage runs on: real photographs, and stress images that photographs miss.

Photographs are read from a folder with a `provenance.json`; stress images are made here. Both are
named, ordered and hashed, so that a result can say exactly what it was measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fidelity.errors import BadInput
from fidelity.models.counter_random import uniform_integers
from fidelity.models.input_contract import InputContract
from fidelity.record import Record

Kind = Literal["photograph", "stress"]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
STRESS = ("black", "white", "checkerboard", "noise", "one-pixel")


class Photograph(Record):
    """Where one committed photograph comes from, and what may be done with it."""

    file: str
    title: str
    author: str
    licence: str
    origin: str
    sha256: str


class Provenance(Record):
    """The provenance of a folder of photographs; every image file in it must be listed."""

    processing: str
    photographs: tuple[Photograph, ...]


class Input(Record):
    """One named input of the set: which kind it is and the hash of its float32 bytes."""

    name: str
    kind: Kind
    sha256: str


class InputSet:
    """Named float32 [1, 3, H, W] arrays in a fixed order, with their records."""

    def __init__(self, arrays: dict[str, NDArray[np.float32]], kinds: dict[str, Kind]) -> None:
        if not arrays:
            raise BadInput("no inputs: a verdict on an empty set is worth nothing; give a photograph")
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise BadInput(f"input {name!r}: holds NaN or Inf; the image or its scaling is wrong")
        self.arrays = arrays
        self.records = tuple(
            Input(name=name, kind=kinds[name], sha256=hashlib.sha256(array.tobytes()).hexdigest())
            for name, array in arrays.items()
        )

    @classmethod
    def given(cls, arrays: Mapping[str, NDArray[np.float32]]) -> InputSet:
        """A caller's own arrays, each as good as a photograph."""
        return cls(dict(arrays), dict.fromkeys(arrays, "photograph"))

    @property
    def photographs(self) -> tuple[str, ...]:
        """Names of the inputs that are photographs, in order."""
        return tuple(record.name for record in self.records if record.kind == "photograph")

    def only(self, names: tuple[str, ...]) -> InputSet:
        """The subset with these names, in this set's order. Raises BadInput for an unknown name."""
        unknown = sorted(set(names) - set(self.arrays))
        if unknown:
            raise BadInput(f"input {unknown[0]!r}: not in the set ({', '.join(self.arrays)})")
        kinds = {record.name: record.kind for record in self.records}
        return InputSet({n: a for n, a in self.arrays.items() if n in names}, kinds)


def load_inputs(folder: Path, contract: InputContract, *, seed: int = 0) -> InputSet:
    """Every photograph of `folder` under the contract, then every stress image.

    Raises BadInput for a folder without provenance, an unlisted, missing or altered file, or a
    file that is not an image.
    """
    arrays = photographs(folder, contract)
    kinds: dict[str, Kind] = dict.fromkeys(arrays, "photograph")
    for name in STRESS:
        arrays[name] = contract.scale(stress_image(name, contract.shape[2], contract.shape[3], seed))
        kinds[name] = "stress"
    return InputSet(arrays, kinds)


def photographs(folder: Path, contract: InputContract) -> dict[str, NDArray[np.float32]]:
    """The folder's photographs by file stem, in the provenance's order."""
    provenance = Provenance.read(folder / "provenance.json")
    listed = {photo.file for photo in provenance.photographs}
    unlisted = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name not in listed)
    if unlisted:
        raise BadInput(f"{folder / unlisted[0]}: no provenance; list it in provenance.json")
    arrays = {}
    for photo in provenance.photographs:
        path = folder / Path(photo.file).name
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != photo.sha256:
            raise BadInput(f"{path}: missing, or altered since its provenance was recorded (sha256 differs)")
        if path.stem in arrays or path.stem in STRESS:
            raise BadInput(f"{path}: another input is called {path.stem!r}; rename it")
        arrays[path.stem] = contract.photograph(open_image(path))
    return arrays


def open_image(path: Path) -> Image.Image:
    """A decoded image. Raises BadInput when the file is not one, or is unreasonably large."""
    try:
        image = Image.open(path)
        image.load()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise BadInput(f"{path}: not an image that can be read: {error}") from error
    return image


def stress_image(name: str, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """One stress image, uint8 [height, width, 3], by its name in STRESS."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    if name == "white":
        image[:] = 255
    elif name == "checkerboard":
        image[(np.indices((height, width)).sum(axis=0) % 2) == 1] = 255
    elif name == "noise":
        words = uniform_integers(seed, "stress.noise", -(-image.size // 8))
        image[:] = words.astype("<u8").view(np.uint8)[: image.size].reshape(image.shape)
    elif name == "one-pixel":
        image[height // 2, width // 2] = 255
    elif name != "black":
        raise BadInput(f"stress image {name!r}: expected one of {', '.join(STRESS)}")
    return image
