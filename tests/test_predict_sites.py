"""Sites on tiny graphs whose every number is known: headroom inside operations, and where an overflow begins."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ai_edge_litert import schema_py_generated as schema
from tiny_models import overflowing

from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.cache import Cache
from fidelity.errors import BadInput
from fidelity.prediction.expected import Expected, expected_in_cache, load_expected
from fidelity.prediction.site import Site, by_danger, first_overflow, headroom
from fidelity.tflite.build import GraphBuilder

GPU = load_profile("mldrift-webgpu-lavapipe")
PHONE = load_profile("card-mali-opencl")  # sums in float16
Run = Callable[..., Expected]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Emulate a file on named inputs."""

    def emulate(model: bytes, profile: Profile = GPU, **inputs: np.ndarray) -> Expected:
        path = tmp_path / "tiny.tflite"
        path.write_bytes(model)
        folder = expected_in_cache(path, inputs, profile, Cache(tmp_path / "cache"), lambda _: None)
        return load_expected(folder)[0]

    return emulate


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32).reshape(1, 1, 1, -1)


def chain(*steps: tuple[str, str, str, str], inputs: int = 4) -> bytes:
    """Elementwise operators (kind, left, right, result) over x, with the constant `big` of 1000."""
    graph = GraphBuilder()
    for name in ("x", *(step[3] for step in steps)):
        graph.tensor(name, (1, 1, 1, inputs))
    graph.constant("big", [1000.0] * inputs)
    for kind, left, right, result in steps:
        graph.op(kind, [left, right], result, getattr(schema, f"{kind.title()}OptionsT")())
    return graph.build(["x"], [steps[-1][3]])


def mean(width: int) -> bytes:
    """MEAN over the last axis."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 1, 1, width))
    graph.tensor("y", (1, 1, 1, 1))
    graph.constant("axis", [3], "int32")
    options = schema.ReducerOptionsT()
    options.keepDims = True
    graph.op("MEAN", ["x", "axis"], "y", options)
    return graph.build(["x"], ["y"])


def named(expected: Expected) -> dict[tuple[str, str], Site]:
    return {(site.name, site.part): site for site in expected.sites}


def test_headroom_is_the_bits_to_the_largest_finite_value(run: Run) -> None:
    found = run(overflowing(), one=values(1, 2, 4, -128))
    site = named(found)["MUL", "result"]
    assert (site.operator, site.tensor, site.magnitude, site.input) == (0, "y", 16384, "one")
    assert site.headroom == math.log2(65504 / 16384)
    assert found.first_overflow is None
    assert named(found)["INPUT", "result"].magnitude == 128


def test_the_input_with_the_largest_magnitude_is_named(run: Run) -> None:
    found = run(overflowing(), small=values(1, 1, 1, 1), large=values(1, -9, 1, 1), middle=values(2, 2, 2, 2))
    site = named(found)["MUL", "result"]
    assert (site.input, site.magnitude) == ("large", 81)


@pytest.mark.parametrize(("magnitude", "bits"), [(65504, 0.0), (32752, 1.0), (0, math.inf), (math.inf, -math.inf)])
def test_headroom_at_the_edges(magnitude: float, bits: float) -> None:
    assert headroom(65504, magnitude) == bits
    assert headroom(65504, math.nan) == -math.inf


def test_a_sum_inside_a_mean_has_less_headroom_than_its_result(run: Run) -> None:
    found = run(mean(64), PHONE, one=np.full((1, 1, 1, 64), 900, np.float32))
    inner, result = named(found)["MEAN", "sum"], named(found)["MEAN", "result"]
    assert inner.magnitude > 50_000
    assert inner.headroom < 0.5
    assert result.headroom > 6
    assert found.sites[0].part != "result"
    ignoring = [site for site in found.sites if site.part == "result"]  # the mutant: results alone
    assert by_danger(ignoring)[0].headroom > 6


def test_an_overflow_inside_a_mean_is_found_on_the_phone_and_not_where_sums_are_wide(run: Run) -> None:
    x = np.full((1, 1, 1, 64), 2000, np.float32)
    phone = run(mean(64), PHONE, one=x)
    assert phone.first_overflow is not None
    assert phone.first_overflow.name == "MEAN"
    assert phone.first_overflow.part != "result"  # its sum, before there is a result
    assert phone.first_overflow.headroom == -math.inf
    gpu = run(mean(64), GPU, one=x)
    assert gpu.first_overflow is None
    assert named(gpu)["MEAN", "sum"].headroom > 100  # float32


TWICE = chain(
    ("MUL", "x", "big", "a"),  # 0: overflows for x past 65
    ("ADD", "a", "x", "b"),  # 1: passes infinity on
    ("MUL", "x", "x", "c"),  # 2: overflows for x past 256, from finite operands
    ("ADD", "b", "c", "d"),  # 3: passes both on
)


def test_the_first_overflow_is_the_first_in_execution_order_and_what_it_passes_on_is_not_counted(run: Run) -> None:
    found = run(TWICE, one=values(1, 100, 300, 2))
    assert found.first_overflow is not None
    assert (found.first_overflow.operator, found.first_overflow.non_finite) == (0, 2)
    begun = [(site.operator, site.non_finite) for site in found.sites if site.overflows]
    assert begun == [(0, 2), (2, 1)]  # the mutant that takes the last names operator 2
    assert found.sites[0] == found.first_overflow
    rest = {site.operator: site for site in found.sites if not site.overflows}
    assert rest[1].magnitude == 1000 * 2 + 2  # of what is finite there


def test_an_earlier_operator_decides_whatever_input_came_first(run: Run) -> None:
    late, early = values(0, 0, 0, -300), values(0, 70, 0, 0)
    for order in ({"late": late, "early": early}, {"early": early, "late": late}):
        found = run(TWICE, **order)
        assert found.first_overflow is not None
        assert found.first_overflow.operator == 0


def test_an_infinity_that_meets_another_is_not_counted_twice(run: Run) -> None:
    model = chain(("MUL", "x", "big", "a"), ("SUB", "a", "a", "b"))  # inf - inf is NaN
    found = run(model, one=values(100, 1, 1, 1))
    assert [site.operator for site in found.sites if site.overflows] == [0]


def test_movement_passes_an_overflow_on(run: Run) -> None:
    graph = GraphBuilder()
    for name, shape in (("x", (1, 1, 1, 4)), ("a", (1, 1, 1, 4)), ("b", (1, 4, 1, 1)), ("c", (1, 4, 1, 1))):
        graph.tensor(name, shape)
    graph.constant("shape", [1, 4, 1, 1], "int32")
    graph.op("MUL", ["x", "x"], "a", schema.MulOptionsT())
    graph.op("RESHAPE", ["a", "shape"], "b", schema.ReshapeOptionsT())
    graph.op("ADD", ["b", "b"], "c", schema.AddOptionsT())
    found = run(graph.build(["x"], ["c"]), one=values(300, 1, 1, 1))
    assert [(s.operator, s.overflows) for s in found.sites if s.operator is not None] == [(0, True), (2, False)]
    assert "RESHAPE" not in {site.name for site in found.sites}  # it computes nothing


def test_a_sum_that_saturates_is_an_overflow_too(run: Run) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (1, 1, 1, 64))
    graph.tensor("y", (1, 1, 1, 1))
    graph.constant("axis", [3], "int32")
    options = schema.ReducerOptionsT()
    options.keepDims = True
    graph.op("SUM", ["x", "axis"], "y", options)
    found = run(graph.build(["x"], ["y"]), one=np.full((1, 1, 1, 64), 2000, np.float32))
    assert found.first_overflow is not None
    assert (found.first_overflow.part, found.first_overflow.saturated, found.first_overflow.non_finite) == (
        "result",
        1,
        0,
    )
    assert "saturate" in found.first_overflow.told()


def test_an_input_beyond_float16_overflows_before_any_operator(run: Run) -> None:
    found = run(overflowing(), one=values(1e6, 1, 1, 1))
    assert found.first_overflow is not None
    assert found.first_overflow.operator is None
    assert found.first_overflow.place == "input result (x)"
    assert [site.operator for site in found.sites if site.overflows] == [None]


def test_an_operation_that_is_lacking_is_named_with_its_index_and_the_rest_reported(run: Run) -> None:
    graph = GraphBuilder()
    for name in ("x", "a", "b", "c", "d"):
        graph.tensor(name, (1, 1, 1, 4))
    graph.constant("axis", 3, "int32")
    graph.op("MUL", ["x", "x"], "a", schema.MulOptionsT())
    graph.op("CUMSUM", ["a", "axis"], "b", schema.CumsumOptionsT())
    graph.op("ADD", ["b", "b"], "c", schema.AddOptionsT())
    graph.op("ADD", ["a", "x"], "d", schema.AddOptionsT())
    found = run(graph.build(["x"], ["c"]), one=values(300, 1, 1, 1))
    (lacking,) = found.lacking
    assert (lacking.operator, lacking.name) == (1, "CUMSUM")
    assert found.unreached == 1
    assert found.outputs == ()
    assert "op 1 CUMSUM" in (found.lacks or "")
    assert {site.operator for site in found.sites} == {None, 0, 3}
    assert found.first_overflow is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_input_that_is_not_finite_is_refused(run: Run, bad: float) -> None:
    with pytest.raises(BadInput, match="NaN or Inf"):
        run(overflowing(), one=values(1, bad, 1, 1))


def test_what_is_stored_is_checked_when_it_is_read(run: Run, tmp_path: Path) -> None:
    run(overflowing(), one=values(1, 2, 3, 4))
    (stored,) = (tmp_path / "cache/expected").glob("*/outputs/*.raw")
    content = stored.read_bytes()
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadInput, match="sha256"):
        load_expected(stored.parents[1])


def test_expected_outputs_are_emulated_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(overflowing(), one=values(1, 2, 3, 4))
    monkeypatch.setattr("fidelity.prediction.expected.Emulator.run", lambda *_: pytest.fail("emulated again"))
    assert run(overflowing(), one=values(1, 2, 3, 4)) == first


def site(operator: int, bits: float, **changes: object) -> Site:
    fields = {"operator": operator, "name": "ADD", "tensor": "t", "module": None, "part": "result", "input": "a"}
    return Site.model_validate(fields | {"largest_finite": 65504.0, "magnitude": 1.0, "headroom": bits} | changes)


def test_danger_orders_overflows_as_they_happen_and_the_rest_by_headroom() -> None:
    sites = (site(0, 3.0), site(1, -math.inf, non_finite=1), site(2, 0.5), site(3, 0.0, saturated=4), site(4, math.inf))
    assert [each.operator for each in by_danger(sites)] == [1, 3, 2, 0, 4]
    first, last = first_overflow(sites), first_overflow(sites[::-1])  # the mutant that picks the last
    assert first is not None
    assert last is not None
    assert (first.operator, last.operator) == (1, 3)
    assert first_overflow(sites[:1]) is None
