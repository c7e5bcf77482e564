"""Which operators `--show` means: as PyTorch names a module, as the trace does, or by index, kind and tensor."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from test_locate import graph_of
from test_tflite_builder import GraphBuilder
from test_tflite_emulation import options

from fidelity.cli import main
from fidelity.errors import BadInput
from fidelity.localisation.records import Traced
from fidelity.localisation.select import parse_selectors, selected
from fidelity.tflite.structure import Graph

ROWS = {
    # operator: kind, module, members
    3: ("MUL", "EvaBlock_1.norm1", (2, 3)),
    4: ("FULLY_CONNECTED", "EvaBlock_1.attn.q_proj", (4,)),
    5: ("SOFTMAX", "EvaBlock_1.attn", (5,)),
    6: ("ADD", "EvaBlock_1", (6,)),
    7: ("MUL", "EvaBlock_10.norm1", (7,)),
    8: ("FULLY_CONNECTED", "EvaBlock_10.mlp.Linear_0", (8,)),
    9: ("ADD", "EvaBlock_2.norm1 + norm_pre", (9,)),
    10: ("MUL", "head.conv_1", (10,)),
    11: ("SOFTMAX", None, (11,)),
}


def row(operator: int) -> Traced:
    name, module, members = ROWS[operator]
    return Traced.model_construct(operator=operator, name=name, module=module, members=members, tensor=operator)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """Twelve tensors, t0 to t11, each made from the one before it; t5 is called as a converter may call it."""
    builder = GraphBuilder()
    names = ["a/b.C_d;1" if place == 5 else f"t{place}" for place in range(12)]
    builder.tensor(names[0], (4,))
    for before, after in itertools.pairwise(names):
        builder.op("ABS", [before], builder.tensor(after, (4,)), options("Abs"))
    return graph_of(builder.build([names[0]], [names[-1]]), tmp_path)


def meant(graph: Graph, *texts: str) -> list[int]:
    return [each.operator for each in selected([row(each) for each in ROWS], graph, parse_selectors(texts))]


@pytest.mark.parametrize(
    ("text", "operators"),
    [
        ("blocks.1", [3, 4, 5, 6]),
        ("blocks.10", [7, 8]),
        ("blocks.1.attn", [4, 5]),
        ("blocks.1.attn.q_proj", [4]),
        ("blocks.1.norm1", [3]),
        ("layers.1.norm1", [3]),  # a list is told by its class alone, so any name of it is right
        ("EvaBlock_1", [3, 4, 5, 6]),
        ("EvaBlock_1.attn", [4, 5]),
        ("EvaBlock_10.mlp.Linear_0", [8]),
        ("blocks.10.mlp.0", [8]),
        ("blocks.10.mlp", [8]),
        ("norm_pre", [9]),
        ("blocks.2", [9]),
        ("head", [10]),
        ("head.conv_1", [10]),
        ("op:3", [3]),
        ("op:2", [3]),  # what is computed together is shown together
        ("op:11", [11]),
        ("kind:SOFTMAX", [5, 11]),
        ("kind:softmax", [5, 11]),
        ("tensor:t7", [7]),
        ("tensor:a/b.C_d;1", [5]),
    ],
)
def test_what_a_selector_means(graph: Graph, text: str, operators: list[int]) -> None:
    assert meant(graph, text) == operators


def test_several_selectors_mean_what_any_of_them_does_in_the_order_of_execution(graph: Graph) -> None:
    assert meant(graph, "tensor:t11", "blocks.10", "op:7", "kind:FULLY_CONNECTED") == [4, 7, 8, 11]


@pytest.mark.parametrize(
    "text",
    [
        *["blocks", "blocks.3", "blocks.1.att", "attn", "norm1", "EvaBlock", "1.2", "conv_1", "blocks..1"],
        *["blocks.1.norm1.weight", "op:12", "kind:MULL", "kind:", "tensor:", "tensor:t", "tensor:T7"],
    ],
)
def test_what_means_nothing_is_said_to(graph: Graph, text: str) -> None:
    with pytest.raises(BadInput, match="no operator of the trace is meant by --show: fidelity locate -v lists them"):
        meant(graph, text)


@pytest.mark.parametrize("text", ["op:", "op:x", "op:-1", "op: 1", "op:²", "module:x", ":", "", "OP:1", "blocks:1"])
def test_what_is_no_selector_is_refused_before_anything_runs(text: str) -> None:
    with pytest.raises(BadInput, match="expected a module path, op:NUMBER, kind:NAME or tensor:NAME"):
        parse_selectors([text])


@pytest.fixture
def image_model(tmp_path: Path) -> Path:
    """A MUL and an ABS of an image."""
    graph = GraphBuilder()
    graph.tensor("image", (1, 3, 8, 8))
    graph.constant("gain", np.full(8, 2.0))
    graph.op("MUL", ["image", "gain"], graph.tensor("twice", (1, 3, 8, 8)), options("Mul"))
    graph.op("ABS", ["twice"], graph.tensor("y", (1, 3, 8, 8)), options("Abs"))
    path = tmp_path / "image.tflite"
    path.write_bytes(graph.build(["image"], ["y"]))
    return path


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fidelity", "locate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("show", "words"), [("op:one", "op:NUMBER"), ("blocks.7", "no operator of the trace"), ("", "expected")]
)
def test_the_command_line_refuses_it_in_one_line(
    image_model: Path,
    show: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert called(monkeypatch, str(image_model), "--device", "cpu", "--show", show) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fidelity: ")]
    assert len(said) == 1
    assert words in said[0]


def test_the_command_line_shows_what_is_meant_even_where_nothing_is_wrong(
    image_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = called(monkeypatch, str(image_model), "--device", "cpu", "--show", "kind:mul", "--show", "op:0")
    out = capsys.readouterr().out.splitlines()
    assert code == 0
    assert out[0] == "RIGHT"
    assert len([line for line in out if "op 0 MUL" in line]) == 1
    assert not any("op 1 ABS" in line for line in out)
