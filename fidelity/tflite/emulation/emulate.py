"""Run a graph under a profile: every operator in order, intermediate tensors and inner sites in sight.

What cannot be computed is named and passed over, with all that depends on it; the rest is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.kernels import products
from fidelity.arithmetic.matmul import Right
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import Product
from fidelity.errors import BadInput
from fidelity.tflite.emulation.absorption import absorption
from fidelity.tflite.emulation.movement import MOVES
from fidelity.tflite.emulation.operations import COMPUTED, Call
from fidelity.tflite.structure import Graph, Operator, Tensor
from fidelity.tflite.walk import static_tensors

Array = NDArray[Any]
_WEIGHTED = ("FULLY_CONNECTED", "CONV_2D")
Watch = Callable[[Operator], Observer]
"""Gives the observer of one operator's inner sites and result."""


@dataclass(frozen=True)
class Missing:
    """An operator that could not be computed: its index and name in the file, and why."""

    operator: int
    name: str
    reason: str


@dataclass(frozen=True)
class Emulated:
    """Outputs by the signature's names, those that could be computed. `missing` is what could not be,
    `unreached` the operators that depend on it."""

    outputs: dict[str, Array]
    missing: tuple[Missing, ...] = ()
    unreached: tuple[int, ...] = ()


def _unwatched(op: Operator) -> Observer:
    return unobserved


class Emulator:
    """A graph made ready under a profile: constants converted and weights laid out once for any number of runs."""

    def __init__(self, graph: Graph, profile: Profile, signature: str | None = None) -> None:
        """Raises BadInput when the signature is not there, or its subgraph is not the first."""
        self.graph, self.profile = graph, profile
        self.signature = graph.signature(signature)
        self._subgraph = graph.subgraphs[self.signature.subgraph]
        self._absorption = absorption(self._subgraph, profile)
        self._static_tensors = static_tensors(self._subgraph)
        self._static: dict[int, Array] = {}
        self._weights: dict[int, Right] = {}
        self._last_reader = {
            tensor: readers[-1].index for tensor, readers in self._subgraph.consumers.items() if readers
        }

    def run(self, inputs: Mapping[str, Array], watch: Watch = _unwatched) -> Emulated:
        """The outputs for one set of inputs, by the signature's names.

        Raises BadInput for a name, shape or dtype that the signature does not have, and for NaN or Inf.
        """
        values = self._entered(inputs)
        missing: list[Missing] = []
        unreached: list[int] = []
        kept = {index for _, index in self.signature.outputs}
        for op in self._subgraph.operators:
            used = [index for index in op.inputs if index >= 0]
            if any(index not in values and not self._is_static(index) for index in used):
                unreached.append(op.index)
                continue
            if op.outputs and all(index in self._static or index in self._weights for index in op.outputs):
                continue
            try:
                result = self._compute(op, values, watch(op))
            except (NotImplementedError, ValueError) as error:
                missing.append(Missing(op.index, op.name, " ".join(str(error).split())))
                continue
            into = self._static if op.outputs[0] in self._static_tensors else values
            into[op.outputs[0]] = result
            for index in used:
                if self._last_reader[index] <= op.index and index not in kept:
                    values.pop(index, None)
        outputs = {name: self._left(index, values) for name, index in self.signature.outputs if index in values}
        return Emulated(outputs, tuple(missing), tuple(unreached))

    def _entered(self, inputs: Mapping[str, Array]) -> dict[int, Array]:
        names = dict(self.signature.inputs)
        if set(names) != set(inputs):
            raise BadInput(f"{self.graph.path}: takes inputs {sorted(names)}, given {sorted(inputs)}")
        values = {}
        for name, index in names.items():
            tensor, array = self._subgraph.tensors[index], inputs[name]
            if array.shape != tensor.shape or str(array.dtype) != tensor.dtype:
                want = f"{tensor.dtype} {list(tensor.shape)}"
                raise BadInput(f"{self.graph.path}: input {name!r} is {array.dtype} {list(array.shape)}, not {want}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise BadInput(f"{self.graph.path}: input {name!r} holds NaN or Inf")
            values[index] = self._converted(array, self.profile.inputs)
        return values

    def _left(self, index: int, values: Mapping[int, Array]) -> Array:
        return self._converted(values[index], self.profile.outputs)

    @staticmethod
    def _converted(array: Array, conversion: Any) -> Array:
        return rounded(array, conversion) if array.dtype == np.float32 else array

    def _is_static(self, index: int) -> bool:
        return index in self._static or index in self._weights or self._subgraph.tensors[index].is_constant

    def _value(self, index: int, values: Mapping[int, Array]) -> Array | None:
        if index < 0:
            return None
        if index in values:
            return values[index]
        if index not in self._static:
            self._static[index] = self._constant(self._subgraph.tensors[index])
        return self._static[index]

    def _constant(self, tensor: Tensor) -> Array:
        return self._converted(np.asarray(self.graph.constant(tensor)), self.profile.weights)

    def _compute(self, op: Operator, values: Mapping[int, Array], observe: Observer) -> Array:
        if len(op.outputs) != 1:
            raise NotImplementedError(f"{op.name} with {len(op.outputs)} outputs")
        weights = self._prepared(op, values)
        inputs = [
            None if weights is not None and position == 1 else self._value(index, values)
            for position, index in enumerate(op.inputs)
        ]
        if op.name == "DEQUANTIZE":
            result = self._dequantized(inputs[0])
        elif op.name in MOVES:
            result = MOVES[op.name](op, inputs)
        elif op.name in COMPUTED:
            result = COMPUTED[op.name](
                Call(
                    op,
                    inputs,
                    self.profile,
                    observe,
                    weights,
                    self._subgraph.tensors[op.inputs[1]].shape if op.name == "CONV_2D" else (),
                    inside=op.index in self._absorption.inside,
                    followed=op.index in self._absorption.followed,
                )
            )
        else:
            raise NotImplementedError(f"the emulator does not have the operation {op.name}")
        tensor = self._subgraph.tensors[op.outputs[0]]
        if result.size != tensor.elements:
            raise ValueError(f"gives {list(result.shape)}, the file says {list(tensor.shape)}")
        if result.dtype == np.float32:
            observe("result", result)
        return result.reshape(tensor.shape)

    def _dequantized(self, stored: Array | None) -> Array:
        """float16 weights as float32; integer ones are another kind of quantisation, which has a scale."""
        if stored is None or stored.dtype != np.float16:
            raise NotImplementedError(f"DEQUANTIZE of {None if stored is None else stored.dtype}")
        return self._converted(stored.astype(np.float32), self.profile.weights)

    def _prepared(self, op: Operator, values: Mapping[int, Array]) -> Right | None:
        """Weights that never change, laid out for the product once; None where there are none."""
        rule = self.profile.rules.get(op.name)
        if op.name not in _WEIGHTED or not isinstance(rule, Product) or op.inputs[1] not in self._static_tensors:
            return None
        index = op.inputs[1]
        if index not in self._weights:
            value = self._value(index, values)
            if value is None:
                raise ValueError("the weights are absent")
            self._weights[index] = products.weights(value, rule)
            if self._subgraph.consumers[index] == (op,):
                self._static.pop(index)  # read by nothing else: the prepared form is enough
        return self._weights[index]
