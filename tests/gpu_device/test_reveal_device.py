"""Reveal on the real delegate: from nothing, in time, and what it found is what the device does on fresh numbers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from fidelity.arithmetic.profile import Origin
from fidelity.arithmetic.reveal.evidence import Revealed
from fidelity.arithmetic.reveal.experiment import Experiment, Refusal, same
from fidelity.arithmetic.reveal.reveal import DEVICE_REACH, reveal
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.stress import noise
from fidelity.arithmetic.reveal.synthetic import arithmetic_of, predict
from fidelity.devices.discovery import Device
from fidelity.devices.probes import DeviceLaboratory

pytestmark = pytest.mark.gpu_device
LIMIT_SECONDS = 180  # of an otherwise idle machine
ORIGIN = Origin(kind="declared", source="a test", date="2026-11-25")


@pytest.fixture(scope="module")
def laboratory(gpu: Device, tmp_path_factory: pytest.TempPathFactory) -> DeviceLaboratory:
    return DeviceLaboratory(gpu, tmp_path_factory.mktemp("probes"))


@pytest.fixture(scope="module")
def found(laboratory: DeviceLaboratory) -> tuple[Revealed, float]:
    started = time.monotonic()
    return reveal(laboratory, DEVICE_REACH, "gpu", ORIGIN), time.monotonic() - started


def test_every_common_kind_has_a_rule_in_time(found: tuple[Revealed, float]) -> None:
    revealed, seconds = found
    missing = {"ADD", "MUL", "RSQRT", "GELU", "FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "SUM", "MEAN", "SOFTMAX"}
    assert missing - set(revealed.profile.rules) == set(), revealed.untold
    assert seconds < LIMIT_SECONDS


@pytest.mark.parametrize("kind", ["FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL"])
def test_products_are_predicted_to_the_bit(
    kind: str, found: tuple[Revealed, float], laboratory: DeviceLaboratory
) -> None:
    generator = np.random.Generator(np.random.Philox())
    arithmetic = arithmetic_of(found[0].profile)
    experiments = []
    for rows, columns in ((4, 100), (16, 2044), (16, 2048), (17, 2048), (50, 64)):
        terms = 4 * int(generator.integers(8, 32))
        x, w = generator.standard_normal((rows, terms)), generator.standard_normal((columns, terms))
        experiments.append(Site(kind).product(x.astype(np.float32), w.astype(np.float32)))
    agree(laboratory, arithmetic, experiments)


@pytest.mark.parametrize("kind", ["SUM", "MEAN"])
@pytest.mark.parametrize("last_axis", [True, False])
def test_sums_are_predicted_to_the_bit(
    kind: str, last_axis: bool, found: tuple[Revealed, float], laboratory: DeviceLaboratory
) -> None:
    generator = np.random.Generator(np.random.Philox())
    site = Site(kind, last_axis)
    sizes = [int(generator.integers(5, 1200)) for _ in range(4)]
    experiments = [one for terms in sizes for one in site.experiments(Shape(16, 1, terms), noise(terms)[::9])]
    agree(laboratory, arithmetic_of(found[0].profile), experiments)


def agree(laboratory: DeviceLaboratory, arithmetic: object, experiments: list[Experiment]) -> None:
    for experiment, seen in zip(experiments, laboratory.run(experiments), strict=True):
        assert not isinstance(seen, Refusal), seen
        expected = predict(arithmetic, experiment)  # type: ignore[arg-type]
        shapes = [x.shape for x in (*experiment.runtime, *experiment.constant)]
        assert same(seen, expected), f"{experiment.kind} of {shapes}: {int((seen != expected).sum())} differ"


def test_a_refused_kind_is_a_refusal_and_the_rest_is_answered(laboratory: DeviceLaboratory) -> None:
    x = np.ones((1, 1, 2, 4), np.float32)
    refused = Experiment("CONV_2D", (x,), (np.ones((3, 1, 1, 4), np.float32),))  # without a bias
    first, second = laboratory.run([refused, Experiment("ADD", (x, x))])
    assert isinstance(first, Refusal)
    assert not isinstance(second, Refusal)
    assert second.flat[0] == 2


def test_jobs_leave_nothing_behind(laboratory: DeviceLaboratory) -> None:
    assert list(Path(laboratory.folder).iterdir()) == []
