"""Rules in company found on the real delegate are the shipped profile's, in bits on shapes drawn for this run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fidelity.arithmetic.profile import load_profile
from fidelity.arithmetic.reveal.company import graphs
from fidelity.arithmetic.reveal.company.company import reveal_company
from fidelity.arithmetic.reveal.company.graphs import Company
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.rules import LAYER_NORM, LayerNorm, Product
from fidelity.devices.company_probes import DeviceCompany
from fidelity.devices.discovery import Device

sys.path.insert(0, str(Path(__file__).parents[1] / "property"))
from company_devices import EmulatedCompany, alone

pytestmark = pytest.mark.gpu_device
PROFILE = "mldrift-webgpu-lavapipe"
MEASURED = "llvmpipe Mesa 25."


def drawn(generator: np.random.Generator) -> list[Company]:
    """Softmaxes and LayerNorms of any rows and terms, small and large, alone and read by another."""
    found: list[Company] = []
    for most in (8, 32, 128, 300, 1100):
        for _ in range(12):
            rows, terms = int(generator.integers(1, most)), int(generator.integers(2, 1200 if most < 200 else 300))
            x = generator.standard_normal((1, rows, terms)).astype(np.float16).astype(np.float32)
            read = bool(generator.integers(2))
            found += [graphs.norm(x, 1e-5, read=read), graphs.softmax(x[np.newaxis], read=read)]
    return found


@pytest.fixture
def laboratory(gpu: Device, tmp_path: Path) -> DeviceCompany:
    """The device, if the shipped profile is its own."""
    if MEASURED not in str(gpu.info.driver):
        pytest.skip(f"{PROFILE} was not measured on {gpu.info}")
    return DeviceCompany(gpu, tmp_path)


def test_what_is_found_is_the_shipped_profile(laboratory: DeviceCompany, tmp_path: Path) -> None:
    shipped, findings = load_profile(PROFILE), Findings()
    found = reveal_company(alone(shipped), laboratory, findings)
    assert findings.untold == []
    for kind in ("FULLY_CONNECTED", "CONV_2D"):
        rule, wanted = found.rules[kind], shipped.rules[kind]
        assert isinstance(rule, Product)
        assert rule == wanted
    norm, wanted = found.rules[LAYER_NORM], shipped.rules[LAYER_NORM]
    assert isinstance(norm, LayerNorm)
    assert isinstance(wanted, LayerNorm)
    assert norm.variance == wanted.variance
    seed = int(np.random.default_rng().integers(1 << 32))
    asked = drawn(np.random.Generator(np.random.Philox(seed)))
    seen = laboratory.run(asked)
    for profile in (shipped, found):
        expected = EmulatedCompany(profile, tmp_path).run(asked)
        wrong = [
            f"{graph.name} {graph.shapes[0]}"
            for graph, one, other in zip(asked, seen, expected, strict=True)
            if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.array_equal(one, other))
        ]
        assert not wrong, (seed, profile.name, wrong)
