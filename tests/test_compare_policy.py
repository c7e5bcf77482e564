"""The policy: its numbers follow from their derivation, and a policy that limits nothing is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from test_compare_cases import KINDS, POLICY

from fidelity.comparison.metrics import METRICS, OUTPUT_METRICS, SET_METRICS
from fidelity.comparison.policy import Limit, Policy, load_policy
from fidelity.comparison.run_facts import RunKind
from fidelity.errors import BadInput

# issue 2, "It must show"
ISSUE_2 = {
    ("cpu", "fp32", "float32"): 0.999999,
    ("cpu", "fp32", "float16"): 0.99999,
    ("gpu", "fp32", "float32"): 0.99999,
    ("gpu", "fp32", "float16"): 0.99999,
    ("gpu", "fp16", "float32"): 0.9999,
    ("gpu", "fp16", "float16"): 0.9999,
}
WHOLE_SET_ONLY = {"nearest_neighbour_regret", "frozen_share"}  # not limited where few inputs may run


def test_the_default_policy_lists_the_kinds_and_correlations_of_issue_2() -> None:
    found = {(k.device, k.precision, k.weights): _limits(k)["correlation"].at_least for k in KINDS}
    assert found == ISSUE_2


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_default_limit_follows_from_the_correlation(kind: RunKind) -> None:
    limits = _limits(kind)
    c = ISSUE_2[kind.device, kind.precision, kind.weights]
    e = math.sqrt(2 * (1 - c))
    derived = {
        "correlation": (c, None),
        "cosine": (c, None),
        "relative_l2": (None, e),
        "worst_row_error": (None, 2 * e),
        "median_error": (None, 3 * e),
        "peak_error": (None, 8 * e),
        "norm_ratio": (1 - e / 3, 1 + e / 3),
        "slope": (1 - e / 3, 1 + e / 3),
        "offset": (-e / 2, e / 2),
        "centred_correlation": (1 - 10 * (1 - c), None),
        "misplacement": (None, 1 - c),
        "nearest_neighbour_regret": (None, e / 3),
        "frozen_share": (None, 0.0),
        "zero_share": (None, 0.0),
        "saturated_share": (None, 0.0),
        "non_finite_share": (None, 0.0),
        "repeated_outputs": (None, 0.0),
        "input_dependence": (0.9, 1.1),
    }
    if kind.device == "gpu" and kind.precision == "fp32":
        derived = {name: sides for name, sides in derived.items() if name not in WHOLE_SET_ONLY}
    if kind.precision == "fp16":
        derived["error_ratio"] = (None, 2.0)  # one bit: not from the correlation, see the file
    assert set(limits) == set(derived)
    for name, sides in derived.items():
        ideal = METRICS[name].scale.ideal
        for found, expected in zip((limits[name].at_least, limits[name].at_most), sides, strict=True):
            assert (found is None) == (expected is None), name
            if found is not None:
                # the allowed distance from a perfect copy, written with four digits or so
                assert found - ideal == pytest.approx(expected - ideal, rel=1e-3, abs=0), name


def test_correlation_and_relative_l2_are_one_demand_for_unit_vectors() -> None:
    # two unit vectors of zero mean at the angle whose cosine is c
    generator = np.random.default_rng(0)
    r, u = generator.standard_normal((2, 1024))
    r -= r.mean()
    r /= np.linalg.norm(r)
    u -= u.mean()
    u -= (u @ r) * r
    u /= np.linalg.norm(u)
    for c in set(ISSUE_2.values()):
        a = c * r + math.sqrt(1 - c * c) * u
        assert np.corrcoef(a, r)[0, 1] == pytest.approx(c, abs=1e-12)
        assert np.linalg.norm(a - r) == pytest.approx(math.sqrt(2 * (1 - c)), rel=1e-9)


def test_a_limit_says_how_far_outside_a_figure_is_and_nan_is_furthest() -> None:
    limit = Limit(at_least=0.9, at_most=1.1)
    assert limit.excess(1.0) < 0
    assert limit.excess(1.1) == 0
    assert limit.excess(0.8) == pytest.approx(0.1)
    assert limit.excess(math.nan) == math.inf
    assert limit.excess(math.inf) == math.inf
    assert limit.excess(-math.inf) == math.inf
    assert Limit(at_most=0.0).excess(5e-324) > 0
    assert str(limit) == "at least 0.9 and at most 1.1"


SOUND = """
name = "mine"
[require]
residency = true
determinism = false
fp16 = true
[every_run]
zero_share = { at_most = 0.0 }
[[runs]]
kind = { device = "cpu", precision = "fp32", weights = "float32" }
[runs.limits]
correlation = { at_least = 0.9 }
zero_share = { at_most = 0.5 }
"""


def test_a_policy_file_is_read_and_its_own_limits_go_before_the_common_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    policy = load_policy(path)
    limits = policy.limits_of(RunKind(device="cpu", precision="fp32", weights="float32"))
    assert limits == {"zero_share": Limit(at_most=0.5), "correlation": Limit(at_least=0.9)}
    assert policy.limits_of(RunKind(device="gpu", precision="fp32", weights="float32")) is None
    assert Policy.model_validate_json(policy.to_json()) == policy


LIMIT = "correlation = { at_least = 0.9 }"
SLOPE = "relative_l2 = { at_most = 1.0 }\nslope = "
# fault: (text of SOUND, what replaces it, what the message must name)
BROKEN = {
    "unknown metric": ("correlation =", "corelation =", "unknown metric 'corelation'"),
    "unknown field": ('name = "mine"', 'name = "mine"\nnmae = 1', "'nmae'"),
    "unknown limit field": ("{ at_least = 0.9 }", "{ atleast = 0.9 }", "runs.0.limits.correlation.atleast"),
    "unknown kind": ('"cpu"', '"tpu"', "runs.0.kind.device"),
    "NaN limit": ("at_least = 0.9", "at_least = nan", "runs.0.limits.correlation.at_least"),
    "infinite limit": ("at_least = 0.9", "at_least = -inf", "runs.0.limits.correlation.at_least"),
    "text for a number": ("at_least = 0.9", 'at_least = "0.9"', "runs.0.limits.correlation.at_least"),
    "boolean for a number": ("at_least = 0.9", "at_least = true", "runs.0.limits.correlation.at_least"),
    "limit on the wrong side": ("at_least = 0.9", "at_most = 0.9", "'correlation': higher is better"),
    "error with a lower bound": ("{ at_most = 0.5 }", "{ at_least = 0.0 }", "'zero_share': lower is better"),
    "empty limit": ("{ at_least = 0.9 }", "{}", "limits nothing"),
    "limit that cannot pass": ("at_least = 0.9", "at_least = 1.1", "the best figure, 1, would fail"),
    "limit that cannot fail": ("at_least = 0.9", "at_least = -1.0", "can never fail"),
    "share that cannot fail": ("at_most = 0.5", "at_most = 1", "can never fail"),
    "one side of two": (LIMIT, SLOPE + "{ at_least = 0.9 }", "'slope': near to 1"),
    "interval beside the ideal": (LIMIT, SLOPE + "{ at_least = 1.1, at_most = 1.2 }", "the best figure, 1,"),
    "neither correlation nor error": (LIMIT, "", "limits neither"),
    "missing requirement": ("fp16 = true", "", "require.fp16"),
    "missing name": ('name = "mine"', "", "'name'"),
    "not TOML": ("[require]", "[require", "not TOML"),
    "unknown precision": ('precision = "fp32"', 'precision = "unknown"', "unknown precision"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_policy_is_one_line_that_names_file_and_field(tmp_path: Path, fault: str) -> None:
    old, new, named = BROKEN[fault]
    assert SOUND.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(SOUND.replace(old, new))
    with pytest.raises(BadInput) as caught:
        load_policy(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kind_listed_twice_a_missing_file_and_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(BadInput, match="cannot be read"):
        load_policy(path)
    with pytest.raises(BadInput, match="cannot be read"):
        load_policy(tmp_path)
    path.write_text(SOUND + SOUND[SOUND.index("[[runs]]") :])
    with pytest.raises(BadInput, match="listed twice"):
        load_policy(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_policy(path)


def test_the_registry_and_the_policy_name_the_same_metrics() -> None:
    assert len(METRICS) == len(OUTPUT_METRICS) + len(SET_METRICS) + 1
    never = {"largest_absolute_error", "largest_relative_error", "input_signal"}
    never |= {"nearest_neighbour_agreement", "nearest_neighbour_margin"}
    limited = set().union(*(_limits(kind) for kind in KINDS))
    assert limited == set(METRICS) - never


def _limits(kind: RunKind) -> dict[str, Limit]:
    limits = POLICY.limits_of(kind)
    assert limits is not None
    return limits
