"""Which value of PyTorch a graph's tensor is, told by the numbers themselves and not by names.

Equal means: within RIGHT of each other, in the same order or in that of another layout (channels last). So a
converter may merge, split and rename as it likes, and rows that it exchanged are still another value, as is a square
matrix that it transposed.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.localisation.noise import NOISE

Array = NDArray[Any]
Double = NDArray[np.float64]

RIGHT = NOISE
"""Relative L2 within which two values are the same. A weight that the converter computed and rounded to fp16 once is
2e-4 off (the pool of PE-Core B/16), all else 1e-6."""

_LARGEST_RANK = 4
_SAMPLE = 1024


@dataclass(frozen=True)
class Node:
    """One value: C-contiguous float64. `ancestors` are the nodes that it comes from, itself too, a bit each;
    `live`: whether an input of the model is among them; `outputs`: which of the model's outputs it is."""

    index: int
    name: str
    value: Double
    ancestors: int
    live: bool
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counterpart:
    """A node that has the tensor's value: `error` is relative L2, `outputs` which of the model's outputs it is."""

    node: int
    name: str
    ancestors: int
    error: float
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Activation:
    """A node that depends on an input, without its value."""

    node: int
    size: int
    ancestors: int


@dataclass
class Counterparts:
    """The nodes of every tensor's value, built up node by node.

    `nearest`: the smallest error, on a sample, of any activation of the same size in the same order. `activations` are
    all nodes that depend on an input.
    """

    found: dict[int, list[Counterpart]] = field(default_factory=lambda: defaultdict(list))
    moved: dict[int, list[Counterpart]] = field(default_factory=lambda: defaultdict(list))
    values: dict[int, Double] = field(default_factory=dict)
    nearest: dict[int, float] = field(default_factory=dict)
    activations: list[Activation] = field(default_factory=list)

    def of(self, tensor: int) -> list[Counterpart]:
        """The nodes of a tensor's value; those of another layout only where none has its own."""
        return self.found.get(tensor) or self.moved.get(tensor) or []


class Matcher:
    """Compares every node that it is shown with the tensors of one run of a graph."""

    def __init__(self, tensors: Mapping[int, Array]) -> None:
        self._tensors = tensors
        self._by_size: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
        samples: dict[int, list[Double]] = defaultdict(list)
        for index, array in tensors.items():
            flat = array.reshape(-1).astype(np.float64)
            self._by_size[array.size].append((index, _norm(flat), float(flat.sum())))
            samples[array.size].append(flat[_sampled(flat.size)])
        self._samples = {size: np.stack(each) for size, each in samples.items()}
        self.result = Counterparts()

    def see(self, node: Node) -> None:
        """Note the tensors that have this node's value."""
        flat = node.value.reshape(-1)
        if node.live:
            self.result.activations.append(Activation(node.index, flat.size, node.ancestors))
        norm, total = _norm(flat), float(flat.sum())
        if not np.isfinite(norm):
            return
        if flat.size not in self._samples:
            return
        if node.live:
            self._note_nearest(flat)
        for tensor, other, its_total in self._by_size[flat.size]:
            slack = RIGHT * max(norm, other)
            if not (abs(norm - other) <= slack and abs(total - its_total) <= slack * np.sqrt(flat.size)):
                continue  # by the triangle inequality and Cauchy's, apart by more than RIGHT; or the tensor has a NaN
            actual = self._tensors[tensor]
            error = _error(actual.reshape(-1), flat, norm)
            if error <= RIGHT:
                self._note(self.result.found, tensor, node, error, flat.reshape(actual.shape))
            else:
                self._see_moved(tensor, node, norm)

    def _note_nearest(self, flat: Double) -> None:
        """How far the tensors of this size are from a node, on a sample of the elements."""
        right = flat[_sampled(flat.size)]
        norm = _norm(right)
        if norm == 0:
            return
        errors = np.linalg.norm(self._samples[flat.size] - right, axis=1) / norm
        for (tensor, _, _), error in zip(self._by_size[flat.size], errors, strict=True):
            self.result.nearest[tensor] = min(float(error), self.result.nearest.get(tensor, np.inf))

    def _see_moved(self, tensor: int, node: Node, norm: float) -> None:
        """The same numbers with the axes in another order."""
        actual, value = self._tensors[tensor], node.value.squeeze()
        wanted = [size for size in actual.shape if size != 1]
        if value.ndim > _LARGEST_RANK:
            return
        for order in itertools.permutations(range(value.ndim)):
            if [value.shape[axis] for axis in order] == wanted and _tells_a_layout(order, value.shape):
                moved = np.ascontiguousarray(value.transpose(order)).reshape(-1)
                error = _error(actual.reshape(-1), moved, norm)
                if error <= RIGHT:
                    self._note(self.result.moved, tensor, node, error, moved.reshape(actual.shape))

    def _note(self, kept: dict[int, list[Counterpart]], tensor: int, node: Node, error: float, value: Double) -> None:
        mine = self.result
        if not mine.found.get(tensor) and not (kept is mine.moved and mine.moved.get(tensor)):
            mine.values[tensor] = value
        kept[tensor].append(Counterpart(node.index, node.name, node.ancestors, error, node.outputs))


def _tells_a_layout(order: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether axes in this order are another layout of the same value, which a shape tells only of axes of several
    sizes: two of one size that are exchanged are a matrix transposed, which is another value."""
    if list(order) == sorted(order):
        return False
    return all(one < other or shape[one] != shape[other] for one, other in itertools.combinations(order, 2))


def _sampled(size: int) -> NDArray[np.int64]:
    """Places all over an array of this size, at most _SAMPLE of them."""
    return np.unique(np.linspace(0, size - 1, min(size, _SAMPLE)).astype(np.int64))


def _norm(flat: Double) -> float:
    return float(np.sqrt(np.dot(flat, flat)))


def _error(actual: Array, right: Double, norm: float) -> float:
    if norm == 0:
        return 0.0 if not np.any(actual) else np.inf
    return _norm(actual - right) / norm
