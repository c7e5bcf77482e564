"""Every value that PyTorch computes on the way of a converted model, in float64, and what each comes from.

The model is traced as the converter traces it, so its nodes are those that the graph was made of.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fidelity.localisation.counterparts import Node
from fidelity.tflite.export_program import NamedIO


def visit_nodes(
    tower: nn.Module,
    inputs: Mapping[str, NDArray[Any]],
    outputs: tuple[str, ...],
    halved: frozenset[str],
    visit: Callable[[Node], None],
) -> None:
    """Calls `visit` with every floating-point value, in execution order: weights, constants and activations.

    `halved` are weights that are rounded to float16 first, as an artefact stores them.
    """
    given = {name: torch.from_numpy(array).double() for name, array in inputs.items()}
    module = _exported(tower, given, outputs)
    with torch.no_grad():
        mine = dict(module.named_parameters())
        for name, parameter in tower.named_parameters():
            kept = mine.get(f"{_INNER}{name}")  # None for one that the image tower does not use
            if kept is not None:  # new memory: what was shown of another visit keeps its values
                kept.data = (parameter.half() if name in halved else parameter).double()
        _Visitor(module, outputs, visit).run(*given.values())


_INNER = "module."
"""What NamedIO puts before the names of a tower's parameters."""

_PROGRAMS: WeakKeyDictionary[nn.Module, dict[Any, nn.Module]] = WeakKeyDictionary()
"""The last program of each tower, in float64: exporting takes longer than all of its runs. It ends with the tower."""


def _exported(tower: nn.Module, given: Mapping[str, torch.Tensor], outputs: tuple[str, ...]) -> nn.Module:
    """The tower as the converter traces it, in float64; its parameters may be those of another call."""
    key = (tuple((name, tuple(tensor.shape)) for name, tensor in given.items()), outputs)
    programs = _PROGRAMS.setdefault(tower, {})
    if key not in programs:
        programs.clear()
        named = NamedIO(copy.deepcopy(tower).double(), tuple(given), outputs).eval()
        with torch.no_grad():
            programs[key] = torch.export.export(named, (), dict(given), strict=False).run_decompositions().module()
    return programs[key]


class _Visitor(torch.fx.Interpreter):
    def __init__(self, module: Any, outputs: tuple[str, ...], visit: Callable[[Node], None]) -> None:
        super().__init__(module)
        self._visit = visit
        (given,) = module.graph.output_node().args
        self._outputs = list(zip(outputs, given, strict=True))
        self._ancestors: dict[Any, int] = {}
        self._live: set[Any] = set()

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run the node, and show what it gives."""
        value = super().run_node(n)
        index = len(self._ancestors)
        reads = n.all_input_nodes
        self._ancestors[n] = (1 << index) | _union(self._ancestors[each] for each in reads)
        if n.op == "placeholder" or not self._live.isdisjoint(reads):
            self._live.add(n)
        if n.op != "output" and isinstance(value, torch.Tensor) and value.is_floating_point():
            array = np.ascontiguousarray(value.detach().double().numpy())
            outputs = tuple(name for name, given in self._outputs if given is n)
            self._visit(Node(index, n.name, array, self._ancestors[n], n in self._live, outputs))
        return value


def _union(sets: Any) -> int:
    found = 0
    for each in sets:
        found |= each
    return found
