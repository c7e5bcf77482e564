"""The audit's rule on squares summed without a scale: LayerNorm's variance, and its near misses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from test_tflite_audit import Found, audited, told
from test_tflite_builder import GraphBuilder

Scaling = Callable[[GraphBuilder], str]


def unscaled(_: GraphBuilder) -> str:
    return "x"


def by_constant(value: Any, op: str = "MUL") -> Scaling:
    def add(graph: GraphBuilder) -> str:
        graph.constant("scale", value)
        graph.tensor("scaled", (4, 768))
        graph.op(op, ["x", "scale"], "scaled")
        return "scaled"

    return add


def undone(graph: GraphBuilder) -> str:
    """Scaled by 1/32 and back before anything is squared."""
    by_constant(1 / 32)(graph)
    graph.constant("back", 32.0)
    graph.tensor("same", (4, 768))
    graph.op("MUL", ["scaled", "back"], "same")
    return "same"


def by_row(reduction: str) -> Scaling:
    """Divided by a reduction of the row's magnitudes, as row_layernorm is."""

    def add(graph: GraphBuilder) -> str:
        graph.constant("last", [1], "int32")
        graph.constant("least", 0.0625)
        for name, shape in (("abs", (4, 768)), ("amax", (4, 1)), ("clamped", (4, 1)), ("scaled", (4, 768))):
            graph.tensor(name, shape)
        keep = schema.ReducerOptionsT()
        keep.keepDims = True
        graph.op("ABS", ["x"], "abs")
        graph.op(reduction, ["abs", "last"], "amax", keep)
        graph.op("MAXIMUM", ["amax", "least"], "clamped")
        graph.op("DIV", ["x", "clamped"], "scaled")
        return "scaled"

    return add


def variance(scaling: Scaling, square: str = "MUL", reduction: str = "MEAN", *, centred: bool = True) -> bytes:
    """The variance of rows of 768, as litert-torch lowers it, after some scaling of the rows."""
    graph = GraphBuilder()
    graph.tensor("x", (4, 768))
    row = scaling(graph)
    graph.constant("axis", [1], "int32")
    for name, shape in (("mean", (4, 1)), ("centre", (4, 768)), ("squares", (4, 768)), ("y", (4, 1))):
        graph.tensor(name, shape)
    keep = schema.ReducerOptionsT()
    keep.keepDims = True
    graph.op("MEAN", [row, "axis"], "mean", keep)
    if square == "SQUARED_DIFFERENCE":
        graph.op(square, [row, "mean"], "squares")
    else:
        graph.op("SUB" if centred else "ADD", [row, "mean"], "centre")
        graph.op(square, ["centre"] * (2 if square == "MUL" else 1), "squares")
    graph.op(reduction, ["squares", "axis"], "y", keep)
    return graph.build(["x"], ["y"])


WARNED = {("unscaled_variance", "warning", "safe_layernorm")}
PER_CHANNEL = np.full(768, 0.03)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (variance(unscaled), WARNED),
        (variance(unscaled, "SQUARE"), WARNED),
        (variance(unscaled, "SQUARED_DIFFERENCE"), WARNED),
        (variance(unscaled, "SQUARED_DIFFERENCE", "SUM"), WARNED),
        (variance(unscaled, "MUL", "SUM", centred=False), {("unscaled_sum_of_squares", "warning", None)}),
        (variance(by_constant(1 / 32)), set()),
        (variance(by_constant(1 / 32), "SQUARED_DIFFERENCE"), set()),
        (variance(by_constant(32.0, "DIV")), set()),
        (variance(by_constant(PER_CHANNEL)), set()),
        (variance(by_constant(np.where(np.arange(768) == 700, 1.0, PER_CHANNEL))), WARNED),
        (variance(by_constant(32.0)), WARNED),
        (variance(by_constant(1 / 32, "DIV")), WARNED),
        (variance(by_constant(float("nan"))), WARNED),
        (variance(undone), WARNED),
        (variance(by_row("REDUCE_MAX")), set()),
        (variance(by_row("REDUCE_MIN")), WARNED),
    ],
)
def test_squares_summed_without_a_scale(data: bytes, expected: set[Found], tmp_path: Path) -> None:
    report = audited(tmp_path, data)
    assert told(report) == expected
    assert report.passed


def test_the_root_mean_square_that_overflows_is_told(tmp_path: Path) -> None:
    """sqrt(65504 / 768) = 9.2355: where a running fp16 sum of 768 equal squares reaches 65,504."""
    (finding,) = audited(tmp_path, variance(unscaled)).findings
    assert finding.reason.startswith("768 squares")
    assert finding.reason.endswith(f"root mean square of {(65504 / 768) ** 0.5:.3g}")
    assert (finding.operator_name, finding.tensor_name) == ("MEAN", "squares")
