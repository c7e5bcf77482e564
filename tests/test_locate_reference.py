"""Constants and weights: which are the model's own bits, rounded once at most, and which are nobody's."""

from __future__ import annotations

import numpy as np
import pytest
from test_locate_conversion import known, nodes, tower
from test_tflite_builder import GraphBuilder
from tiny_transformer import SHAPE, Tiny, X, built, judge

from fidelity.faults.plant import planted
from fidelity.localisation.conversion import beside_pytorch
from fidelity.localisation.emulations import parsed
from fidelity.localisation.reference import Reference, matched

__all__ = ["known", "nodes", "tower"]  # fixtures


def test_weights_that_were_rounded_on_the_way_are_strangers(known: Tiny) -> None:
    """Told of, even where they are too near to the right ones to be to blame."""
    for tensor, blamed in (("q.out", True), ("up.out", False)):
        other = planted(built(known), tensor, "rounded_twice", 0)
        assert other is not None
        found = judge(other, known)
        assert (found.culprit is not None) == blamed
        (stranger,) = found.strangers
        name = found.graph.main.tensors[stranger].name
        assert "FULLY_CONNECTED" in found.evidence[1]
        assert f"its constant {name!r}" in found.evidence[1]


def test_a_stranger_is_told_with_the_operator_that_reads_it_and_not_with_another(known: Tiny) -> None:
    """Rounded weights behind the culprit are not what is wrong with it."""
    rounded = planted(built(known), "up.out", "rounded_twice", 0)
    assert rounded is not None
    other = planted(rounded, "scores", "wrong_scale", 0)
    assert other is not None
    found = judge(other, known)
    assert found.culprit == "scores"
    assert len(found.strangers) == 1
    assert len(found.evidence) == 1


def test_float16_weights_are_the_models_own_rounded_once(tower: Tiny) -> None:
    """The same file against PyTorch with all weights in float32 would be 3e-4 off: half of what counts."""
    found = judge(built(tower, half=True), tower)
    assert (found.culprit, found.strangers) == (None, ())
    beside, values = beside_pytorch(found.graph, {"x": X}, Reference("tiny", {"y": np.zeros(1)}, tower))
    assert max(min(each.error for each in beside.counterparts.of(tensor)) for tensor in values) < 1e-6
    other = planted(built(tower, half=True), "up.out", "rounded_twice", 0)
    assert other is not None
    assert any("op 14 DEQUANTIZE: its constant" in line for line in judge(other, tower).evidence)


def test_a_reference_of_outputs_has_nothing_to_lay_beside(known: Tiny) -> None:
    with pytest.raises(ValueError, match="golden:tiny has outputs only"):
        beside_pytorch(parsed(built(known)), {"x": X}, Reference("golden:tiny", {"y": np.zeros(SHAPE)}))


def test_bits_in_any_order_of_axes_and_either_precision_are_a_weight(tower: Tiny) -> None:
    """As a converter transposes them; anything else is a stranger, and one number is not asked for."""
    weight = tower.up.weight.detach().numpy()
    constants: dict[str, np.ndarray] = {
        "same": weight,
        "turned": np.ascontiguousarray(weight.T),
        "half": weight.astype(np.float16),
        "one by one": weight[:, None, :],
        "negated": -weight,
        "rows": np.roll(weight, 1, 0),
        "one": np.full(1, 0.123, np.float32),
    }
    graph = GraphBuilder()
    graph.tensor("x", SHAPE)
    for name, value in constants.items():
        graph.constant(name, value, str(value.dtype))
    graph.op("ABS", ["x"], graph.tensor("y", SHAPE))
    found = parsed(graph.build(["x"], ["y"]))
    beside = matched(found, {0: X}, tower, {"x": X})
    assert {found.main.tensors[index].name for index in beside.strangers} == {"negated", "rows"}
    assert {found.main.tensors[index].name for index in beside.names} == {"same", "turned", "half", "one by one"}
    assert set(beside.names.values()) == {"up.weight"}
