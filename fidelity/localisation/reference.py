"""What a graph should give, in PyTorch: its outputs, and the value of every tensor on the way where that is known."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fidelity.localisation.counterparts import Counterparts, Matcher, Node

if TYPE_CHECKING:
    from torch import nn

    from fidelity.tflite.structure import Graph, Tensor

Array = NDArray[Any]
_STORED = ("float32", "float16")


@dataclass(frozen=True)
class Reference:
    """`outputs` by the signature's names, float64. `tower`: the rewritten model in float32 that was converted,
    None where only the outputs are known (a golden)."""

    name: str
    outputs: Mapping[str, Array]
    tower: nn.Module | None = None


@dataclass(frozen=True)
class Matched:
    """A graph beside PyTorch: the nodes of each tensor's value, and constants that are no weight of the model.

    `strangers` are constants of more than one element whose bits, in float32 or rounded once to float16, are
    neither a weight nor anything that PyTorch computes from weights alone.
    """

    counterparts: Counterparts
    strangers: tuple[int, ...]
    names: Mapping[int, str] = field(default_factory=dict)


def matched(graph: Graph, values: Mapping[int, Array], tower: nn.Module, inputs: Mapping[str, Array]) -> Matched:
    """The tensors of a graph and PyTorch's values, by the graph's own `values` in float32, constants apart.

    The model's weights are rounded to float16 where the artefact stores them so: what then differs is the
    conversion's. Raises whatever torch.export does for a model that it cannot trace.
    """
    from fidelity.localisation.torch_nodes import visit_nodes  # noqa: PLC0415 - torch is an extra

    constants = [t for t in graph.main.tensors if t.is_constant and t.dtype in _STORED and t.elements > 1]
    by_bits = _by_bits(graph, constants)
    explained: set[int] = set()
    names: dict[int, str] = {}
    halved = set()
    for name, parameter in tower.named_parameters():
        for dtype in _STORED:
            for index in by_bits.get(_digest(parameter.detach().numpy().astype(dtype)), ()):
                explained.add(index)
                names[index] = name
                if dtype == "float16":
                    halved.add(name)
    matcher = Matcher(values)

    def see(node: Node) -> None:
        matcher.see(node)
        if not node.live and node.value.size > 1:
            for dtype in _STORED:
                explained.update(by_bits.get(_digest(node.value.astype(dtype)), ()))

    visit_nodes(tower, inputs, tuple(name for name, _ in graph.signature().outputs), frozenset(halved), see)
    strangers = tuple(each.index for each in constants if each.index not in explained)
    return Matched(matcher.result, strangers, names)


def _by_bits(graph: Graph, constants: list[Tensor]) -> dict[bytes, list[int]]:
    """Constants by the hash of their bits, in every order of their axes: a converter transposes weights."""
    found: dict[bytes, list[int]] = {}
    for tensor in constants:
        value = graph.constant(tensor).squeeze()
        for order in itertools.permutations(range(value.ndim)):
            found.setdefault(_digest(value.transpose(order)), []).append(tensor.index)
    return found


def _digest(array: Array) -> bytes:
    squeezed = np.ascontiguousarray(array)
    return hashlib.sha256(str(squeezed.dtype).encode() + squeezed.tobytes()).digest()
