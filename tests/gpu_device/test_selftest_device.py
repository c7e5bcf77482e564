"""The selftest on the real delegate, with few faults and seeds: all are caught, where they are, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fidelity.cache import Cache
from fidelity.comparison.policy import load_policy
from fidelity.devices.discovery import Device
from fidelity.progress import Reporter
from fidelity.selftest.records import SelftestReport
from fidelity.selftest.selftest import Asked, selftest

pytest.importorskip("torch")
pytest.importorskip("litert_torch")
pytestmark = pytest.mark.gpu_device

IMAGES = Path(__file__).parents[2] / "golden/images"
FAULTS = ("overflow", "wrong_softmax_axis", "rounded_twice", "cpu_bits", "non_resident")


@pytest.fixture(scope="module")
def found(gpu: Device) -> SelftestReport:
    asked = Asked(seeds=1, devices=("cpu", gpu.spec), only=FAULTS, images=IMAGES)
    return selftest(asked, load_policy(), Cache(), Reporter())


def test_everything_is_caught_and_nothing_clean_fails(found: SelftestReport) -> None:
    assert found.missed == ()
    assert found.false_alarms == ()
    assert found.passed
    assert {(row.seed, row.device) for row in found.clean} >= {(0, "model"), (0, "cpu")}


def test_the_faults_are_in_every_place_that_can_have_them(found: SelftestReport) -> None:
    planted = {(row.fault, row.place) for row in found.faults}
    assert planted == {
        ("overflow", "model"),
        ("overflow", "artefact"),
        ("overflow", "device"),
        ("overflow", "output"),
        ("wrong_softmax_axis", "model"),
        ("wrong_softmax_axis", "artefact"),
        ("wrong_softmax_axis", "device"),
        ("rounded_twice", "model"),
        ("rounded_twice", "artefact"),
        ("cpu_bits", "output"),
        ("non_resident", "output"),
    }


def test_each_is_located_where_it_was_planted(found: SelftestReport) -> None:
    located = [row for row in found.faults if row.place != "output"]
    assert [row for row in located if row.located is None or not row.located.exact] == []
    kinds = {(row.fault, row.place): row.located.kind for row in located if row.located and row.device != "cpu"}
    assert kinds["overflow", "model"] == kinds["overflow", "artefact"] == "overflow"
    assert kinds["wrong_softmax_axis", "artefact"] == "converter"
    assert kinds["wrong_softmax_axis", "device"] == "kernel"
    assert kinds["rounded_twice", "artefact"] == "weights"
