"""PyTorch's values on the way of a model: all of them, in float64, each with what it comes from."""

from __future__ import annotations

import numpy as np
import torch
from test_locate_counterparts import Array, drawn
from torch import nn

from fidelity.localisation.counterparts import Node
from fidelity.localisation.torch_nodes import visit_nodes


class Small(nn.Module):
    """gelu(W x + b) + x, and beside it what weights alone give, an integer and a result that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.tensor([1 + 2.0**-12, 3.0, 0.1, -0.7]))
        self.register_buffer("shift", torch.tensor([0.1, 0.2, 0.3, 0.4]))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        static = torch.exp(self.scale) * self.shift
        return nn.functional.gelu(self.linear(x)) + y * static


def visited(halved: frozenset[str] = frozenset()) -> tuple[Small, list[Node], dict[str, Array]]:
    torch.manual_seed(0)
    tower = Small()
    inputs = {"x": drawn(3, 4).astype(np.float32), "y": drawn(3, 4, seed=2).astype(np.float32)}
    seen: list[Node] = []
    visit_nodes(tower, inputs, ("out",), halved, seen.append)
    return tower, seen, inputs


def valued(seen: list[Node], value: Array) -> Node:
    """The last node that has exactly this value."""
    return [each for each in seen if each.value.shape == value.shape and np.array_equal(each.value, value)][-1]


def test_every_value_on_the_way_is_shown_in_float64_and_not_rounded_on_the_way() -> None:
    tower, seen, inputs = visited()
    w, b, scale = (p.detach().numpy().astype(np.float64) for p in (tower.linear.weight, tower.linear.bias, tower.scale))
    product = inputs["x"].astype(np.float64) @ w.T + b
    static = np.exp(scale) * tower.shift.numpy().astype(np.float64)
    scaled = inputs["y"] * static
    for value in (inputs["x"], w, b, scale, product, static, scaled):
        assert min(np.abs(each.value - value).max() for each in seen if each.value.shape == value.shape) < 1e-13
    assert {each.value.dtype for each in seen} == {np.dtype(np.float64)}
    assert all(each.value.flags.c_contiguous for each in seen)
    assert [each.index for each in seen] == sorted({each.index for each in seen})


def test_ancestors_are_all_that_a_value_comes_from_and_nothing_else() -> None:
    _, seen, inputs = visited()
    x, y = (valued(seen, inputs[name]) for name in ("x", "y"))
    last, by_name = seen[-1], {each.name: each for each in seen}
    gelu, product = by_name["gelu"], next(each for each in seen if each.name.startswith(("linear", "addmm")))
    scaled, static = (by_name[name] for name in sorted(n for n in by_name if n.startswith("mul"))[::-1])
    for each in seen:
        assert each.ancestors >> each.index == 1  # itself, and nothing that comes after
    assert gelu.ancestors == 1 << gelu.index | product.ancestors
    assert product.ancestors >> x.index & 1
    assert not product.ancestors >> y.index & 1
    assert static.ancestors & (1 << x.index | 1 << y.index) == 0
    assert scaled.ancestors == 1 << scaled.index | static.ancestors | y.ancestors
    assert last.ancestors == 1 << last.index | gelu.ancestors | scaled.ancestors


def test_live_is_what_an_input_is_among_the_ancestors_of() -> None:
    _, seen, inputs = visited()
    entered = sum(1 << valued(seen, inputs[name]).index for name in ("x", "y"))
    assert {each.live for each in seen} == {True, False}
    for each in seen:
        assert each.live == bool(each.ancestors & entered), each.name


def test_a_node_is_known_as_the_output_that_it_is() -> None:
    _, seen, _ = visited()
    assert [each.name for each in seen if each.outputs] == [seen[-1].name]
    assert seen[-1].outputs == ("out",)


class Both(nn.Module):
    """Two outputs, the second of which is computed first."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        product = x * y
        return product + x, product


def test_several_outputs_are_told_apart_by_their_names() -> None:
    seen: list[Node] = []
    visit_nodes(Both(), {"x": drawn(3), "y": drawn(3, seed=2)}, ("zeta", "alpha"), frozenset(), seen.append)
    assert [each.outputs for each in seen] == [(), (), ("alpha",), ("zeta",)]


def test_weights_that_an_artefact_halves_are_halved_first_and_the_model_stays_as_it_is() -> None:
    tower, seen, _ = visited(frozenset(["scale"]))
    halved = tower.scale.detach().half().double().numpy()
    assert valued(seen, halved).live is False
    assert not any(np.array_equal(each.value, tower.scale.detach().double().numpy()) for each in seen)
    assert valued(seen, tower.linear.weight.detach().double().numpy())
    assert tower.scale.dtype == torch.float32
    assert float(tower.scale[0].detach()) == 1 + 2.0**-12


def test_what_one_visit_has_shown_is_not_changed_by_the_next() -> None:
    """The traced program is kept between visits, and only its parameters are others: in memory of their own."""
    tower, first, inputs = visited(frozenset({"scale"}))
    before = [each.value.copy() for each in first]
    again: list[Node] = []
    visit_nodes(tower, inputs, ("out",), frozenset(), again.append)
    for each, value in zip(first, before, strict=True):
        np.testing.assert_array_equal(each.value, value)
    exact = tower.scale.detach().numpy().astype(np.float64)
    assert valued(again, exact)
    assert not [each for each in first if each.value.shape == (4,) and np.array_equal(each.value, exact)]
    with torch.no_grad():
        tower.scale += 1
    changed: list[Node] = []
    visit_nodes(tower, inputs, ("out",), frozenset(), changed.append)
    assert valued(changed, tower.scale.detach().numpy().astype(np.float64))
