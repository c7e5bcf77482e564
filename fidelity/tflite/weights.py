"""Where every constant of an artefact comes from: weights-exact is a claim about bits, of the shipped file too.

The rewrites are proved weights-exact on the PyTorch side. This is the other half: a constant is a weight of the
converted model with the same bits, one rounded to float16 once, a part of one, or one whose rows and columns the
converter has scaled (it takes a LayerNorm's gain into the product behind it); what is none of these came from
elsewhere, such as a checkpoint that was rounded to bfloat16 on the way.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fidelity.record import Figure, Record
from fidelity.tflite.scaling import Scaling, folded_bias, scaling_of
from fidelity.tflite.structure import Graph, Tensor

Array = NDArray[Any]
Single = NDArray[np.float32]
How = Literal["copied", "rounded", "part", "scaled", "zeros", "unexplained"]
_STORED = ("float32", "float16")
_NEAR = 0.1


class ConstantOrigin(Record):
    """One constant of more than one element. `source` is the weight that it is; one that is unexplained is nearest to
    that one: `differing` elements are other than it has rounded once, and `distance` is relative L2 from it."""

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    operators: tuple[int, ...]
    how: How
    source: str | None = None
    differing: int = 0
    distance: Figure = 0.0

    @property
    def altered(self) -> bool:
        """Whether this is a weight of the model, and has other bits: nearer to it than a tenth."""
        return self.how == "unexplained" and self.source is not None and self.distance < _NEAR

    def told(self) -> str:
        """What is wrong with it, in a line."""
        where = f"op {self.operators[0]}: " if self.operators else ""
        what = f"{where}constant {self.tensor[-70:]!r} {list(self.shape)} {self.dtype} has the bits of no weight"
        if self.source is None:
            return what
        return f"{what}; from {self.source} it differs in {self.differing} elements, relative L2 {self.distance:.2g}"


class WeightsAudit(Record):
    """Every constant of an artefact with its origin."""

    constants: tuple[ConstantOrigin, ...]

    @property
    def unexplained(self) -> tuple[ConstantOrigin, ...]:
        """The constants that are no weight of the model, bit for bit."""
        return tuple(each for each in self.constants if each.how == "unexplained")


def audit_weights(graph: Graph, weights: Mapping[str, Single]) -> WeightsAudit:
    """The origin of every float constant of more than one element among the model's stored tensors."""
    search = _Search(graph, weights)
    constants = [t for t in graph.main.tensors if t.is_constant and t.dtype in _STORED and t.elements > 1]
    found = [search.origin(tensor) for tensor in constants]
    found = [search.scaled_bias(each) if each.how == "unexplained" else each for each in found]
    return WeightsAudit(constants=tuple(found))


class _Search:
    """The weights by their bits, in every order of their axes and both dtypes."""

    def __init__(self, graph: Graph, weights: Mapping[str, Single]) -> None:
        self._graph, self._weights = graph, weights
        self._by_bits: dict[bytes, set[str]] = {}
        self._scalings: dict[int, Scaling] = {}
        for name, value in weights.items():
            for dtype in _STORED:
                self._by_bits.setdefault(_digest(value.squeeze().astype(dtype)), set()).add(name)

    def origin(self, tensor: Tensor) -> ConstantOrigin:
        """What a constant is by itself."""
        value = self._graph.constant(tensor)
        readers = _readers(self._graph, tensor.index)
        record = ConstantOrigin(
            tensor=tensor.name, shape=tensor.shape, dtype=tensor.dtype, operators=readers, how="unexplained"
        )
        for turned in _turned(value.squeeze()):
            if names := self._by_bits.get(_digest(turned)):
                how: How = "copied" if tensor.dtype == "float32" else "rounded"
                return record.model_copy(update={"how": how, "source": min(names)})
        if not np.any(value):
            return record.model_copy(update={"how": "zeros"})
        if (source := self._part(value)) is not None:
            return record.model_copy(update={"how": "part", "source": source})
        if (scaling := scaling_of(value, self._weights)) is not None:
            self._scalings |= dict.fromkeys(readers, scaling)
            return record.model_copy(update={"how": "scaled", "source": scaling.source})
        return record.model_copy(update=self._nearest(value))

    def scaled_bias(self, record: ConstantOrigin) -> ConstantOrigin:
        """The bias of a product that was scaled, with what the scaling made of it."""
        tensor = next(t for t in self._graph.main.tensors if t.name == record.tensor and t.shape == record.shape)
        value = self._graph.constant(tensor).reshape(-1).astype(np.float64)
        for reader in record.operators:
            scaling = self._scalings.get(reader)
            if scaling is not None and (source := folded_bias(value, scaling, self._weights)) is not None:
                return record.model_copy(update={"how": "scaled", "source": source, "differing": 0, "distance": 0.0})
        return record

    def _part(self, value: Array) -> str | None:
        """A weight of which this is one half of the last axis, as the halves of a rotary table are."""
        flat = value.reshape(-1, value.shape[-1])
        for name, weight in self._weights.items():
            if weight.size == 2 * value.size and weight.shape[-1] == 2 * value.shape[-1]:
                halves = np.split(weight.astype(value.dtype).reshape(-1, weight.shape[-1]), 2, axis=1)
                if any(np.array_equal(half, flat) for half in halves):
                    return name
        return None

    def _nearest(self, value: Array) -> dict[str, Any]:
        """The weight of this size that it is most like, and how far it is from that one rounded once.

        A weight of zeros, as BEiT's bias of k is, has no direction that anything could be like.
        """
        best: tuple[float, str, Array] | None = None
        flat = value.reshape(-1).astype(np.float64)
        for name, weight in self._weights.items():
            if weight.size != value.size or not np.any(weight):
                continue
            for turned in _turned(weight.squeeze()):
                other = turned.reshape(-1).astype(np.float64)
                error = float(np.linalg.norm(flat - other))
                if best is None or error < best[0]:
                    best = (error, name, turned)
        if best is None:
            return {}
        rounded = best[2].reshape(-1).astype(value.dtype)
        differing = int(np.count_nonzero(rounded != value.reshape(-1)))
        norm = float(np.linalg.norm(best[2].astype(np.float64)))
        return {"source": best[1], "differing": differing, "distance": best[0] / norm}


def _turned(value: Array) -> Iterator[Array]:
    """The same array with its axes in every order."""
    for order in itertools.permutations(range(value.ndim)):
        yield value.transpose(order)


def _readers(graph: Graph, constant: int) -> tuple[int, ...]:
    """The operators that a constant is for: through the DEQUANTIZE that reads it."""
    found: list[int] = []
    for reader in graph.main.consumers[constant]:
        if reader.name == "DEQUANTIZE":
            found += [each.index for each in graph.main.consumers[reader.outputs[0]]]
        else:
            found.append(reader.index)
    return tuple(found)


def _digest(value: Array) -> bytes:
    return hashlib.sha256(str(value.dtype).encode() + np.ascontiguousarray(value).tobytes()).digest()
