"""Reveal on the real delegate: from nothing, and what it found is what the device does on fresh numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fidelity.arithmetic.profile import Origin, load_profile
from fidelity.arithmetic.reveal.compare import differences
from fidelity.arithmetic.reveal.evidence import Revealed
from fidelity.arithmetic.reveal.experiment import Experiment, Refusal, same
from fidelity.arithmetic.reveal.reveal import DEVICE_REACH, reveal
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.stress import noise
from fidelity.arithmetic.reveal.synthetic import arithmetic_of, predict
from fidelity.arithmetic.rules import Product
from fidelity.devices.discovery import Device
from fidelity.devices.probes import DeviceLaboratory

pytestmark = pytest.mark.gpu_device
MEASURED = "llvmpipe Mesa 25."  # the driver that a profile is shipped for
NOT_TOLD = ("BATCH_MATMUL", "LAYER_NORM")  # transposed products; test_reveal_company_device.py
ORIGIN = Origin(kind="declared", source="a test", date="2026-11-25")


@pytest.fixture(scope="module")
def laboratory(gpu: Device, tmp_path_factory: pytest.TempPathFactory) -> DeviceLaboratory:
    return DeviceLaboratory(gpu, tmp_path_factory.mktemp("probes"))


@pytest.fixture(scope="module")
def found(laboratory: DeviceLaboratory) -> Revealed:
    return reveal(laboratory, DEVICE_REACH, "gpu", ORIGIN)


def test_every_common_kind_has_a_rule(found: Revealed) -> None:
    missing = {"ADD", "MUL", "RSQRT", "GELU", "FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "SUM", "MEAN", "SOFTMAX"}
    assert missing - set(found.profile.rules) == set(), found.untold


def test_the_shipped_profile_is_what_reveal_finds(gpu: Device, found: Revealed) -> None:
    if MEASURED not in str(gpu.info.driver):
        pytest.skip(f"no profile is shipped for {gpu.info.driver}")
    shipped = arithmetic_of(load_profile("mldrift-webgpu-lavapipe"))
    alone = {"merges_before": (), "merges_after": ()}  # what is taken into weights, only company tells
    rules = {
        kind: rule.model_copy(update=alone if isinstance(rule, Product) else {}) for kind, rule in shipped.rules.items()
    }
    told = replace(shipped, rules={kind: rule for kind, rule in rules.items() if kind not in NOT_TOLD})
    assert differences(told, arithmetic_of(found.profile), DEVICE_REACH) == []


@pytest.mark.parametrize("kind", ["FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL"])
def test_products_are_predicted_to_the_bit(kind: str, found: Revealed, laboratory: DeviceLaboratory) -> None:
    generator = np.random.Generator(np.random.Philox())
    arithmetic = arithmetic_of(found.profile)
    experiments = []
    for rows, columns in ((4, 100), (16, 2044), (16, 2048), (17, 2048), (50, 64)):
        terms = 4 * int(generator.integers(8, 32))
        x, w = generator.standard_normal((rows, terms)), generator.standard_normal((columns, terms))
        experiments.append(Site(kind).product(x.astype(np.float32), w.astype(np.float32)))
    agree(laboratory, arithmetic, experiments)


@pytest.mark.parametrize("kind", ["SUM", "MEAN"])
@pytest.mark.parametrize("last_axis", [True, False])
def test_sums_are_predicted_to_the_bit(
    kind: str, last_axis: bool, found: Revealed, laboratory: DeviceLaboratory
) -> None:
    generator = np.random.Generator(np.random.Philox())
    site = Site(kind, last_axis)
    sizes = [int(generator.integers(5, 1200)) for _ in range(4)]
    experiments = [one for terms in sizes for one in site.experiments(Shape(16, 1, terms), noise(terms)[::9])]
    agree(laboratory, arithmetic_of(found.profile), experiments)


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
