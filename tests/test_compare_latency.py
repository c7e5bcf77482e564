"""Latency from a list of seconds: warm-up, steadiness, spread and throttling, on lists whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.comparison.latency import FEWEST, latency
from fidelity.errors import BadInput


def noisy(count: int, level: float = 0.1, seed: int = 0) -> list[float]:
    generator = np.random.Generator(np.random.Philox(seed))
    return list(level * (1 + 0.01 * generator.standard_normal(count)))


def test_equal_runs_are_steady_from_the_first() -> None:
    found = latency([0.25] * 20)
    assert (found.runs, found.steady_from, found.best, found.median, found.p95) == (20, 0, 0.25, 0.25, 0.25)
    assert (found.spread, found.drift, found.drifts) == (0.0, 0.0, False)


@pytest.mark.parametrize("warmup", [1, 2, 3, 7])
def test_warm_up_is_left_out(warmup: int) -> None:
    slow = [8.0 / 2**n for n in range(warmup)]
    found = latency([*slow, *noisy(30)])
    assert found.steady_from == warmup
    assert found.median == pytest.approx(0.1, rel=0.01)
    assert found.p95 < 0.11


def test_the_best_run_is_the_best_of_all() -> None:
    assert latency([0.01, *noisy(20)]).best == 0.01


def test_never_steady_is_told_and_the_later_half_counts() -> None:
    times = [2.0 ** (-n / 4) for n in range(24)]
    found = latency(times)
    assert (found.steady, found.steady_from) == (False, None)
    assert found.median == pytest.approx(np.median(times[12:]))


def test_throttling_is_flagged_and_noise_is_not() -> None:
    rising = [0.1 * (1 + 0.01 * n) for n in range(40)]
    found = latency(rising)
    assert found.drifts
    assert found.drift == pytest.approx(0.39 / 1.195, rel=0.01)
    assert sum(latency(noisy(40, seed=seed)).drifts for seed in range(50)) == 0


def test_a_small_certain_drift_does_not_count() -> None:
    found = latency([0.1 * (1 + 0.0005 * n) for n in range(40)])
    assert 0 < found.drift < 0.05
    assert not found.drifts


def test_the_spread_is_the_middle_half() -> None:
    found = latency([1.0, 1.02, 1.04, 1.0, 1.02, 1.04, 1.0, 1.02, 1.04, 1.0, 1.02, 1.04])
    assert found.spread == pytest.approx(0.04 / 1.02, rel=0.3)


@pytest.mark.parametrize("times", [[0.1] * (FEWEST - 1), [0.1] * 10 + [float("nan")], [0.1] * 10 + [0.0]])
def test_too_few_or_impossible_times_are_refused(times: list[float]) -> None:
    with pytest.raises(BadInput, match=r"timed runs|positive"):
        latency(times)


@given(st.lists(st.floats(1e-6, 1e3), min_size=FEWEST, max_size=60), st.sampled_from([2.0**-10, 0.5, 4.0, 1024.0]))
def test_figures_scale_with_the_unit(times: list[float], unit: float) -> None:
    one, other = latency(times), latency([unit * t for t in times])
    assert other.median == pytest.approx(unit * one.median)
    assert other.spread == pytest.approx(one.spread, abs=1e-9)
    assert one.best <= one.median <= one.p95 * (1 + 1e-12)
