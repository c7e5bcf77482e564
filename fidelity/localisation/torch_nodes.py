"""Every value that PyTorch computes on the way of a converted model, in float64, and what each comes from.

The model is traced as the converter traces it, so its nodes are those that the graph was made of.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidelity.localisation.counterparts import Node
from fidelity.tflite.export_program import NamedIO

if TYPE_CHECKING:
    from torch import nn


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
    model = copy.deepcopy(tower).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in halved:
                parameter.copy_(parameter.half().float())
    given = {name: torch.from_numpy(array).double() for name, array in inputs.items()}
    named = NamedIO(model.double(), tuple(inputs), outputs).eval()
    with torch.no_grad():
        program = torch.export.export(named, (), given, strict=False).run_decompositions()
        _Visitor(program.module(), outputs, visit).run(*given.values())


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
