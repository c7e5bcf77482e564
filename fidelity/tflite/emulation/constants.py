"""What no input can change: constants as the device holds them, and weights laid out for their products, once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import from_float16, rounded
from fidelity.arithmetic.kernels import products
from fidelity.arithmetic.matmul import Right
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import Product
from fidelity.tflite.emulation.merging import WEIGHTED, Merging, merged
from fidelity.tflite.emulation.schedule import Step
from fidelity.tflite.emulation.stored_integers import quantization_of, to_reals
from fidelity.tflite.structure import Graph, Subgraph, Tensor
from fidelity.tflite.walk import static_tensors

Array = NDArray[Any]
Single = NDArray[np.float32]


class Constants:
    """The static values of a subgraph under a profile; each is made when it is first asked for.

    Weights of products are kept in their prepared form alone: a model's float32 weights are held once.
    """

    def __init__(self, graph: Graph, subgraph: Subgraph, profile: Profile) -> None:
        self._graph, self._subgraph, self._profile = graph, subgraph, profile
        self._computed: dict[int, Array] = {}
        self._prepared: dict[int, tuple[Right, Single | None]] = {}
        self._static = static_tensors(subgraph)

    def __contains__(self, tensor: int) -> bool:
        """Whether the tensor's value is static."""
        return tensor in self._static

    def value(self, tensor: int) -> Array:
        """The value as the device holds it. Raises NotImplementedError for one that is computed by more
        than a conversion, BadInput for one that cannot be read."""
        if tensor not in self._computed:
            self._computed[tensor] = self._converted(self.stored(tensor))
        return self._computed[tensor]

    def stored(self, tensor: int) -> Array:
        """The value before the device converts it: stored in the file, or float16 weights as float32."""
        if tensor in self._computed:
            return self._computed[tensor]
        entry, maker = self._subgraph.tensors[tensor], self._subgraph.producers.get(tensor)
        if entry.is_constant:
            return self._read(entry)
        if maker is None or maker.name != "DEQUANTIZE" or not self._subgraph.tensors[maker.inputs[0]].is_constant:
            raise NotImplementedError(f"constant tensor {tensor} is computed by {maker.name if maker else 'nothing'}")
        kept = self._read(self._subgraph.tensors[maker.inputs[0]])
        if kept.dtype == np.float32:
            return kept
        if kept.dtype != np.float16:
            raise NotImplementedError(f"DEQUANTIZE of {kept.dtype}")
        return from_float16(kept)

    def _read(self, entry: Tensor) -> Array:
        """A constant of the file; the reals of one that stores them as integers."""
        if entry.encoded or entry.nbytes is None:
            raise NotImplementedError(f"constant tensor {entry.index}: {'sparse' if entry.encoded else entry.dtype}")
        how, array = quantization_of(entry), np.asarray(self._graph.constant(entry))
        if how is None:
            return array
        if not self._profile.is_float32:
            raise NotImplementedError(f"constant tensor {entry.index}: quantised, under {self._profile.name}")
        return to_reals(array, how)

    def keep(self, tensor: int, value: Array) -> None:
        """Remember a static tensor that a step has computed."""
        self._computed[tensor] = value

    def kept(self, tensor: int) -> bool:
        """Whether a step that computes this tensor need not run: its value is known, or is made when asked for."""
        maker = self._subgraph.producers.get(tensor)
        return tensor in self._computed or (tensor in self._static and maker is not None and maker.name == "DEQUANTIZE")

    def weights(self, step: Step) -> tuple[Right, Single | None] | None:
        """Weights ready for the product and its bias; None for a step without static weights."""
        op, rule = step.op, self._profile.rules.get(step.op.name)
        if op.name not in WEIGHTED or not isinstance(rule, Product) or op.inputs[1] not in self._static:
            return None
        if op.index not in self._prepared:
            bias = op.inputs[2] if len(op.inputs) > 2 and op.inputs[2] >= 0 else None
            w, b = self._raw(step.merging, op.inputs[1], bias)
            self._prepared[op.index] = products.weights(w, rule), b
        return self._prepared[op.index]

    def _raw(self, merging: Merging | None, weights: int, bias: int | None) -> tuple[Single, Single | None]:
        w, b = self.stored(weights), None if bias is None else self.stored(bias)
        if merging is not None:
            w, b = merged(merging, w, b, self.stored)
        return self._converted(w), None if b is None else self._converted(b)

    def _converted(self, array: Array) -> Array:
        return rounded(array, self._profile.weights) if array.dtype == np.float32 else array
