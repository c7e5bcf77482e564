"""What a bare artefact is run on: seeded numbers of every dtype, photographs where an input is an image, or files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.errors import BadInput
from fidelity.gating.bare.entry import Shape
from fidelity.gating.single import check_array, read_array
from fidelity.models.counter_random import uniform_integers
from fidelity.models.input_contract import InputContract
from fidelity.models.inputs import load_inputs
from fidelity.tflite.emulation.stored_integers import quantization_of
from fidelity.tflite.manifest import TensorContract
from fidelity.tflite.structure import Tensor

Array = NDArray[Any]
RANDOM_SETS = 4
FLOATS = (-1.0, 1.0)
INDICES = (0.0, 9.0)
"""Range of int32 and int64 inputs, which are most often indices: small enough for most tables."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Asked:
    """What the command line says of inputs: ranges and files by input name, the photographs' folder, the seed,
    and the names of the sets that are wanted (None: all)."""

    ranges: Mapping[str, Range]
    files: Mapping[str, Path]
    images: Path
    seed: int
    only: tuple[str, ...] | None = None


def input_sets(tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], asked: Asked) -> dict[str, dict[str, Array]]:
    """Sets of inputs by name, each with an array for every input of the entry point.

    Files make one set, `given`. Otherwise there are RANDOM_SETS sets of numbers and, where an input is an
    image, one more for every photograph and stress image. What a set does not say of an input is random.
    Raises BadInput for a file that does not fit, and a range outside an integer's.
    """
    if asked.files:
        fixed = {name: _own(path, name, tensors[name], shapes[name]) for name, path in asked.files.items()}
        return {"given": _filled("given", fixed, tensors, shapes, asked)}
    sets: dict[str, dict[str, Array]] = {f"random-{i}": {} for i in range(RANDOM_SETS)}
    for name, tensor in tensors.items():
        if is_image(shapes[name]) and tensor.dtype in ("float32", "float16", "uint8", "int8"):
            for which, array in _images(name, tensor, shapes[name], asked).items():
                sets.setdefault(which, {})[name] = array
    wanted = tuple(sets) if asked.only is None else asked.only
    unknown = [which for which in wanted if which not in sets]
    if unknown or not wanted:
        raise BadInput(f"--inputs {','.join(unknown)!r}: the sets are {', '.join(sets)}")
    return {which: _filled(which, sets[which], tensors, shapes, asked) for which in wanted}


def is_image(shape: Shape) -> bool:
    """NHWC [1, H, W, 3] or NCHW [1, 3, H, W], of at least 16 pixels a side."""
    if len(shape) != 4 or shape[0] != 1:
        return False
    sides = shape[1:3] if shape[3] == 3 else shape[2:4] if shape[1] == 3 else (0, 0)
    return min(sides) >= 16


def range_of(name: str, tensor: Tensor, ranges: Mapping[str, Range]) -> Range:
    """The range of an input's stored numbers. Raises BadInput for one that its dtype does not hold."""
    kind = np.dtype(tensor.dtype).kind
    whole = (0.0, 1.0) if kind == "b" else FLOATS
    if kind in "iu":
        limits = np.iinfo(tensor.dtype)
        narrow = tensor.dtype in ("int8", "uint8", "int16") or quantization_of(tensor) is not None
        whole = (float(limits.min), float(limits.max)) if narrow else INDICES
        if name in ranges and not (limits.min <= ranges[name][0] and ranges[name][1] <= limits.max):
            raise BadInput(f"--range {name}={ranges[name]}: {tensor.dtype} holds {limits.min} to {limits.max}")
    return ranges.get(name, whole)


def _filled(
    which: str,
    fixed: Mapping[str, Array],
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, Shape],
    asked: Asked,
) -> dict[str, Array]:
    return {
        name: fixed[name] if name in fixed else _random(which, name, tensor, shapes[name], asked)
        for name, tensor in tensors.items()
    }


def _random(which: str, name: str, tensor: Tensor, shape: Shape, asked: Asked) -> Array:
    """Uniform numbers: of the 2^24 multiples that float32 holds exactly, or all whole ones of the range."""
    low, high = range_of(name, tensor, asked.ranges)
    dtype = np.dtype(tensor.dtype)
    words = uniform_integers(asked.seed, f"bare/{which}/{name}", int(np.prod(shape, dtype=np.int64)))
    if dtype.kind == "f":
        share = (words >> np.uint64(40)).astype(np.float64) / ((1 << 24) - 1)
        return (low + share * (high - low)).astype(dtype).reshape(shape)
    count = int(high) - int(low) + 1
    small = (words >> np.uint64(32)) % np.uint64(count) if count < 1 << 32 else words >> np.uint64(32)
    return (small.astype(np.int64) + int(low)).astype(dtype).reshape(shape)


def _images(name: str, tensor: Tensor, shape: Shape, asked: Asked) -> dict[str, Array]:
    """Photographs and stress images in the input's range; of an integer input, its steps are the pixels'."""
    low, high = range_of(name, tensor, asked.ranges)
    last = shape[3] == 3
    height, width = shape[1:3] if last else shape[2:4]
    span = high - low
    contract = InputContract(name=name, shape=(1, 3, height, width), mean=(-low / span,) * 3, std=(1 / span,) * 3)
    found = {}
    for which, array in load_inputs(asked.images, contract, seed=asked.seed).arrays.items():
        laid = np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if last else array
        whole = np.dtype(tensor.dtype).kind in "iu"
        found[which] = np.clip(np.rint(laid), low, high).astype(tensor.dtype) if whole else laid.astype(tensor.dtype)
    return found


def _own(path: Path, name: str, tensor: Tensor, shape: Shape) -> Array:
    """The array of the user's own for an input."""
    array = read_array(path)
    check_array(array, TensorContract(name=name, shape=shape, dtype=tensor.dtype), str(path))
    return array
