"""The shipped profiles load, have a rule for every kind, and the declared ones compute what they declare."""

from __future__ import annotations

import numpy as np
import pytest

from fidelity.arithmetic.kernels import elementwise, reductions
from fidelity.arithmetic.profile import Profile, load_profile, shipped
from fidelity.arithmetic.rules import KINDS, LAYER_NORM, Elementwise, Product, Reduction

DECLARED = ("card-mali-opencl", "card-mali-opencl-pairwise", "ieee-fp16-storage", "ieee-fp32")
CARD = DECLARED[:2]
# LAYER_NORM is only for a device that takes a group of operations for one; a profile without it computes each.
EVERY = frozenset(KINDS) - {LAYER_NORM}
# LOGISTIC and TANH are of other networks' gates, and a measured profile need not have them.
NEEDED = EVERY - {"LOGISTIC", "TANH"}


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_profile_loads_and_covers_the_kinds_of_a_vision_transformer(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert frozenset(profile.rules) >= NEEDED


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_profile_covers_every_kind_and_says_where_it_comes_from(name: str) -> None:
    profile = load_profile(name)
    assert profile.origin.kind == "declared"
    assert profile.origin.source
    assert frozenset(profile.rules) >= EVERY


def mean_of(profile: Profile, row: np.ndarray, kind: str = "MEAN") -> float:
    rule = profile.rules[kind]
    assert isinstance(rule, Reduction)
    return float(reductions.reduce(kind, row.astype(np.float32)[np.newaxis], (1,), rule)[0, 0])


@pytest.mark.parametrize("name", CARD)
def test_the_card_s_sum_is_infinite_past_the_largest_float16_and_elementwise_is_float32(name: str) -> None:
    profile = load_profile(name)
    assert mean_of(profile, np.full(768, 64.0)) == 64.0  # 49,152, each step a multiple of 32
    assert mean_of(profile, np.full(768, 86.0)) == np.inf  # 66,048
    rule = profile.rules["MUL"]
    assert isinstance(rule, Elementwise)
    third = np.array([1 / 3], np.float32)
    assert elementwise.binary("MUL", third, np.float32([1.0]), rule)[0] == third[0]


@pytest.mark.parametrize("count", [5, 64, 100, 768, 3000])
def test_one_card_adds_in_turn_and_the_other_in_pairs(count: int) -> None:
    """2048 + 1 is 2048 in float16: a running sum keeps 2048, pairs find each other first."""
    row = np.ones(count)
    row[0] = 2048
    running, pairs = (mean_of(load_profile(name), row, "SUM") for name in CARD)
    assert running == 2048
    kept = 2048 + count - 1  # all but the first one, which 2048 swallows; to float16's spacing of 2 or 4
    assert abs(pairs - kept) <= 4
    assert pairs > 2048


def test_float16_storage_rounds_each_result_once_and_float32_none() -> None:
    x = np.array([1 + 2**-11 + 2**-20], np.float32)  # nearer to 1 + 2^-10 than to 1
    halves, singles = (load_profile(name) for name in ("ieee-fp16-storage", "ieee-fp32"))
    for profile, expected in ((halves, 1 + 2**-10), (singles, float(x[0]))):
        rule = profile.rules["MUL"]
        assert isinstance(rule, Elementwise)
        assert elementwise.binary("MUL", x, np.float32([1.0]), rule)[0] == expected
    assert halves.stores_float16
    assert not singles.stores_float16
    assert mean_of(halves, np.full(768, 300.0), "SUM") == np.inf  # the accumulator is float32, the result is not
    assert mean_of(halves, np.full(768, 300.0)) == 300.0


@pytest.mark.parametrize("name", DECLARED)
def test_products_have_no_order_so_the_host_s_own_library_may_compute_them(name: str) -> None:
    products = [rule for rule in load_profile(name).rules.values() if isinstance(rule, Product)]
    assert products
    assert all(not rule.cases and rule.accumulator.format == "float32" for rule in products)
