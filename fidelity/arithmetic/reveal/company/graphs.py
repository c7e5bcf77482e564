"""The experiments in company, as data: graphs of a few operations with one result, and who answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.reveal.experiment import NotTold, Refusal, Result

Single = NDArray[np.float32]


@dataclass(frozen=True)
class Node:
    """One operation: it reads tensors by number, the graph's inputs first and then the nodes' results,
    and after them constants. MEAN is over the last axis and keeps it; CONV_2D has kernels of 1 x 1."""

    kind: str
    reads: tuple[int, ...]
    constants: tuple[Single, ...] = ()


@dataclass(frozen=True)
class Company:
    """A graph whose only output is its last node's result. `wide`: run in float32 precision."""

    inputs: tuple[Single, ...]
    nodes: tuple[Node, ...]
    wide: bool = False

    @property
    def name(self) -> str:
        """The operations in their order: what a device takes or refuses as one."""
        return " ".join(node.kind for node in self.nodes) + (" in float32" if self.wide else "")

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of all tensors by number."""
        found: list[tuple[int, ...]] = [x.shape for x in self.inputs]
        for node in self.nodes:
            first = found[node.reads[0]]
            last = {"MEAN": 1}.get(node.kind, first[-1])
            if node.kind in ("FULLY_CONNECTED", "CONV_2D"):
                last = node.constants[0].shape[0]
            found.append((*first[:-1], last))
        return found


class CompanyLaboratory(Protocol):
    """A device on which graphs of several operations can be run."""

    def run(self, graphs: Sequence[Company]) -> list[Result]:
        """One result for each graph, in order: its output, or why there is none. Never raises for a device."""
        ...


def chain(x: Single, steps: Sequence[tuple[str, tuple[Single, ...]]]) -> Company:
    """Operations one behind the other, each with its constants."""
    return Company((x,), tuple(Node(kind, (place,), constants) for place, (kind, constants) in enumerate(steps)))


def norm(x: Single, eps: float, *, wide: bool = False, read: bool = False) -> Company:
    """A LayerNorm of seven operations; `read`: an addition of zeros, a second input, alone reads its result."""
    shift = np.array(eps, np.float32)
    seven = (
        Node("MEAN", (0,)),
        Node("SUB", (0, 1)),
        Node("MUL", (2, 2)),
        Node("MEAN", (3,)),
        Node("ADD", (4,), (shift,)),
        Node("RSQRT", (5,)),
        Node("MUL", (2, 6)),
    )
    return _read(Company((x,), seven, wide)) if read else Company((x,), seven, wide)


def softmax(x: Single, *, wide: bool = False, read: bool = False) -> Company:
    """A softmax over the last axis; `read` as in `norm`."""
    alone = Company((x,), (Node("SOFTMAX", (0,)),), wide)
    return _read(alone) if read else alone


def _read(graph: Company) -> Company:
    """With zeros, as a second input, added to the result."""
    moved = [Node(node.kind, tuple(each + (each > 0) for each in node.reads), node.constants) for node in graph.nodes]
    last = Node("ADD", (len(moved) + 1, 1))
    return replace(graph, inputs=(*graph.inputs, np.zeros(graph.shapes[-1], np.float32)), nodes=(*moved, last))


def numbers(laboratory: CompanyLaboratory, graphs: Sequence[Company]) -> list[Single]:
    """The results of all graphs. Raises NotTold where one is refused, or is not float32 of its shape."""
    results = laboratory.run(graphs) if graphs else []
    if len(results) != len(graphs):
        raise NotTold(f"{len(graphs)} graphs, {len(results)} answers")
    found = []
    for graph, result in zip(graphs, results, strict=True):
        if isinstance(result, Refusal):
            raise NotTold(f"{graph.name}: {result.reason}")
        if result.dtype != np.float32 or result.shape != graph.shapes[-1]:
            raise NotTold(f"{graph.name}: the answer is {result.dtype} {list(result.shape)}")
        found.append(result)
    return found
