"""Which value of PyTorch a tensor is: told by its numbers in its own order or another layout's, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.localisation.counterparts import RIGHT, Counterparts, Matcher, Node
from fidelity.localisation.noise import NOISE

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
    near = value * (1 + 1e-6)
    for values, own in (((near, turned), 1), ((turned, near), 0)):
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
    everywhere, nothing = np.full((4, 6), odd), np.zeros((4, 6))
    pairs = ((spoilt, value), (spoilt, spoilt), (value, spoilt), (everywhere, value), (spoilt, nothing))
    for tensor, right in pairs:
        found = matching(tensor, right)
        assert not found.of(MINE)
        assert MINE not in found.values


def test_a_tensor_that_is_not_finite_is_compared_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One NaN early in a graph makes nearly every tensor such a one: comparing each with each took minutes."""
    compared: list[Array] = []
    monkeypatch.setattr("fidelity.localisation.counterparts._error", lambda *given: compared.append(given[0]) or 0.0)
    matching(np.full((4, 6), np.nan), drawn(4, 6), np.zeros((4, 6)))
    assert not compared
    matching(drawn(4, 6), drawn(4, 6))
    assert compared


def test_a_value_that_is_not_finite_does_not_stand_in_the_way_of_the_others() -> None:
    value = drawn(4, 6)
    nothing = np.full((4, 6), np.nan)
    found = matching(value, nothing, value, nothing)
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
    found = matching(value, near, value, near)
    assert [each.node for each in found.of(MINE)] == [0, 1, 2]
    np.testing.assert_array_equal(found.values[MINE], near)


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
