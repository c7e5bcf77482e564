"""Edited files: taps, prefixes and cuts compute what the whole graph computes there, on the runtime's own CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator
from hypothesis import given
from hypothesis import strategies as st

from fidelity.errors import BadInput
from fidelity.tflite.edit import TAP, borders, cut, needed, prefix, with_taps
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Graph

sys.path.insert(0, str(Path(__file__).parent))
from test_tflite_builder import GraphBuilder, schema

WIDTH = 4
Arrays = dict[str, np.ndarray]


def branching() -> bytes:
    """x + c, its square and its scaled copy; their difference is one output, the square's neighbour another."""
    graph = GraphBuilder()
    for name in ("x", "moved", "squared", "scaled", "y", "z", "unused_input"):
        graph.tensor(name, (1, WIDTH))
    graph.constant("c", np.arange(WIDTH).reshape(1, WIDTH))
    graph.constant("s", np.full((1, WIDTH), 0.5))
    graph.op("ADD", ["x", "c"], "moved", schema.AddOptionsT())
    graph.op("MUL", ["moved", "moved"], "squared", schema.MulOptionsT())
    graph.op("MUL", ["moved", "s"], "scaled", schema.MulOptionsT())
    graph.op("SUB", ["squared", "scaled"], "y", schema.SubOptionsT())
    graph.op("ADD", ["squared", "unused_input"], "z", schema.AddOptionsT())
    return graph.build(["x", "unused_input"], ["y", "z"])


def values(x: np.ndarray, other: np.ndarray) -> Arrays:
    moved = x + np.arange(WIDTH, dtype=np.float32)
    squared, scaled = moved * moved, moved * np.float32(0.5)
    return {"moved": moved, "squared": squared, "scaled": scaled, "y": squared - scaled, "z": squared + other}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("edit") / "branching.tflite"
    path.write_bytes(branching())
    return read_graph(path)


def index_of(graph: Graph, name: str) -> int:
    (found,) = (tensor.index for tensor in graph.main.tensors if tensor.name == name)
    return found


def run(model: bytes, inputs: Arrays) -> Arrays:
    """Outputs by signature name, on the runtime's CPU."""
    compiled = CompiledModel.from_buffer(model, hardware_accel=HardwareAccelerator.CPU)
    key = next(iter(compiled.get_signature_list()))
    given = {name: compiled.create_input_buffer_by_name(key, name) for name in compiled.get_input_tensor_details(key)}
    details = compiled.get_output_tensor_details(key)
    got = {name: compiled.create_output_buffer_by_name(key, name) for name in details}
    assert set(given) == set(inputs)
    for name, buffer in given.items():
        buffer.write(np.ascontiguousarray(inputs[name]))
    compiled.run_by_name(key, given, got)
    return {
        name: np.asarray(buffer.read(int(np.prod(details[name]["shape"])), np.float32)).reshape(details[name]["shape"])
        for name, buffer in got.items()
    }


X = np.array([[1, -2, 3, 0.25]], dtype=np.float32)
OTHER = np.array([[8, 4, 2, 1]], dtype=np.float32)


def test_taps_show_what_is_computed_there_and_leave_the_outputs(graph: Graph) -> None:
    taps = [index_of(graph, name) for name in ("scaled", "moved", "scaled")]
    outputs = run(with_taps(graph, taps), {"x": X, "unused_input": OTHER})
    right = values(X, OTHER)
    assert list(outputs) == sorted(outputs, key=list(outputs).index)
    assert set(outputs) == {"y", "z", f"{TAP}{taps[0]}", f"{TAP}{taps[1]}"}
    for name, output in outputs.items():
        wanted = name if name in right else graph.main.tensors[int(name.removeprefix(TAP))].name
        np.testing.assert_array_equal(output, right[wanted])


@pytest.mark.parametrize("name", ["moved", "squared", "scaled", "y", "z"])
def test_a_prefix_needs_what_its_tensor_needs_and_no_more(graph: Graph, name: str, tmp_path: Path) -> None:
    model = prefix(graph, index_of(graph, name))
    path = tmp_path / "prefix.tflite"
    path.write_bytes(model)
    small = read_graph(path)
    assert len(small.main.operators) == len(needed(graph.main, [index_of(graph, name)]))
    inputs = {"x": X} | ({"unused_input": OTHER} if name == "z" else {})
    (output,) = run(model, inputs).values()
    np.testing.assert_array_equal(output, values(X, OTHER)[name])
    used = {i for op in small.main.operators for i in (*op.inputs, *op.outputs)}
    assert used == set(range(len(small.main.tensors)))


@given(st.sets(st.integers(0, 4), min_size=1))
def test_any_cut_computes_what_the_whole_graph_does_there(graph: Graph, operators: set[int]) -> None:
    right = {**values(X, OTHER), "x": X, "unused_input": OTHER}
    inputs, outputs = borders(graph.main, sorted(operators))
    named = {f"{TAP}{index}": right[graph.main.tensors[index].name] for index in inputs}
    found = run(cut(graph, operators), named)
    assert set(found) == {f"{TAP}{index}" for index in outputs}
    for name, output in found.items():
        np.testing.assert_array_equal(output, right[graph.main.tensors[int(name.removeprefix(TAP))].name])


@pytest.mark.parametrize("what", ["x", "c", "y"])
def test_what_no_operator_writes_or_is_an_output_is_no_tap(graph: Graph, what: str) -> None:
    with pytest.raises(BadInput, match="cannot be shown"):
        with_taps(graph, [index_of(graph, what)])


@pytest.mark.parametrize("operators", [set(), {5}, {-1}])
def test_a_cut_of_nothing_is_refused(graph: Graph, operators: set[int]) -> None:
    with pytest.raises(BadInput, match="operators"):
        cut(graph, operators)
    with pytest.raises(BadInput, match="no operator"):
        prefix(graph, index_of(graph, "x"))
