"""A small transformer in torch, the same by hand as a graph, and what is said of a file that should be the same.

The graph is built, not converted, so that what is right is known without the converter that is judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from test_tflite_builder import GraphBuilder
from test_tflite_emulation import options
from torch import nn

from fidelity.localisation.conversion import beside_pytorch, misconverted
from fidelity.localisation.emulations import parsed
from fidelity.localisation.on_device import Array
from fidelity.localisation.records import Traced
from fidelity.localisation.reference import Reference
from fidelity.tflite.structure import Graph

TOKENS, WIDTH, WIDER = 6, 8, 16
SHAPE = (1, TOKENS, WIDTH)
X = np.random.Generator(np.random.Philox(11)).standard_normal(SHAPE).astype(np.float32)


class Tiny(nn.Module):
    """A normalised input's attention and a network of two layers, each added to what it came from."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.gamma = nn.Parameter(torch.rand(WIDTH) + 0.5)
        self.q, self.k = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, WIDER), nn.Linear(WIDER, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        normed = centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5) * self.gamma
        shares = torch.softmax(self.q(normed) @ self.k(normed).mT, -1)
        stream = x + shares @ normed
        return stream - self.down(nn.functional.gelu(self.up(stream)))


def built(tower: Tiny, half: bool = False, scores: tuple[str, str] = ("q.out", "k.out"), merged: bool = False) -> bytes:
    """The graph of the tower, operator by operator; with `half`, the weights of `up` are float16 and dequantised.
    `scores` are the operands of the first product of matrices; `merged`: gamma is in the weights behind it."""
    graph = GraphBuilder()
    row, square = (1, TOKENS, 1), (1, TOKENS, TOKENS)
    graph.tensor("x", SHAPE)
    graph.constant("last", [2], "int32")
    graph.constant("eps", [1e-5])
    for name, parameter in tower.named_parameters():
        value = parameter.detach().numpy()
        value = value * tower.gamma.detach().numpy() if merged and name in ("q.weight", "k.weight") else value
        graph.constant(name, value, "float16" if half and name == "up.weight" else "float32")

    def op(kind: str, reads: list[str], writes: str, shape: tuple[int, ...] = SHAPE, table: str = "", **given: object):
        made = options(table or kind.capitalize(), **given) if table != "none" else None
        graph.op(kind, reads, graph.tensor(writes, shape), made)

    def linear(name: str, source: str, shape: tuple[int, ...] = SHAPE, weight: str = "") -> None:
        reads = [source, weight or f"{name}.weight", f"{name}.bias"]
        op("FULLY_CONNECTED", reads, f"{name}.out", shape, "FullyConnected", keepNumDims=True)

    op("MEAN", ["x", "last"], "mean", row, "Reducer", keepDims=True)
    op("SUB", ["x", "mean"], "centred")
    op("MUL", ["centred", "centred"], "squared")
    op("MEAN", ["squared", "last"], "variance", row, "Reducer", keepDims=True)
    op("ADD", ["variance", "eps"], "shifted", row)
    op("RSQRT", ["shifted"], "root", row, "none")
    op("MUL", ["centred", "root"], "unit")
    normed = "unit" if merged else "normed"
    if not merged:
        op("MUL", ["unit", "gamma"], "normed")
    linear("q", normed)
    linear("k", normed)
    op("BATCH_MATMUL", list(scores), "scores", square, "BatchMatMul", adjY=True)
    op("SOFTMAX", ["scores"], "shares", square, beta=1.0)
    op("BATCH_MATMUL", ["shares", normed], "raw" if merged else "mixed", SHAPE, "BatchMatMul")
    if merged:
        op("MUL", ["raw", "gamma"], "mixed")
    op("ADD", ["x", "mixed"], "stream")
    if half:
        op("DEQUANTIZE", ["up.weight"], "up.weight.32", (WIDER, WIDTH), "none")
    linear("up", "stream", (1, TOKENS, WIDER), "up.weight.32" if half else "")
    op("GELU", ["up.out"], "gelu", (1, TOKENS, WIDER))
    linear("down", "gelu")
    op("SUB", ["stream", "down.out"], "y")
    return graph.build(["x"], ["y"])


@dataclass(frozen=True)
class Judged:
    """What is said of one file: culprit, evidence, constants that are no weight, the first output in float32."""

    graph: Graph
    row: Traced | None
    evidence: tuple[str, ...]
    strangers: tuple[int, ...]
    output: Array

    @property
    def culprit(self) -> str | None:
        """The name of the tensor that the culprit writes."""
        return None if self.row is None else self.graph.main.tensors[self.row.tensor].name


def judge(model: bytes, tower: nn.Module, x: Array = X, outputs: tuple[str, ...] = ("y",)) -> Judged:
    graph = parsed(model)
    reference = Reference("tiny", dict.fromkeys(outputs, np.zeros(1)), tower)
    beside, values = beside_pytorch(graph, {"x": x}, reference)
    row, _, evidence = misconverted(graph, beside, values)
    return Judged(graph, row, evidence, beside.strangers, values[dict(graph.signature().outputs)[outputs[0]]])
