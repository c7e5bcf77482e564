"""Which format a site's numbers are held in: read from the profile's rule for that very part."""

from __future__ import annotations

import numpy as np
import pytest

from fidelity.arithmetic.float16 import LARGEST, Conversion
from fidelity.arithmetic.observe import Part
from fidelity.arithmetic.profile import Origin, Profile, load_profile
from fidelity.arithmetic.rules import Case as OrderCase
from fidelity.arithmetic.rules import (
    Elementwise,
    Function,
    LayerNorm,
    MeanCase,
    Product,
    Reduction,
    Rule,
    Share,
    Softmax,
)
from fidelity.arithmetic.summation import Accumulator
from fidelity.prediction.held import SINGLE, Held, held, held_input

NEAREST, TRUNCATED = Conversion(), Conversion("toward_zero", "saturate")
HALF, SATURATED = Held(LARGEST), Held(LARGEST, saturates=True)
NARROW, WIDE = Accumulator("float16"), Accumulator("float32")
CASES = (MeanCase(),)


def profile(kind: str, rule: Rule, inputs: Conversion | None = NEAREST) -> Profile:
    origin = Origin(kind="declared", source="the tests", date="2026-11-25")
    return Profile(name="p", title="p", origin=origin, inputs=inputs, rules={kind: rule})


TABLE: list[tuple[str, Rule, Part, Held]] = [
    ("ADD", Elementwise(stored=NEAREST), "result", HALF),
    ("ADD", Elementwise(), "result", SINGLE),
    ("SQUARED_DIFFERENCE", Elementwise(steps=NEAREST, stored=None), "difference", HALF),
    ("SQUARED_DIFFERENCE", Elementwise(steps=None, stored=NEAREST), "difference", SINGLE),
    ("SQUARED_DIFFERENCE", Elementwise(steps=None, stored=NEAREST), "result", HALF),
    ("RSQRT", Function(stored=TRUNCATED), "result", SATURATED),
    ("FULLY_CONNECTED", Product(accumulator=WIDE, stored=NEAREST), "sum", SINGLE),
    ("FULLY_CONNECTED", Product(accumulator=WIDE, stored=NEAREST), "result", HALF),
    ("BATCH_MATMUL", Product(accumulator=NARROW, cases=(OrderCase(),)), "sum", HALF),
    ("BATCH_MATMUL", Product(accumulator=NARROW, cases=(OrderCase(),)), "product", HALF),
    ("BATCH_MATMUL", Product(accumulator=NARROW, cases=(OrderCase(),)), "result", SINGLE),
    ("MEAN", Reduction(accumulator=NARROW, last_axis=CASES, other_axis=CASES), "sum", HALF),
    ("MEAN", Reduction(accumulator=WIDE, last_axis=CASES, other_axis=CASES, stored=TRUNCATED), "sum", SINGLE),
    ("MEAN", Reduction(accumulator=WIDE, last_axis=CASES, other_axis=CASES, stored=TRUNCATED), "mean", SINGLE),
    ("SUM", Reduction(accumulator=WIDE, last_axis=CASES, other_axis=CASES, stored=TRUNCATED), "result", SATURATED),
    ("LAYER_NORM", LayerNorm(cases=(OrderCase(),), stored=NEAREST), "sum", SINGLE),
    ("LAYER_NORM", LayerNorm(cases=(OrderCase(),), stored=NEAREST), "result", HALF),
    ("SOFTMAX", Softmax(steps=NEAREST, shares=(Share(),)), "power", HALF),
    ("SOFTMAX", Softmax(steps=NEAREST, shares=(Share(),)), "difference", HALF),
    ("SOFTMAX", Softmax(steps=NEAREST, shares=(Share(),)), "sum", SINGLE),
    ("SOFTMAX", Softmax(accumulator=NARROW, shares=(Share(),)), "sum", HALF),
    ("SOFTMAX", Softmax(accumulator=NARROW, shares=(Share(),)), "peak", HALF),
    ("BATCH_MATMUL", Product(accumulator=NARROW, cases=(OrderCase(),)), "peak", HALF),
    ("SOFTMAX", Softmax(shares=(Share(stored=TRUNCATED),)), "result", SATURATED),
    ("SOFTMAX", Softmax(passes="online", shares=(Share(quotient=NEAREST),)), "greatest", SINGLE),
    ("SOFTMAX", Softmax(passes="online", shares=(Share(quotient=NEAREST),)), "power", HALF),
    ("SOFTMAX", Softmax(shares=(Share(quotient=NEAREST),)), "share", HALF),
]


@pytest.mark.parametrize("number", range(len(TABLE)), ids=lambda n: f"{TABLE[n][0]}-{TABLE[n][2]}-{n}")
def test_the_format_of_a_part_is_that_of_its_rule(number: int) -> None:
    kind, rule, part, expected = TABLE[number]
    assert held(profile(kind, rule), kind, part) == expected


def test_of_several_formats_by_shape_the_narrowest_is_told() -> None:
    few = Share(when={"rows": {"at_most": 9}}, stored=NEAREST)  # type: ignore[dict-item]
    assert held(profile("SOFTMAX", Softmax(shares=(few, Share()))), "SOFTMAX", "result") == HALF


def test_what_has_no_rule_holds_what_flows() -> None:
    flows = profile("ADD", Elementwise(stored=NEAREST))
    assert held(flows, "RESHAPE", "result") == HALF == held_input(flows)
    wide = profile("ADD", Elementwise(), inputs=None)
    assert held(wide, "RESHAPE", "result") == SINGLE == held_input(wide)
    assert np.finfo(np.float32).max == SINGLE.largest


def test_the_shipped_profiles() -> None:
    gpu = load_profile("mldrift-webgpu-lavapipe")
    assert held(gpu, "MEAN", "sum") == SINGLE
    assert held(gpu, "MEAN", "result").saturates
    assert held(gpu, "FULLY_CONNECTED", "sum") == HALF
    assert held(gpu, "SQUARED_DIFFERENCE", "result") == HALF
    phone = load_profile("card-mali-opencl")
    assert held(phone, "MEAN", "sum").largest == LARGEST
    wide = load_profile("ieee-fp32")
    assert all(held(wide, kind, "result") == SINGLE for kind in wide.rules)
