"""The map of the graph: what is certain is marked where it is, what is not is told as such, nothing is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_report_example_parts import CENSUS, operators, written
from test_report_examples import EXAMPLES, PLANS, RESIDENT, assemble, good_run
from test_report_html import root_of
from test_report_page_reader import Node, read_page
from tiny_models import refused

from fidelity.devices.job import Refusal, Residency
from fidelity.report.document import GraphOperator, tensor_digest
from fidelity.report.graph_operators import graph_operators
from fidelity.report.html import html
from fidelity.report.residency_map import STATES, ResidencyMap, residency_map, residency_maps
from fidelity.tflite.graph import read_graph

NODES = sum(CENSUS.values())


def section(name: str) -> Node:
    (found,) = root_of(name).find("section", id="residency")
    return found


def mapped(
    *refusals: Refusal, on_device: int = 10, total: int = NODES, graph: tuple[GraphOperator, ...] | None = None
) -> ResidencyMap:
    """The map of the example's graph under these refusals."""
    told = Residency(nodes_on_device=on_device, nodes_total=total, partitions=1, refusals=refusals, source="the log")
    return residency_map(good_run(PLANS[2]), told, operators() if graph is None else graph)


def states(found: ResidencyMap) -> list[str]:
    """The state of every operator, in order."""
    return [s.state for row in found.rows for s in row.stretches for _ in range(s.operators)]


def test_every_operator_is_there_once_in_order() -> None:
    found = mapped()
    assert len(states(found)) == NODES
    assert [row.block for row in found.rows] == [*(f"EvaBlock_{block}" for block in range(12)), "(no module)"]
    assert [row.first for row in found.rows][:2] == [0, 69]
    assert found.widest == 69


def test_a_refusal_by_tensor_is_marked_where_it_is_and_nowhere_else() -> None:
    place = next(i for i, op in enumerate(operators()) if op.kind == "TRANSPOSE" and i > 100)
    found = mapped(Refusal(op="TRANSPOSE", reason="rank", tensor=written(place), count=2))
    assert [i for i, state in enumerate(states(found)) if state == "refused"] == [place]
    assert set(states(found)) == {"refused", "beside"}
    assert (found.refused[0].named, found.refused[0].doubtful, found.refused[0].count) == ((place,), (), 2)


@pytest.mark.parametrize("tensor", [None, "another/graph;7"])
def test_a_refusal_without_a_tensor_of_the_graph_leaves_its_kind_in_doubt(tensor: str | None) -> None:
    found = mapped(Refusal(op="BATCH_MATMUL", reason="no", tensor=tensor))
    kinds = [op.kind for op in operators()]
    assert [state == "doubtful" for state in states(found)] == [kind == "BATCH_MATMUL" for kind in kinds]
    assert len(found.refused[0].doubtful) == CENSUS["BATCH_MATMUL"]


def test_what_is_named_is_certain_among_what_is_in_doubt() -> None:
    place = next(i for i, op in enumerate(operators()) if op.kind == "BATCH_MATMUL")
    refusals = [Refusal(op="BATCH_MATMUL", reason="no", tensor=tensor) for tensor in (written(place), None)]
    for order in (refusals, refusals[::-1]):
        found = mapped(*order)
        assert states(found).count("refused") == 1
        assert states(found)[place] == "refused"
        assert states(found).count("doubtful") == CENSUS["BATCH_MATMUL"] - 1
        assert len(found.refused) == 1


@pytest.mark.parametrize(
    ("on_device", "total", "state"),
    [(NODES, NODES, "taken"), (0, NODES, "left"), (NODES - 1, NODES, "beside"), (NODES + 1, NODES + 1, "beside")],
)
def test_of_the_rest_no_more_is_told_than_is_known(on_device: int, total: int, state: str) -> None:
    assert set(states(mapped(on_device=on_device, total=total))) == {state}


def test_a_file_is_read_into_operators_that_a_log_can_be_held_against(tmp_path: Path) -> None:
    path = tmp_path / "refused.tflite"
    path.write_bytes(refused())
    graph = graph_operators(read_graph(path))
    assert [(op.kind, op.reads) for op in graph] == [("ADD", ()), ("RESHAPE", (0,)), ("RESHAPE", (1,))]
    assert graph[1].tensor == tensor_digest("model/five;1")
    refusal = Refusal(op="RESHAPE", reason="Tensor dimensions must be less than 5.", tensor="model/five;1", count=2)
    found = mapped(refusal, on_device=1, total=3, graph=graph)
    assert found.refused[0].named == (1, 2)  # one writes it, the other reads it
    assert [row.block for row in found.rows] == ["(no module)"]


def test_a_run_on_the_cpu_has_no_map() -> None:
    """A CPU reports every node as its own, which says nothing of a delegate."""
    runs = (good_run(replace(PLANS[0], residency=RESIDENT)), good_run(PLANS[2]))
    assert [found.run.label for found in residency_maps(assemble(runs))] == ["gpu fp16"]


def test_the_page_shows_the_map() -> None:
    shown = section("refused")
    (strips,) = shown.find("ol", class_="graph")
    rows = strips.find("li")
    (found,) = residency_maps(EXAMPLES["refused"]())
    assert [row.find("span", class_="strip")[0].attributes["aria-label"] for row in rows] == [
        r.told for r in found.rows
    ]
    cells = [cell for row in rows for cell in row.find("i")]
    grown = dict.fromkeys(STATES, 0)
    for cell in cells:
        grown[cell.attributes["class"]] += int(cell.attributes["style"].removeprefix("flex-grow: "))  # type: ignore[index]
    assert {state: count for state, count in grown.items() if count} == {
        state: states(found).count(state) for state in found.states
    }
    assert "the file has no operator of this kind" in shown.text()  # GATHER
    assert "by the tensor: op 3, " in shown.text()


def test_a_resident_run_has_its_map_closed_and_a_report_without_operators_says_so() -> None:
    (details,) = section("passing").find("details")[:1]
    assert "open" not in details.attributes
    assert {cell.attributes["class"] for cell in details.find("i")} == {"taken"}
    report = EXAMPLES["refused"]()
    old = report.model_copy(
        update={"artefacts": tuple(each.model_copy(update={"operators": ()}) for each in report.artefacts)}
    )
    (shown,) = read_page(html(old)).find("section", id="residency")
    assert "nothing is known of where they are" in shown.text()
    assert shown.find("ol") == []
