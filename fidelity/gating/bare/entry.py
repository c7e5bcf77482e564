"""The entry points of a file, and the shapes that the command line binds their dynamic inputs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fidelity.errors import BadInput
from fidelity.tflite.structure import Graph, Signature, Tensor

DTYPES = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
"""Of inputs and outputs; others (strings, resources, complex numbers) are refused by name."""

LARGEST_INPUT = 256 << 20
Shape = tuple[int, ...]


def chosen(graph: Graph, key: str | None) -> tuple[Signature, ...]:
    """Every entry point, or the one of that name. Raises BadInput for an unknown one, and for one without outputs."""
    found = graph.entry_points if key is None else (graph.signature(key),)
    for entry in found:
        for what, side in (("input", entry.inputs), ("output", entry.outputs)):
            names = [name for name, _ in side]
            if len(set(names)) != len(names):
                raise BadInput(f"{graph.path}: {entry.key}: two {what}s of one name: nobody could tell them apart")
            for name, index in side:
                dtype = graph.subgraphs[entry.subgraph].tensors[index].dtype
                if dtype not in DTYPES:
                    raise BadInput(f"{graph.path}: {entry.key}: {what} {name!r} is {dtype}; judged are {list(DTYPES)}")
        if not entry.outputs:
            raise BadInput(f"{graph.path}: {entry.key} has no output: there is nothing to judge")
    return found


def pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE options by name. The last `=` divides, since a name may hold one. Raises BadInput."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise BadInput(f"{option} {text!r}: expected NAME=VALUE")
        if name in found:
            raise BadInput(f"{option} {name!r}: given twice")
        found[name] = value
    return found


def parsed_shapes(texts: Sequence[str]) -> dict[str, Shape]:
    """`--shape NAME=1,224,224,3` by name. Raises BadInput for anything but positive whole numbers."""
    shapes = {}
    for name, value in pairs("--shape", texts).items():
        sizes = [part.strip() for part in value.split(",")]
        if not all(part.isascii() and part.isdigit() and 0 < int(part) < 1 << 31 for part in sizes if len(part) < 11):
            raise BadInput(f"--shape {name}={value}: expected positive whole numbers, as in {name}=1,224,224,3")
        if any(len(part) >= 11 for part in sizes):
            raise BadInput(f"--shape {name}={value}: larger than any tensor")
        shapes[name] = tuple(int(part) for part in sizes)
    return shapes


def parsed_ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """`--range NAME=0,1` by name. Raises BadInput for anything but two finite numbers, the lower first."""
    ranges = {}
    for name, value in pairs("--range", texts).items():
        try:
            low, high = (float(part) for part in value.split(","))
        except ValueError as error:
            raise BadInput(f"--range {name}={value}: expected two numbers, as in {name}=0,1") from error
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise BadInput(f"--range {name}={value}: expected two finite numbers, the lower first")
        ranges[name] = (low, high)
    return ranges


def check_names(option: str, given: Mapping[str, object], graph: Graph, entries: Sequence[Signature]) -> None:
    """Raises BadInput for a name that is an input of none of these entry points."""
    known = list(dict.fromkeys(name for entry in entries for name, _ in entry.inputs))
    for name in given:
        if name not in known:
            raise BadInput(f"{option} {name!r}: {graph.path} takes {', '.join(map(repr, known)) or 'no input'}")


def bound(graph: Graph, entry: Signature, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The static shape of every input of an entry point, by name.

    Raises BadInput for a dynamic one that nothing binds, a shape that does not fit the file's, and one too large.
    """
    found = {}
    for name, index in entry.inputs:
        tensor = graph.subgraphs[entry.subgraph].tensors[index]
        declared, asked = tensor.shape_signature, shapes.get(name)
        if asked is None and -1 in declared:
            sizes = ",".join(str(size) if size > 0 else "N" for size in declared)
            raise BadInput(
                f"{graph.path}: input {name!r} has the dynamic shape {list(declared)}: --shape {name}={sizes}"
            )
        shape = tensor.shape if asked is None else asked
        if not _fits(declared, shape):
            raise BadInput(f"--shape {name}={list(shape)}: the file takes {list(declared)} for {name!r}")
        if math.prod(shape) * np.dtype(tensor.dtype).itemsize > LARGEST_INPUT:
            raise BadInput(f"input {name!r} of shape {list(shape)} is larger than {LARGEST_INPUT >> 20} MiB")
        found[name] = shape
    return found


def is_dynamic(graph: Graph, entry: Signature) -> bool:
    """Whether a shape of an input is left open by the file."""
    return any(tensor.is_dynamic for tensor in taken(graph, entry).values())


def taken(graph: Graph, entry: Signature) -> dict[str, Tensor]:
    """The input tensors by the names of the entry point."""
    return {name: graph.subgraphs[entry.subgraph].tensors[index] for name, index in entry.inputs}


def _fits(declared: Shape, shape: Shape) -> bool:
    return len(declared) == len(shape) and all(want in (-1, size) for want, size in zip(declared, shape, strict=True))
