"""How far beyond the format a first overflow goes: by NumPy's own numbers, and where float32 has no such place."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf
from test_locate import DEPTH, MEASURED, WIDTH, X, device, graph_of, located, network

from fidelity.arithmetic.observe import Part
from fidelity.arithmetic.profile import load_profile
from fidelity.localisation.emulations import TRUTH, Emulation, emulated
from fidelity.localisation.overflowing import overflow_of
from fidelity.prediction.site import Site, headroom

LARGEST = 65504.0


def largest_square(gain: float) -> float:
    """The network of test_locate.py up to its square, in float64."""
    draw = np.random.Generator(np.random.Philox(5))
    stream = X.astype(np.float64)
    for _ in range(DEPTH):
        w = (draw.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32).astype(np.float64)
        s = draw.uniform(0.5, 1.5, (WIDTH,)).astype(np.float32).astype(np.float64)
        product = stream @ w.T
        stream = stream + product * (1 + erf(product / np.sqrt(2))) / 2 * s
    return float(np.max((stream * gain) ** 2))


@pytest.mark.parametrize("gain", [200.0, 400.0])
def test_what_an_overflow_needs_is_what_the_place_reaches_in_float64(gain: float, tmp_path: Path) -> None:
    graph = graph_of(network(gain=gain), tmp_path)
    found = overflow_of(*(emulated(graph, (), {"x": X}, profile) for profile in (MEASURED, load_profile(TRUTH))))
    assert found is not None
    assert (found.site.name, found.site.part, found.site.tensor) == ("MUL", "result", "square")
    assert found.site.magnitude == math.inf
    assert found.needed == pytest.approx(largest_square(gain), rel=1e-5)
    assert found.headroom == pytest.approx(math.log2(LARGEST / largest_square(gain)), abs=1e-4)
    assert found.headroom < 0


def test_the_answer_tells_it_in_numbers(tmp_path: Path) -> None:
    graph = graph_of(network(gain=400.0), tmp_path)
    found = located(graph, device(tmp_path), tmp_path)
    assert found.overflow is not None
    needed = largest_square(400.0)
    bits = math.log2(LARGEST / needed)
    assert found.evidence[1] == f"it needs {needed:.4g}, the format ends at 65504: headroom {bits:.2f} bits"
    assert found.culprit is not None
    assert graph.main.tensors[found.culprit.tensor].name == "square"


def test_where_nothing_overflows_there_is_none(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    assert overflow_of(*(emulated(graph, (), {"x": X}, profile) for profile in (MEASURED, load_profile(TRUTH)))) is None


def site(operator: int, part: Part, magnitude: float, non_finite: int = 0, saturated: int = 0) -> Site:
    return Site(
        operator=operator,
        name="SUM",
        tensor="t",
        module=None,
        part=part,
        largest_finite=LARGEST,
        magnitude=magnitude,
        headroom=headroom(LARGEST, magnitude),
        input="one",
        non_finite=non_finite,
        saturated=saturated,
    )


def test_the_first_in_execution_order_and_its_own_part_decide() -> None:
    expected = Emulation({}, {}, (site(1, "result", 9.0), site(2, "sum", math.inf, 3), site(2, "result", math.inf, 1)))
    wide = (site(1, "result", 9e9), site(2, "result", 4e5), site(2, "sum", 131008.0), site(3, "result", 1e9))
    found = overflow_of(expected, Emulation({}, {}, wide))
    assert found is not None
    assert (found.site.operator, found.site.part) == (2, "sum")
    assert (found.needed, found.headroom) == (131008.0, -1.0)


def test_where_float32_has_no_such_part_the_largest_of_the_operator_stands_for_it() -> None:
    expected = Emulation({}, {}, (site(2, "sum", math.inf, 3),))
    wide = (site(2, "product", 70000.0), site(2, "result", 262016.0), site(3, "sum", 1e9))
    found = overflow_of(expected, Emulation({}, {}, wide))
    assert found is not None
    assert (found.needed, found.headroom) == (262016.0, -2.0)


def test_where_float32_has_nothing_of_it_the_need_is_without_bounds() -> None:
    found = overflow_of(Emulation({}, {}, (site(2, "result", math.inf, 1),)), Emulation({}, {}, ()))
    assert found is not None
    assert (found.needed, found.headroom) == (math.inf, -math.inf)


def test_saturation_is_an_overflow_too() -> None:
    expected = Emulation({}, {}, (site(2, "result", LARGEST, saturated=2),))
    found = overflow_of(expected, Emulation({}, {}, (site(2, "result", 2 * LARGEST),)))
    assert found is not None
    assert (found.needed, found.headroom) == (2 * LARGEST, -1.0)
