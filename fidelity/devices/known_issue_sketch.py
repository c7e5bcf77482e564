"""A tiny graph with its inputs and what must come out: what a reported bug of a delegate is tried on.

Inputs are small whole numbers, so that every right answer is exact in float16 too and nobody has to
argue about rounding. Where one is not (a root), `within` says how far off float16 may be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fidelity.tflite.build import GraphBuilder

Single = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Right:
    """What one output must be. `symptoms` are the wrong values that the report tells of, by what they are."""

    what: str
    value: Single
    within: float = 0.0
    symptoms: dict[str, Single] = field(default_factory=dict)


class Sketch:
    """Adds inputs, constants and operators under names of its own; several trials fit into one."""

    def __init__(self) -> None:
        self.graph = GraphBuilder()
        self.inputs: dict[str, Single] = {}
        self.outputs: dict[str, Right] = {}
        self._count = 0

    def input(self, value: Any) -> str:
        """A runtime tensor that gets this value."""
        array = np.asarray(value, np.float32)
        name = self.graph.tensor(self._name("x"), array.shape)
        self.inputs[name] = array
        return name

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """A constant of the graph."""
        return self.graph.constant(self._name("c"), value, dtype)

    def op(self, kind: str, inputs: list[str], shape: Shape, made: Any = None) -> str:
        """The result of one more operator."""
        name = self.graph.tensor(self._name("y"), shape)
        self.graph.op(kind, inputs, name, made)
        return name

    def reshape(self, tensor: str, shape: Shape) -> str:
        """The tensor in another shape."""
        return self.op("RESHAPE", [tensor, self.constant(shape, "int32")], shape, schema.ReshapeOptionsT())

    def transpose(self, tensor: str, order: Shape, shape: Shape) -> str:
        """The tensor with its axes in another order; `shape` is the result's."""
        return self.op("TRANSPOSE", [tensor, self.constant(order, "int32")], shape, schema.TransposeOptionsT())

    def output(
        self, tensor: str, what: str, value: Any, within: float = 0.0, symptoms: dict[str, Any] | None = None
    ) -> None:
        """Judge this tensor: `value` is right. A symptom may be one number for every element."""
        right = np.asarray(value, np.float32)
        known = {told: np.broadcast_to(np.float32(wrong), right.shape) for told, wrong in (symptoms or {}).items()}
        self.outputs[tensor] = Right(what, right, within, known)

    def build(self) -> bytes:
        """The .tflite file."""
        return self.graph.build(list(self.inputs), list(self.outputs))

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"


Trial = Callable[[Sketch], None]
"""Adds one piece to a sketch: its inputs, its operators, and the outputs that are judged."""


def options(table: str, **fields: Any) -> Any:
    """Options of a schema class: options("Reducer", keepDims=True)."""
    made = getattr(schema, f"{table}OptionsT")()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def whole_numbers(*shape: int, low: int = -3, high: int = 3) -> Single:
    """Small whole numbers in an order without symmetry, so that a swap or a shift of any axis shows."""
    numbers = np.random.Generator(np.random.Philox(sum(shape))).integers(low, high + 1, shape)
    return numbers.astype(np.float32)
