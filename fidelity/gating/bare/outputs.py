"""An output as it is judged: real numbers, and the unit that its error is measured in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.gating.bare.depth import Depth, depths
from fidelity.gating.bare.records import Unit
from fidelity.gating.bare.tolerances import relative_tolerance
from fidelity.tflite.emulation.stored_integers import quantization_of, to_reals
from fidelity.tflite.structure import Graph, Quantization, Signature, Subgraph

Array = NDArray[Any]
_PROBABILITIES = ("LOGISTIC", "SOFTMAX")
_PASSING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "DEQUANTIZE", "CONCATENATION")


@dataclass(frozen=True)
class Measured:
    """One output: its unit, its stored dtype, its size of a step (None: not of steps), its depth in the graph."""

    name: str
    unit: Unit
    dtype: str
    step: float | None
    quantization: Quantization | None
    depth: Depth

    @property
    def tolerance(self) -> float:
        """How far emulation and reference kernels may be apart, in this unit; steps are for `steps_apart`."""
        return relative_tolerance(self.depth)

    def reals(self, stored: Array) -> Array:
        """What the stored numbers mean, as float32 or float64; floats as they are."""
        if self.quantization is not None and stored.dtype.kind in "iu":
            return to_reals(stored, self.quantization)
        return stored if stored.dtype.kind == "f" else stored.astype(np.float64)


def measured_outputs(graph: Graph, entry: Signature) -> dict[str, Measured]:
    """How each output of an entry point is judged, by its name.

    In steps: quantised ones, whole numbers and booleans (a step of 1), and floats that a DEQUANTIZE has
    made of quantised ones. On a scale of 1: what a LOGISTIC or SOFTMAX has made. The others by their length.
    """
    subgraph = graph.subgraphs[entry.subgraph]
    found = {}
    for name, depth in depths(graph, entry).items():
        index = dict(entry.outputs)[name]
        tensor = subgraph.tensors[index]
        how = quantization_of(tensor)
        step = how.scale[0] if how is not None else _step_before(subgraph, index)
        if how is None and np.dtype(tensor.dtype).kind in "iub":
            step = 1.0
        unit: Unit = "steps" if step is not None else "full scale" if _probability(subgraph, index) else "relative L2"
        found[name] = Measured(name, unit, tensor.dtype, step, how, depth)
    return found


def reals_of(
    outputs: Mapping[str, Mapping[str, Array]], measured: Mapping[str, Measured]
) -> dict[str, dict[str, Array]]:
    """Outputs by set and name in real numbers; one that the file does not have is left as it is, to be named."""
    return {
        which: {name: measured[name].reals(array) if name in measured else array for name, array in each.items()}
        for which, each in outputs.items()
    }


def _step_before(subgraph: Subgraph, index: int) -> float | None:
    """The step of the quantised tensor that a float one is nothing but the reals of."""
    maker = subgraph.producers.get(index)
    if maker is None or maker.name != "DEQUANTIZE":
        return None
    how = quantization_of(subgraph.tensors[maker.inputs[0]])
    return None if how is None else how.scale[0]


def _probability(subgraph: Subgraph, index: int) -> bool:
    """Whether nothing but moves stand between a tensor and the LOGISTIC or SOFTMAX that all of it comes from."""
    maker = subgraph.producers.get(index)
    if maker is None:
        return False
    if maker.name in _PASSING:
        read = maker.inputs if maker.name == "CONCATENATION" else maker.inputs[:1]
        return all(_probability(subgraph, each) for each in read)
    return maker.name in _PROBABILITIES
