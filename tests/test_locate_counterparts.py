"""Which value of PyTorch a tensor is: told by its numbers in its own order or another layout's, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fidelity.locate.counterparts import RIGHT, Counterparts, Matcher
from fidelity.locate.noise import NOISE
from fidelity.locate.torch_nodes import Node, visit_nodes

Array = NDArray[np.generic]
MINE = 7


def drawn(*shape: int, seed: int = 1) -> Array:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape)


def node(value: Array, index: int = 0, ancestors: int = 1, *, live: bool = True) -> Node:
    return Node(index, f"node{index}", np.ascontiguousarray(value, np.float64), ancestors, live)


def matching(tensor: Array, *values: Array) -> Counterparts:
    """What is found for one tensor, which is 7, among these values."""
    matcher = Matcher({MINE: tensor})
    for index, value in enumerate(values):
        matcher.see(node(value, index, 1 << index))
    return matcher.result


def test_the_same_numbers_in_the_same_order_are_the_same_value_in_whatever_shape() -> None:
    value = drawn(2, 3, 4)
    found = matching(value.astype(np.float32).reshape(6, 4), drawn(2, 3, 4, seed=2), value)
    assert [(each.node, each.name, each.ancestors) for each in found.of(MINE)] == [(1, "node1", 2)]
    assert found.of(MINE)[0].error < 1e-7
    np.testing.assert_array_equal(found.values[MINE], value.reshape(6, 4))
    assert not found.moved


def test_a_value_is_given_in_the_layout_of_the_tensor() -> None:
    """Channels first in PyTorch, channels last in the graph: the value comes back channels last, the error is zero."""
    value = drawn(1, 3, 4, 5)
    last = np.ascontiguousarray(value.transpose(0, 2, 3, 1))
    found = matching(last, value)
    assert not found.found
    assert [each.error for each in found.of(MINE)] == [0]
    np.testing.assert_array_equal(found.values[MINE], last)


def test_a_node_of_the_tensors_own_order_is_preferred_whenever_it_comes() -> None:
    value = drawn(3, 5)
    turned = np.ascontiguousarray(value.T)
    for values, own in (((value, turned), 1), ((turned, value), 0)):
        found = matching(turned, *values)
        assert [each.node for each in found.of(MINE)] == [own]
        assert [each.node for each in found.moved[MINE]] == [1 - own]
        np.testing.assert_array_equal(found.values[MINE], turned)


@pytest.mark.parametrize(("shape", "axes"), [((4, 4), (1, 0)), ((2, 4, 4), (0, 2, 1)), ((1, 3, 4, 4), (0, 3, 2, 1))])
def test_axes_of_one_size_that_were_exchanged_are_another_value(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """A square matrix transposed, alone, for each head, and an image turned over its diagonal on its way to channels
    last."""
    value = drawn(*shape)
    assert not matching(np.ascontiguousarray(value.transpose(axes)), value).of(MINE)


def test_an_image_as_high_as_wide_is_found_channels_last_and_back() -> None:
    value = drawn(1, 3, 4, 4)
    last = np.ascontiguousarray(value.transpose(0, 2, 3, 1))
    assert matching(last, value).of(MINE)
    assert matching(value, last).of(MINE)


def test_a_symmetric_matrix_is_its_own_transpose() -> None:
    value = drawn(4, 4)
    value = value + value.T
    assert matching(np.ascontiguousarray(value.T), value).found[MINE]


@pytest.mark.parametrize(
    "spoilt",
    [
        pytest.param(lambda x: np.roll(x, x.shape[-1] // 2, -1), id="halves exchanged"),
        pytest.param(lambda x: np.roll(x, 1, 0), id="rows exchanged"),
        pytest.param(lambda x: x[::-1], id="upside down"),
        pytest.param(lambda x: -x, id="negated"),
        pytest.param(lambda x: 1.5 * x, id="scaled"),
        pytest.param(lambda x: np.where(np.arange(x.shape[-1]) == 2, 0, x), id="one channel dead"),
    ],
)
def test_what_was_moved_or_scaled_is_another_value(spoilt: object) -> None:
    value = drawn(4, 6)
    assert callable(spoilt)
    found = matching(np.ascontiguousarray(spoilt(value), np.float32), value)
    assert not found.of(MINE)
    assert MINE not in found.values


@pytest.mark.parametrize(("share", "same"), [(0.99, True), (1.01, False)])
@pytest.mark.parametrize("direction", ["along", "across", "one element"])
def test_the_same_means_within_half_a_unit_of_fp16(share: float, same: bool, direction: str) -> None:
    """On both sides of NOISE: in the value's own direction, where its norm shows it, across it, where only the
    difference does, and in one element."""
    value = drawn(8, 8)
    other = drawn(8, 8, seed=2)
    across = other - value * np.sum(other * value) / np.sum(value * value)
    one = np.zeros((8, 8))
    one[3, 4] = 1
    way = {"along": value, "across": across, "one element": one}[direction]
    apart = way * (share * NOISE * np.linalg.norm(value) / np.linalg.norm(way))
    found = matching(value + apart, value)
    assert bool(found.of(MINE)) == same
    if same:
        assert found.of(MINE)[0].error == pytest.approx(share * RIGHT, rel=1e-9)
    assert found.nearest[MINE] == pytest.approx(share * NOISE, rel=1e-9)


def test_a_constant_shift_is_within_the_sums_own_bound() -> None:
    """The greatest sum that a difference of this norm can have: the quick look at sums must not refuse it."""
    value = drawn(8, 8)
    shift = np.full((8, 8), 0.99 * NOISE * np.linalg.norm(value) / 8)
    assert matching(value + shift, value).of(MINE)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_value_of_pytorch(odd: float) -> None:
    """Neither on the graph's side nor on both: a NaN is never right."""
    value = drawn(4, 6)
    spoilt = value.copy()
    spoilt[1, 2] = odd
    for tensor, right in ((spoilt, value), (spoilt, spoilt), (value, spoilt), (np.full((4, 6), odd), value)):
        found = matching(tensor, right)
        assert not found.of(MINE)
        assert MINE not in found.values


def test_a_value_that_is_not_finite_does_not_stand_in_the_way_of_the_others() -> None:
    value = drawn(4, 6)
    found = matching(value, np.full((4, 6), np.nan), value)
    assert [each.node for each in found.of(MINE)] == [1]
    assert found.nearest[MINE] == 0


def test_zero_is_only_zero() -> None:
    nothing, tiny = np.zeros((2, 3)), np.full((2, 3), 1e-30)
    assert matching(nothing, nothing).of(MINE)[0].error == 0
    assert not matching(tiny, nothing).of(MINE)
    assert not matching(nothing, tiny).of(MINE)
    assert not matching(nothing, drawn(2, 3)).of(MINE)


def test_every_node_of_the_value_is_kept_and_the_first_gives_the_value() -> None:
    """x * 1 is a node of its own: which one a tensor is, what it comes from decides, not the numbers."""
    value = drawn(2, 3)
    near = value * (1 + 1e-6)
    found = matching(value, value, near, value)
    assert [each.node for each in found.of(MINE)] == [0, 1, 2]
    np.testing.assert_array_equal(found.values[MINE], value)


def test_tensors_of_one_size_are_told_apart() -> None:
    one, other = drawn(2, 3), drawn(2, 3, seed=2)
    matcher = Matcher({1: one, 2: other, 3: drawn(5)})
    matcher.see(node(other, 4))
    found = matcher.result
    assert [each.node for each in found.of(2)] == [4]
    assert (found.of(1), found.of(3)) == ([], [])
    assert set(found.nearest) == {1, 2}


def test_nearest_is_the_least_error_of_any_activation_and_not_of_a_weight() -> None:
    value = drawn(4, 6)
    matcher = Matcher({MINE: value.astype(np.float32)})
    for place, (scale, live) in enumerate([(2.0, True), (1.25, True), (4.0, True), (1.0001, False)]):
        matcher.see(node(scale * value, place, live=live))
    assert matcher.result.nearest[MINE] == pytest.approx(0.2, rel=1e-6)  # (1.25 - 1) / 1.25
    assert [each.node for each in matcher.result.of(MINE)] == [3]


def test_nearest_of_what_is_not_finite_is_no_number_to_be_told() -> None:
    spoilt = drawn(4, 6)
    spoilt[0, 0] = np.nan
    assert not np.isfinite(matching(spoilt, drawn(4, 6)).nearest.get(MINE, np.inf))


def test_nearest_looks_at_a_sample_that_reaches_both_ends() -> None:
    """Of 5000 elements a thousand: where half of them are wrong it is half wrong, whichever half that is."""
    value = np.ones(5000)
    for half in (slice(0, 2500), slice(2500, None)):
        spoilt = value.copy()
        spoilt[half] = 0
        assert matching(spoilt, value).nearest[MINE] == pytest.approx(np.sqrt(0.5), rel=1e-2)


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


def test_weights_that_an_artefact_halves_are_halved_first_and_the_model_stays_as_it_is() -> None:
    tower, seen, _ = visited(frozenset(["scale"]))
    halved = tower.scale.detach().half().double().numpy()
    assert valued(seen, halved).live is False
    assert not any(np.array_equal(each.value, tower.scale.detach().double().numpy()) for each in seen)
    assert valued(seen, tower.linear.weight.detach().double().numpy())
    assert tower.scale.dtype == torch.float32
    assert float(tower.scale[0].detach()) == 1 + 2.0**-12
