"""Rules in company of synthetic devices, drawn at random, are revealed: the same numbers on fresh shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from company_devices import EmulatedCompany, alone, drawn

from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.arithmetic.reveal.company import graphs
from fidelity.arithmetic.reveal.company.company import reveal_company
from fidelity.arithmetic.reveal.company.graphs import Company
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Refusal, Result
from fidelity.arithmetic.rules import LAYER_NORM, SOFTMAX, Product, Softmax

BASE = load_profile("mldrift-webgpu-lavapipe")
SHAPES = ((1, 40), (2, 333), (9, 128), (30, 256), (64, 100), (333, 48), (600, 130), (1000, 24))


def revealed(device: Profile, folder: Path, *, wide: bool = True) -> tuple[Profile, Findings]:
    findings = Findings()
    return reveal_company(alone(device), EmulatedCompany(device, folder, wide), findings), findings


def fresh(seed: int) -> list[Company]:
    """Softmaxes and LayerNorms, alone and read, at both precisions."""
    generator = np.random.Generator(np.random.Philox(seed))
    found: list[Company] = []
    for rows, terms in SHAPES:
        x = generator.standard_normal((1, rows, terms)).astype(np.float16).astype(np.float32)
        for read in (False, True):
            found += [graphs.norm(x, 1e-5, read=read), graphs.softmax(x[np.newaxis], read=read)]
        found += [graphs.norm(x, 1e-5, wide=True), graphs.softmax(x[np.newaxis], wide=True)]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_drawn_device_is_revealed(seed: int, tmp_path: Path) -> None:
    device = drawn(seed, BASE)
    found, findings = revealed(device, tmp_path)
    for kind in ("FULLY_CONNECTED", "CONV_2D"):
        wanted, rule = device.rules[kind], found.rules[kind]
        assert isinstance(wanted, Product)
        assert isinstance(rule, Product)
        assert (rule.merges_before, rule.merges_after) == (wanted.merges_before, wanted.merges_after)
    assert (LAYER_NORM in found.rules) == (LAYER_NORM in device.rules)
    asked = [graph for graph in fresh(seed) if LAYER_NORM in device.rules or not (graph.wide and len(graph.nodes) > 2)]
    expected, got = (EmulatedCompany(each, tmp_path).run(asked) for each in (device, found))
    wrong = [
        f"{graph.name} {graph.shapes[0]}"
        for graph, one, other in zip(asked, expected, got, strict=True)
        if isinstance(one, Refusal) or isinstance(other, Refusal) or not np.array_equal(one, other)
    ]
    assert not wrong, (wrong, findings.untold)


def test_without_float32_precision_only_the_orders_stay_untold(tmp_path: Path) -> None:
    found, findings = revealed(BASE, tmp_path, wide=False)
    softmax = found.rules[SOFTMAX]
    assert isinstance(softmax, Softmax)
    assert LAYER_NORM not in found.rules
    assert not softmax.shared
    assert found.rules["FULLY_CONNECTED"] == BASE.rules["FULLY_CONNECTED"]
    assert sum("no float32 precision" in gap for gap in findings.untold) == 2


def test_a_device_that_gives_nan_leaves_gaps(tmp_path: Path) -> None:
    class Broken(EmulatedCompany):
        def run(self, graphs: object) -> list[Result]:
            return [np.full_like(result, np.nan) for result in super().run(graphs)]  # type: ignore[arg-type]

    findings = Findings()
    found = reveal_company(alone(BASE), Broken(BASE, tmp_path), findings)
    assert found == alone(BASE)
    assert len(findings.untold) >= 4
