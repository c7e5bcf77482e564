"""A converter's fault by operator: every fault in every operator of a small transformer, by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from tiny_transformer import Tiny, X, built, judge
from torch import nn

from fidelity.faults.plant import FAULTS, planted
from fidelity.localisation import torch_nodes
from fidelity.localisation.conversion import beside_pytorch
from fidelity.localisation.counterparts import Node
from fidelity.localisation.emulations import parsed
from fidelity.localisation.noise import NOISE, error_of
from fidelity.localisation.on_device import Array
from fidelity.localisation.reference import Reference


@pytest.fixture(scope="module")
def tower() -> Tiny:
    return Tiny().eval()


@pytest.fixture
def known(tower: Tiny, nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """The tower, whose nodes are not computed again."""

    def again(_: nn.Module, inputs: Mapping[str, Array], *__: object) -> None:
        *_, visit = __
        assert inputs["x"] is X
        assert callable(visit)
        for node in nodes:
            visit(node)

    monkeypatch.setattr(torch_nodes, "visit_nodes", again)
    return tower


@pytest.fixture(scope="module")
def nodes(tower: Tiny) -> list[Node]:
    found: list[Node] = []
    torch_nodes.visit_nodes(tower, {"x": X}, ("y",), frozenset(), found.append)
    return found


def test_a_right_graph_has_no_culprit_and_no_stranger(tower: Tiny) -> None:
    found = judge(built(tower), tower)
    assert (found.culprit, found.strangers) == (None, ())
    assert found.evidence == ("every operator's value is one that PyTorch computes",)
    with torch.no_grad():
        right = tower.double()(torch.from_numpy(X).double()).numpy()
    tower.float()
    assert error_of(found.output, right) < 1e-6


def test_every_tensor_of_a_right_graph_has_its_counterpart(known: Tiny) -> None:
    graph = parsed(built(known))
    beside, values = beside_pytorch(graph, {"x": X}, Reference("tiny", {"y": np.zeros(1)}, known))
    assert set(beside.counterparts.values) == set(values)
    assert max(min(each.error for each in beside.counterparts.of(tensor)) for tensor in values) < 1e-6
    assert not beside.counterparts.moved.keys() - beside.counterparts.found.keys()
    assert {graph.main.tensors[index].name: name for index, name in beside.names.items()} == {
        name: name for name, _ in known.named_parameters()
    }


UNSEEN = {
    ("wrong_scale", "centred"): "a LayerNorm's scale falls away",
    ("swapped_halves", "squared"): "all that reads it is a mean",
    ("aliased_output", "shifted"): "eps is far below the variance",
    ("dropped_bias", "k.out"): "it moves all scores of a row alike, which SOFTMAX takes off",
    ("rounded_twice", "up.out"): "half a unit of bfloat16 in one of two terms is below the noise",
    ("rounded_twice", "down.out"): "half a unit of bfloat16 in one of two terms is below the noise",
}
"""Faults that leave the output where it was, and why: of these nothing need be said."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_any_operator_is_named(known: Tiny, fault: str) -> None:
    model = built(known)
    right = judge(model, known)
    tried, unseen = 0, set()
    for op in right.graph.main.operators:
        tensor = right.graph.main.tensors[op.outputs[0]].name
        other = planted(model, tensor, fault, 5)
        if other is None:
            continue
        tried += 1
        found = judge(other, known)
        if error_of(found.output, right.output) <= NOISE:
            assert found.culprit is None, f"{fault} at {tensor}"
            unseen.add(tensor)
        elif fault in ("aliased_output", "stale_output") and tensor != "y":
            # what was exchanged is itself right: what reads it reads the wrong one
            readers = right.graph.main.consumers[op.outputs[0]]
            assert found.culprit in {right.graph.main.tensors[each.outputs[0]].name for each in readers}
        else:
            assert found.culprit == tensor or str(found.culprit).startswith("planted_"), f"{fault} at {tensor}"
    assert tried
    if fault == "overflow":
        assert len(unseen) == len(right.graph.main.operators)
    else:
        assert unseen == {tensor for name, tensor in UNSEEN if name == fault}


def test_an_output_that_is_another_right_value_is_named(known: Tiny) -> None:
    """Every value is PyTorch's, and the last is not the one that the model gives."""
    stale = planted(built(known), "y", "aliased_output", 0)
    assert stale is not None
    found = judge(stale, known)
    assert found.culprit == "y"
    assert "another of PyTorch's values, 'add_1'" in found.evidence[0]


def test_scores_of_exchanged_operands_are_not_the_scores(known: Tiny) -> None:
    """K Q^T is Q K^T transposed, and square: another layout of the same it is not."""
    found = judge(built(known, scores=("k.out", "q.out")), known)
    assert found.culprit == "scores"
    assert found.row is not None
    assert found.row.name == "BATCH_MATMUL"
