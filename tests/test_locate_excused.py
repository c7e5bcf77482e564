"""What a converter may do, split and merge and rename, and what it may not: the answer that `locate` gives of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_locate import GOOD, cpu, device
from test_locate_conversion import known, nodes, tower
from test_tflite_builder import GraphBuilder
from test_tflite_emulation import options
from tiny_transformer import SHAPE, TOKENS, WIDTH, Tiny, X, built, judge
from torch import nn

from fidelity.faults.plant import planted
from fidelity.localisation.asked import Where
from fidelity.localisation.emulations import parsed
from fidelity.localisation.locate import locate
from fidelity.localisation.reference import Reference

__all__ = ["known", "nodes", "tower"]  # fixtures


def test_weights_that_the_converter_merged_are_excused_and_told(known: Tiny) -> None:
    """(shares unit) gamma for shares (unit gamma): PyTorch never has that product, and what is behind it is right."""
    merged = built(known, merged=True)
    found = judge(merged, known)
    assert found.culprit is None
    assert [line[:30] for line in found.evidence[1:]] == [
        "op 7 FULLY_CONNECTED: its cons",
        "op 8 FULLY_CONNECTED: its cons",
    ]
    for fault, tensor in (("wrong_scale", "raw"), ("shifted_row", "mixed"), ("dead_channel", "q.out")):
        other = planted(merged, tensor, fault, 5)
        assert other is not None
        culprit = judge(other, known).culprit
        # of a group without a counterpart inside, the first one is named
        assert culprit == tensor or str(culprit).startswith("planted_") or (tensor, culprit) == ("mixed", "raw")


class Centred(nn.Module):
    """w x less its mean, or the mean alone."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        self.w, self.alone = nn.Parameter(torch.linspace(0.5, 1.5, WIDTH)), alone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = x * self.w
        mean = scaled.mean(-1, keepdim=True)
        return mean if self.alone else scaled - mean


@pytest.mark.parametrize("alone", [False, True])
def test_the_mean_of_exchanged_halves_excuses_them_only_where_nothing_else_reads_them(alone: bool) -> None:
    tower = Centred(alone)
    graph = GraphBuilder()
    graph.tensor("x", SHAPE)
    graph.constant("last", [2], "int32")
    graph.constant("w", tower.w.detach().numpy())
    graph.op("MUL", ["x", "w"], graph.tensor("scaled", SHAPE), options("Mul"))
    graph.op("MEAN", ["scaled", "last"], graph.tensor("mean", (1, TOKENS, 1)), options("Reducer", keepDims=True))
    if not alone:
        graph.op("SUB", ["scaled", "mean"], graph.tensor("y", SHAPE), options("Sub"))
    outputs = ("mean",) if alone else ("y",)
    model = graph.build(["x"], list(outputs))
    other = planted(model, "scaled", "swapped_halves", 0)
    assert other is not None
    assert judge(model, tower, outputs=outputs).culprit is None
    culprit = judge(other, tower, outputs=outputs).culprit
    assert culprit is None if alone else str(culprit).startswith("planted_")


class Chain(nn.Module):
    """An output, and another that is made of its absolute."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = 3 * x
        return first, torch.exp(-torch.abs(first))


@pytest.mark.parametrize("fault", ["wrong_scale", "wrong_sign", "shifted_row"])
def test_an_output_is_to_blame_before_what_reads_it_and_never_excused_by_that(fault: str) -> None:
    """Negated, all behind it is right: that does not make the output right."""
    graph = GraphBuilder()
    graph.tensor("x", SHAPE)
    for name, value in (("three", 3.0), ("minus", -1.0)):
        graph.constant(name, value)
    graph.op("MUL", ["x", "three"], graph.tensor("first", SHAPE), options("Mul"))
    graph.op("ABS", ["first"], graph.tensor("abs", SHAPE), options("Abs"))
    graph.op("MUL", ["abs", "minus"], graph.tensor("negative", SHAPE), options("Mul"))
    graph.op("EXP", ["negative"], graph.tensor("second", SHAPE), options("Exp"))
    model = graph.build(["x"], ["first", "second"])
    assert judge(model, Chain(), outputs=("first", "second")).culprit is None
    other = planted(model, "first", fault, 0)
    assert other is not None
    culprit = judge(other, Chain(), outputs=("first", "second")).culprit
    assert culprit == "first" or str(culprit).startswith("planted_")


class Chance(nn.Module):
    """The first row, and what comes of a weight alone."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.from_numpy(X[:, 2:3].copy()))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.exp(x[:, :1]), self.w + 0


def test_numbers_that_are_right_by_chance_do_not_come_from_what_they_should() -> None:
    """The third row of this very input is the weight: a graph that reads it there is another graph."""
    graph = GraphBuilder()
    row = (1, 1, WIDTH)
    graph.tensor("x", SHAPE)
    graph.constant("size", row, "int32")
    for name, start in (("first", 0), ("third", 2)):
        graph.constant(f"{name}_at", [0, start, 0], "int32")
        graph.op("SLICE", ["x", f"{name}_at", "size"], graph.tensor(name, row), options("Slice"))
    graph.op("EXP", ["first"], graph.tensor("exp", row), options("Exp"))
    model = graph.build(["x"], ["exp", "third"])
    assert judge(model, Chance(), outputs=("exp", "third")).culprit == "third"


class Exchanged(nn.Module):
    """Two outputs of one shape."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.exp(x), torch.abs(x)


@pytest.mark.parametrize(("first", "second", "culprit"), [("a", "b", None), ("b", "a", "a")])
def test_outputs_that_were_exchanged_are_wrong_though_each_is_pytorchs(
    first: str, second: str, culprit: str | None
) -> None:
    graph = GraphBuilder()
    graph.tensor("x", SHAPE)
    graph.op("EXP", ["x"], graph.tensor(first, SHAPE), options("Exp"))
    graph.op("ABS", ["x"], graph.tensor(second, SHAPE), options("Abs"))
    found = judge(graph.build(["x"], ["a", "b"]), Exchanged(), outputs=("a", "b"))
    assert (found.row is None) == (culprit is None)


def test_locate_names_the_converters_operator_and_holds_the_trace_against_pytorch(known: Tiny, tmp_path: Path) -> None:
    other = planted(built(known), "gelu", "wrong_scale", 0)
    assert other is not None
    graph = parsed(other)
    with torch.no_grad():
        right = {"y": known(torch.from_numpy(X)).double().numpy()}
    where = Where("a device", device(tmp_path), cpu(tmp_path))
    answer = locate(graph, {"x": X}, where, GOOD, Reference("timm:tiny", right, known), "noise")
    found = answer.located
    assert (found.kind, found.device_runs) == ("converter", 1)
    assert found.culprit is not None
    assert graph.main.tensors[found.culprit.tensor].name == "gelu"
    assert "from its reference, allowed 0.004472" in found.evidence[0]
    assert "MUL: its inputs are PyTorch's, and its result is nothing that PyTorch computes" in found.evidence[1]
    assert answer.operators == found.culprit.members
    assert found.trace is not None
    by_name = {graph.main.tensors[row.tensor].name: row for row in found.trace.operators}
    assert {row.truth for name, row in by_name.items() if not name.startswith("planted_")} >= {"pytorch", "artefact"}
    assert (by_name["up.out"].truth, by_name["gelu"].truth, by_name["y"].truth) == ("pytorch", "artefact", "artefact")
    assert by_name["up.out"].error_actual < 1e-6
    assert by_name["up.out"].correlation == pytest.approx(1, abs=1e-9)
    assert by_name["gelu"].error_actual > 0.1
    golden = locate(graph, {"x": X}, where, GOOD, Reference("golden:tiny", right), "noise").located
    assert (golden.kind, golden.culprit, golden.trace) == ("converter", None, None)
    assert golden.evidence[1] == "the reference has outputs only: timm:NAME tells the operator"
