"""Looks on while a graph is emulated and keeps, for every site, the largest magnitude over all inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.observe import Observer, Part
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import LAYER_NORM
from fidelity.prediction.held import SINGLE, Held, held, held_input
from fidelity.prediction.module_path import module_path
from fidelity.prediction.site import Site, headroom
from fidelity.tflite.emulation.movement import MOVES
from fidelity.tflite.emulation.schedule import Step
from fidelity.tflite.structure import Operator, Subgraph

Single = NDArray[np.float32]
_UNCOMPUTED = frozenset([*MOVES, "DEQUANTIZE"])
"""What these give lay in another site or in the file already."""


@dataclass
class _Reached:
    magnitude: float = -1.0
    input: str = ""
    non_finite: int = 0
    saturated: int = 0


class SiteWatch:
    """Sites of one subgraph under one profile; `during` one input, then the next, then `sites`."""

    def __init__(self, subgraph: Subgraph, profile: Profile, steps: Sequence[Step]) -> None:
        """`steps` are the emulator's: what is computed by itself, and what it then reads and writes."""
        self._subgraph, self._profile = subgraph, profile
        self._steps = {step.op.index: step for step in steps}
        self._reached: dict[tuple[int, Part], _Reached] = {}
        self._formats: dict[tuple[int, Part], Held] = {}

    def during(self, name: str, inputs: Mapping[int, NDArray[Any]]) -> Callable[[Operator], Observer]:
        """A watch for `Emulator.run` on the input `name`, whose arrays are by tensor."""
        spoilt = {index for index, array in inputs.items() if not self._enters(index, array, name)}
        return lambda op: self._observer(self._steps[op.index], name, spoilt)

    def _enters(self, index: int, array: NDArray[Any], name: str) -> bool:
        """An input of the graph, as it is converted; whether all of it is finite."""
        if array.dtype != np.float32:
            return True
        return self._see((-1 - index, "result"), held_input(self._profile), name, rounded(array, self._profile.inputs))

    def _observer(self, step: Step, name: str, spoilt: set[int]) -> Observer:
        """Sees one operator's parts; `spoilt` are tensors that hold something not finite, in this run."""
        clean = spoilt.isdisjoint(step.reads)

        def observe(part: Part, values: Single) -> None:
            nonlocal clean
            if step.op.name in _UNCOMPUTED:
                clean = clean and bool(np.isfinite(values).all())
                finite = clean
            elif clean:
                finite = clean = self._see((step.op.index, part), self._format(step, part), name, values)
            else:
                finite = self._pass_over((step.op.index, part), self._format(step, part), name, values)
            if part == "result" and not finite:
                spoilt.add(step.writes)

        return observe

    def sites(self) -> tuple[Site, ...]:
        """Every site in execution order, its parts in the order in which they are passed through."""
        order = {key: position for position, key in enumerate(self._reached)}
        return tuple(self._site(*key) for key in sorted(self._reached, key=lambda key: (key[0], order[key])))

    def _site(self, index: int, part: Part) -> Site:
        reached = self._reached[index, part]
        op = self._subgraph.operators[index] if index >= 0 else None
        tensor = self._subgraph.tensors[op.outputs[0] if op else -1 - index].name
        return Site(
            operator=op.index if op else None,
            name=op.name if op else "INPUT",
            tensor=tensor,
            module=module_path(tensor) if op else None,
            part=part,
            largest_finite=self._formats[index, part].largest,
            magnitude=reached.magnitude,
            headroom=headroom(self._formats[index, part].largest, reached.magnitude),
            input=reached.input,
            non_finite=reached.non_finite,
            saturated=reached.saturated,
        )

    def _format(self, step: Step, part: Part) -> Held:
        key = (step.op.index, part)
        if key not in self._formats:
            kind = step.op.name if step.norm is None else LAYER_NORM
            self._formats[key] = SINGLE if step.inside else held(self._profile, kind, part)
        return self._formats[key]

    def _see(self, key: tuple[int, Part], how: Held, name: str, values: Single) -> bool:
        """What this site made of finite operands; whether all of it is finite."""
        self._formats[key] = how
        reached = self._reached.setdefault(key, _Reached())
        magnitude = _magnitude(values)
        finite = math.isfinite(magnitude)
        if not finite:
            magnitude = math.inf
            reached.non_finite += int(np.count_nonzero(~np.isfinite(values)))
        elif how.saturates and magnitude == how.largest:
            reached.saturated += int(np.count_nonzero(np.abs(values) == np.float32(how.largest)))
        if magnitude > reached.magnitude:
            reached.magnitude, reached.input = magnitude, name
        return finite

    def _pass_over(self, key: tuple[int, Part], how: Held, name: str, values: Single) -> bool:
        """What this site made of operands that were not finite: of that only the finite part is its own."""
        fine = np.isfinite(values)
        self._formats[key] = how
        reached = self._reached.setdefault(key, _Reached())
        magnitude = _magnitude(values[fine])
        if magnitude > reached.magnitude:
            reached.magnitude, reached.input = magnitude, name
        return bool(fine.all())


def _magnitude(values: Single) -> float:
    """Largest magnitude, NaN where there is one: NumPy's extremes pass it on."""
    if values.size == 0:
        return 0.0
    return float(np.maximum(np.max(values), -np.min(values)))
