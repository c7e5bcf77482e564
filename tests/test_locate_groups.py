"""Operators that a device computes together: what they are told by, what is cut out with them, and which is to blame.

Under the measured profile a product takes in what is multiplied before and added behind it, and a sum what it adds up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_locate import GOOD, MEASURED, X, cpu, device, graph_of, halved, negated, network, shifted
from test_tflite_builder import GraphBuilder
from test_tflite_emulation import options

from fidelity.localisation.asked import Answer, Where
from fidelity.localisation.groups import sources, with_static
from fidelity.localisation.locate import locate
from fidelity.localisation.taps import tappable
from fidelity.tflite.edit import borders
from fidelity.tflite.structure import Graph

ROWS, WIDTH = X.shape


def merging() -> bytes:
    """y = gelu(W (m x') + c) + x' with x' = |x|: MUL, FULLY_CONNECTED and ADD are computed together, W behind a
    DEQUANTIZE."""
    draw = np.random.Generator(np.random.Philox(7))
    graph = GraphBuilder()
    for name in ("x", "abs", "scaled", "product", "shifted", "gelu", "y"):
        graph.tensor(name, (ROWS, WIDTH))
    graph.constant("m", draw.uniform(0.5, 1.5, WIDTH))
    graph.constant("c", draw.standard_normal(WIDTH))
    graph.constant("w16", draw.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH), "float16")
    graph.op("DEQUANTIZE", ["w16"], graph.tensor("w", (WIDTH, WIDTH)), options("Dequantize"))
    graph.op("ABS", ["x"], "abs", options("Abs"))
    graph.op("MUL", ["abs", "m"], "scaled", options("Mul"))
    graph.op("FULLY_CONNECTED", ["scaled", "w", ""], "product", options("FullyConnected", keepNumDims=True))
    graph.op("ADD", ["product", "c"], "shifted", options("Add"))
    graph.op("GELU", ["shifted"], "gelu", options("Gelu"))
    graph.op("ADD", ["gelu", "abs"], "y", options("Add"))
    return graph.build(["x"], ["y"])


def summing() -> bytes:
    """exp(sum(x + x^2)): the ADD is computed within the SUM, in float32, and the SUM with the EXP behind it."""
    graph = GraphBuilder()
    for name in ("x", "square", "both"):
        graph.tensor(name, (ROWS, WIDTH))
    graph.constant("last", [1], "int32")
    graph.op("MUL", ["x", "x"], "square", options("Mul"))
    graph.op("ADD", ["x", "square"], "both", options("Add"))
    graph.op("SUM", ["both", "last"], graph.tensor("sum", (ROWS, 1)), options("Reducer", keepDims=True))
    graph.op("ABS", ["sum"], graph.tensor("abs", (ROWS, 1)), options("Abs"))
    graph.op("SQRT", ["abs"], graph.tensor("y", (ROWS, 1)))
    return graph.build(["x"], ["y"])


def names(graph: Graph, tensors: object) -> set[str]:
    assert isinstance(tensors, set | tuple | list)
    return {graph.main.tensors[index].name for index in tensors}


def index(graph: Graph, name: str) -> int:
    return next(tensor.index for tensor in graph.main.tensors if tensor.name == name)


def test_what_a_product_takes_in_is_told_by_what_it_writes_in_the_end(tmp_path: Path) -> None:
    graph = graph_of(merging(), tmp_path)
    shown = tappable(graph, MEASURED)
    assert names(graph, shown) == {"abs", "shifted", "gelu"}
    came_from, members = sources(graph, index(graph, "shifted"), shown)
    assert names(graph, came_from) == {"abs"}
    assert [graph.main.operators[op].name for op in members] == ["MUL", "FULLY_CONNECTED", "ADD"]
    came_from, members = sources(graph, index(graph, "y"), shown)
    assert names(graph, came_from) == {"abs", "gelu"}
    assert [graph.main.operators[op].name for op in members] == ["ADD"]


def test_without_a_profile_every_operator_is_told_by_itself(tmp_path: Path) -> None:
    graph = graph_of(merging(), tmp_path)
    shown = tappable(graph)
    assert names(graph, shown) == {"abs", "scaled", "product", "shifted", "gelu"}
    for op in graph.main.operators[1:]:
        assert sources(graph, op.outputs[0], shown)[1] == (op.index,)


def test_what_a_sum_takes_in_is_told_by_the_sum(tmp_path: Path) -> None:
    graph = graph_of(summing(), tmp_path)
    shown = tappable(graph, MEASURED)
    assert "both" not in names(graph, shown)
    written = next(op.outputs[0] for op in graph.main.operators if op.outputs[0] in shown and op.index > 1)
    came_from, members = sources(graph, written, shown)
    assert names(graph, came_from) == {"x", "square"}
    assert [graph.main.operators[op].name for op in members][:2] == ["ADD", "SUM"]


def test_sources_go_back_to_the_inputs_where_nothing_is_shown(tmp_path: Path) -> None:
    graph = graph_of(merging(), tmp_path)
    came_from, members = sources(graph, index(graph, "y"), set())
    assert names(graph, came_from) == {"x"}
    assert members == tuple(range(1, 7))  # the DEQUANTIZE of weights is nobody's at run time


def test_constants_are_cut_out_with_what_reads_them(tmp_path: Path) -> None:
    graph = graph_of(merging(), tmp_path)
    assert with_static(graph, [3]) == (0, 3)
    assert with_static(graph, [2, 3, 4]) == (0, 2, 3, 4)
    assert with_static(graph, [1]) == (1,)
    inputs, outputs = borders(graph.main, with_static(graph, [2, 3, 4]))
    assert (names(graph, inputs), names(graph, outputs)) == ({"abs"}, {"shifted"})


def test_constants_of_constants_are_cut_out_too(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (WIDTH, WIDTH))
    graph.constant("w16", np.ones((WIDTH, WIDTH)), "float16")
    graph.op("DEQUANTIZE", ["w16"], graph.tensor("w", (WIDTH, WIDTH)), options("Dequantize"))
    graph.op("MUL", ["w", "w"], graph.tensor("ww", (WIDTH, WIDTH)), options("Mul"))
    graph.op("ADD", ["x", "x"], graph.tensor("xx", (WIDTH, WIDTH)), options("Add"))
    graph.op("MUL", ["xx", "ww"], graph.tensor("y", (WIDTH, WIDTH)), options("Mul"))
    assert with_static(graph_of(graph.build(["x"], ["y"]), tmp_path), [3]) == (0, 1, 3)


def answered(model: bytes, folder: Path, tensor: str, spoil: object, smallest: int = 1) -> tuple[Graph, Answer]:
    """Locate on a device that spoils one tensor's operator in graphs of at least that many operators, where each of
    them is computed by itself; the profile is the measured one all the same."""
    graph = graph_of(model, folder)
    assert callable(spoil)
    run = device(folder, tensor=tensor, spoil=spoil, when=lambda model: len(model.main.operators) >= smallest)
    return graph, locate(graph, {"x": X}, Where("a device", run, cpu(folder), profile_of=lambda _: MEASURED), GOOD)


@pytest.mark.parametrize("spoil", [halved, negated, shifted])
def test_a_group_that_is_wrong_alone_is_a_kernel_and_its_first_wrong_operator_is_named(
    tmp_path: Path, spoil: object
) -> None:
    """The product, which the device computes with a MUL before and an ADD behind it, is the emulator's one step."""
    graph, answer = answered(merging(), tmp_path, "product", spoil)
    found = answer.located
    assert found.kind == "kernel"
    assert found.culprit is not None
    assert found.culprit.members == (2, 3, 4)
    assert found.culprit.tensor == index(graph, "shifted")
    assert (found.culprit.operator, answer.operators) == (3, (3,))
    assert found.culprit.name == "FULLY_CONNECTED"
    assert "computed together with 2 more" in found.evidence[0]
    assert "op 2 MUL to op 4 ADD alone, on right inputs: error" in found.evidence[1]
    assert "op 3 FULLY_CONNECTED alone, on right inputs: error" in found.evidence[2]


@pytest.mark.parametrize("tensor", ["square", "sum", "abs"])
def test_an_operator_before_and_behind_a_group_is_not_blamed_on_it(tmp_path: Path, tensor: str) -> None:
    graph, answer = answered(summing(), tmp_path, tensor, halved)
    assert answer.located.kind == "kernel"
    assert [graph.main.tensors[graph.main.operators[op].outputs[0]].name for op in answer.operators] == [tensor]


@pytest.mark.parametrize("tensor", ["product0", "product1", "product3"])
def test_a_group_that_is_wrong_only_in_a_larger_graph_is_searched_in_it(tmp_path: Path, tensor: str) -> None:
    """Wrong in graphs of more than three operators: right alone, so it is where it stands, and one operator of it."""
    graph, answer = answered(network(), tmp_path, tensor, shifted, smallest=4)
    found = answer.located
    assert found.kind == "layout-or-fusion"
    assert found.culprit is not None
    assert [graph.main.tensors[graph.main.operators[op].outputs[0]].name for op in answer.operators] == [tensor]


def test_a_group_of_several_that_is_right_alone_names_the_one_up_to_which_the_graph_is_wrong(tmp_path: Path) -> None:
    """Of DEQUANTIZE, ABS, MUL, FULLY_CONNECTED and ADD: the group alone has four, the graph up to the product four
    too, so the fault is shown in what has the ABS."""
    folder = tmp_path
    graph = graph_of(merging(), folder)
    run = device(
        folder, tensor="product", spoil=negated, when=lambda model: "ABS" in {o.name for o in model.main.operators}
    )
    answer = locate(graph, {"x": X}, Where("a device", run, cpu(folder), profile_of=lambda _: MEASURED), GOOD)
    found = answer.located
    assert found.kind == "layout-or-fusion"
    assert answer.operators == (3,)
    assert found.culprit is not None
    assert (found.culprit.operator, found.culprit.name, found.culprit.members) == (3, "FULLY_CONNECTED", (2, 3, 4))
    assert "the graph up to op 3 FULLY_CONNECTED is wrong, and right before" in found.evidence
