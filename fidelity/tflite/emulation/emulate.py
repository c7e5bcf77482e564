"""Run a graph under a profile: every operator in order, intermediate tensors and inner sites in sight.

What cannot be computed is named and passed over, with all that depends on it; the rest is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import Conversion, rounded
from fidelity.arithmetic.kernels.layer_norm import layer_norm
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import LAYER_NORM, LayerNorm
from fidelity.errors import BadInput
from fidelity.tflite.emulation.constants import Constants
from fidelity.tflite.emulation.movement import MOVES, MOVES_TO_MANY
from fidelity.tflite.emulation.operations import COMPUTED, Call
from fidelity.tflite.emulation.schedule import Step, schedule
from fidelity.tflite.emulation.single import FLOAT32_ALONE
from fidelity.tflite.emulation.stored_integers import quantization_of, to_reals, to_stored
from fidelity.tflite.structure import Graph, Operator

Array = NDArray[Any]
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


def unwatched(op: Operator) -> Observer:
    """Looks at no operator."""
    return unobserved


class Emulator:
    """A graph made ready under a profile: constants converted and weights laid out once for any number of runs.

    Raises BadInput when the signature is not there.
    """

    def __init__(self, graph: Graph, profile: Profile, signature: str | None = None) -> None:
        self.graph, self.profile = graph, profile
        self._plain = profile.is_float32  # read once: it serialises the profile
        self.signature = graph.signature(signature)
        self._subgraph = graph.subgraphs[self.signature.subgraph]
        self._constants = Constants(graph, self._subgraph, profile)
        self.steps = schedule(graph, self._subgraph, profile)
        self._last_reader = {index: place for place, step in enumerate(self.steps) for index in step.reads}

    def run(self, inputs: Mapping[str, Array], watch: Watch = unwatched) -> Emulated:
        """The outputs for one set of inputs, by the signature's names.

        Raises BadInput for a name, shape or dtype that the signature does not have, and for NaN or Inf.
        """
        values = self._entered(inputs)
        missing: list[Missing] = []
        unreached: list[int] = []
        outputs = {index for _, index in self.signature.outputs}
        for place, step in enumerate(self.steps):
            if self._constants.kept(step.writes):
                continue
            if any(index >= 0 and index not in values and index not in self._constants for index in step.reads):
                unreached.append(step.op.index)
                continue
            try:
                results = self._compute(step, values, watch(step.op))
            except (NotImplementedError, ValueError) as error:
                missing.append(Missing(step.op.index, step.op.name, " ".join(str(error).split())))
                continue
            for index, result in zip((step.writes, *step.also), results, strict=True):
                if index in self._constants:
                    self._constants.keep(index, result)
                else:
                    values[index] = result
            for index in step.reads:
                if self._last_reader[index] <= place and index not in outputs:
                    values.pop(index, None)
        left = {name: values[index] for name, index in self.signature.outputs if index in values}
        final = {name: _converted(array, self.profile.outputs) for name, array in left.items()}
        return Emulated(final, tuple(missing), tuple(unreached))

    def one_by_one(self, values: Mapping[int, Array]) -> Iterator[tuple[Operator, int, Array]]:
        """Every operator that can be computed on given `values` of its tensors, by index, not on each other's
        results: the operator, a tensor that it writes and that has a given value of the same size, the result."""
        for step in self.steps:
            written = (step.writes, *step.also)
            if any(index in self._constants for index in written):
                continue
            if any(index >= 0 and index not in values and index not in self._constants for index in step.reads):
                continue
            try:
                results = self._compute(step, values, unobserved)
            except (NotImplementedError, ValueError):
                continue
            for index, result in zip(written, results, strict=True):
                if index in values and values[index].size == result.size:
                    yield step.op, index, result.reshape(values[index].shape)

    def _entered(self, inputs: Mapping[str, Array]) -> dict[int, Array]:
        names = dict(self.signature.inputs)
        where = self.graph.path
        if set(names) != set(inputs):
            raise BadInput(f"{where}: takes inputs {sorted(names)}, given {sorted(inputs)}")
        values = {}
        for name, index in names.items():
            tensor, array = self._subgraph.tensors[index], inputs[name]
            if array.shape != tensor.shape or str(array.dtype) != tensor.dtype:
                want = f"{tensor.dtype} {list(tensor.shape)}"
                raise BadInput(f"{where}: input {name!r} is {array.dtype} {list(array.shape)}, not {want}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise BadInput(f"{where}: input {name!r} holds NaN or Inf")
            values[index] = _converted(array, self.profile.inputs)
        return values

    def _value(self, index: int, values: Mapping[int, Array]) -> Array | None:
        """What an operator reads: reals, also of a tensor that stores them as integers."""
        if index < 0:
            return None
        if index not in values:
            return self._constants.value(index)
        how = quantization_of(self._subgraph.tensors[index])
        return values[index] if how is None else to_reals(values[index], how)

    def _compute(self, step: Step, values: Mapping[int, Array], observe: Observer) -> list[Array]:
        """One array for each tensor that the step writes."""
        op, written = step.op, (step.writes, *step.also)
        if step.also and op.name not in MOVES_TO_MANY:
            raise NotImplementedError(f"{op.name} with {len(written)} outputs")
        if not self._plain and any(
            index >= 0 and quantization_of(self._subgraph.tensors[index]) is not None
            for index in (*op.inputs, *written)
        ):
            raise NotImplementedError(f"quantised tensors under {self.profile.name}")
        if step.norm is not None:
            results = [self._normalised(step, values, observe)]
        elif op.name in MOVES_TO_MANY:
            results = MOVES_TO_MANY[op.name](op, [self._value(index, values) for index in step.reads])
        elif op.name in COMPUTED:
            results = [COMPUTED[op.name](self._call(step, values, observe))]
        elif self._plain and op.name in FLOAT32_ALONE:
            results = [FLOAT32_ALONE[op.name](self._call(step, values, observe))]
        elif op.name in MOVES:
            results = [MOVES[op.name](op, [self._value(index, values) for index in step.reads])]
        else:
            raise NotImplementedError(_unknown(op, self.profile))
        if len(results) != len(written):
            raise ValueError(f"gives {len(results)} tensors, the file says {len(written)}")
        return [self._shaped(index, result, observe) for index, result in zip(written, results, strict=True)]

    def _shaped(self, index: int, result: Array, observe: Observer) -> Array:
        """A result as the file says that the tensor is. Raises ValueError for another size or dtype."""
        tensor = self._subgraph.tensors[index]
        if result.size != tensor.elements:
            raise ValueError(f"gives {list(result.shape)}, the file says {list(tensor.shape)}")
        if result.dtype == np.float32:
            observe("result", result)
        how = quantization_of(tensor)
        if how is not None:
            # a static one is kept as reals, as those that the file stores are
            stored = to_stored(result, how, tensor.dtype)
            result = to_reals(stored, how) if index in self._constants else stored
        return result.reshape(tensor.shape)

    def _call(self, step: Step, values: Mapping[int, Array], observe: Observer) -> Call:
        prepared = self._constants.weights(step)
        kernel = self._subgraph.tensors[step.op.inputs[1]].shape if step.op.name == "CONV_2D" else ()
        reads = step.reads[:1] if prepared else step.reads
        inputs = [self._value(index, values) for index in reads]
        return Call(step.op, inputs, self.profile, observe, prepared, kernel, step.inside, step.followed)

    def _normalised(self, step: Step, values: Mapping[int, Array], observe: Observer) -> Array:
        """A LayerNorm that the device computes as one operation. Its eps stays float32, in the shader."""
        rule = self.profile.rules[LAYER_NORM]
        x = self._value(step.reads[0], values)
        if not isinstance(rule, LayerNorm) or x is None:
            raise ValueError("a LayerNorm without a rule or an input")
        eps = np.float32(self._constants.stored(step.reads[1]).reshape(-1)[0])
        return layer_norm(x, eps, rule, absorbed=step.followed, observe=observe)


def _unknown(op: Operator, profile: Profile) -> str:
    if op.is_custom:
        return f"the custom operation {op.name} is its author's own"
    if op.name in FLOAT32_ALONE:
        return f"profile {profile.name} has no rule for {op.name}"
    return f"the emulator does not have the operation {op.name}"


def _converted(array: Array, conversion: Conversion | None) -> Array:
    return rounded(array, conversion) if array.dtype == np.float32 else array
