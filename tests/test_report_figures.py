"""No figure shows as another: not as the ideal, not on the other side of its limit, not rounded wrong."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.comparison.policy import Limit
from fidelity.report.figures import (
    chosen_text,
    figure_text,
    limit_text,
    megabytes,
    metric_figure,
    stored_text,
    whole,
)
from fidelity.report.printable import LONGEST, printable

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NEAR_ONE = st.floats(min_value=-18, max_value=1).map(lambda exponent: 1 - 10**exponent)
IDEAL = st.sampled_from([0.0, 1.0])


def half_a_unit(text: str) -> float:
    """Half of the last digit that the text shows."""
    mantissa, _, exponent = text.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


@given(FINITE | NEAR_ONE, IDEAL)
def test_the_text_is_the_value_rounded_at_its_last_digit(value: float, ideal: float) -> None:
    text = figure_text(value, ideal=ideal)
    # 4 ulp: the text's own conversion, the power of ten and the subtraction each round once
    assert abs(float(text) - value) <= half_a_unit(text) + 4 * math.ulp(value)


@given(FINITE | NEAR_ONE, IDEAL)
def test_only_the_ideal_shows_as_the_ideal(value: float, ideal: float) -> None:
    assert (float(figure_text(value, ideal=ideal)) == ideal) == (value == ideal)


@given(NEAR_ONE | st.floats(-2, 2), st.floats(-2, 2), IDEAL)
def test_the_text_is_on_the_values_side_of_the_limit(value: float, bound: float, ideal: float) -> None:
    for limit in (Limit(at_least=bound), Limit(at_most=bound)):
        shown = float(figure_text(value, ideal=ideal, limit=limit))
        assert (limit.excess(shown) <= 0) == (limit.excess(value) <= 0)


@pytest.mark.parametrize(
    ("value", "ideal", "text"),
    [
        (0.999983, 1.0, "0.9999830"),
        (1.0, 1.0, "1"),
        (1 - 2**-53, 1.0, "0.999999999999999889"),
        (0.28344, 1.0, "0.283"),
        (-0.0053845, 1.0, "-0.00538"),
        (0.0, 0.0, "0"),
        (1.5e-6, 0.0, "1.50e-6"),
        (148.77, 0.0, "149"),
        (1e300, 1.0, "1.00e300"),
        (math.nan, 1.0, "NaN"),
        (math.inf, 0.0, "Infinity"),
        (-math.inf, 0.0, "-Infinity"),
    ],
)
def test_texts(value: float, ideal: float, text: str) -> None:
    assert figure_text(value, ideal=ideal) == text


def test_a_near_miss_of_a_limit_is_told() -> None:
    limit = Limit(at_least=0.9999)
    # three digits of 1 - r would round it to 0.999900, the limit itself
    assert figure_text(0.99989999, ideal=1.0, limit=limit) == "0.99989999"
    assert figure_text(0.99989999, ideal=1.0) == "0.999900"


def test_the_stored_number_stands_in_the_element() -> None:
    assert metric_figure("correlation", 0.9999830123) == '<data value="0.9999830123">0.9999830</data>'
    assert metric_figure("relative_l2", 0.005832) == '<data value="0.005832">0.00583</data>'
    assert metric_figure("input_signal", 0.99998) == '<data value="0.99998">1.00</data>'
    assert whole(93671424) == '<data value="93671424">93\u202f671\u202f424</data>'
    assert megabytes(186_512_345) == '<data value="186512345" data-unit="1e6">186.5</data> MB'
    assert re.findall(r'"([^"]+)"', limit_text(Limit(at_least=0.9, at_most=1.1))) == ["0.9", "1.1"]


@given(FINITE)
def test_a_chosen_number_reads_back_exactly(value: float) -> None:
    assert float(chosen_text(value)) == value
    assert float(stored_text(value)) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name", "plain name"),
        ("line\nbreak\ttab", "line\nbreak\ttab"),
        ("\x00\x1b[2J\r\x7f", "\\x00\\x1b[2J\\x0d\\x7f"),
        ("\u202etxt.exe\u2066\ufeff\u200b", "\\u202etxt.exe\\u2066\\ufeff\\u200b"),
        ("\ud800\uffff\U000e0041", "\\ud800\\uffff\\U000e0041"),
        ("žluťoučký 犬 🐶", "žluťoučký 犬 🐶"),
    ],
)
def test_unfit_characters_become_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_cut_is_told_with_the_full_length() -> None:
    assert printable("x" * (LONGEST + 1)) == "x" * LONGEST + f"... ({LONGEST + 1} characters)"
    assert printable("x" * LONGEST) == "x" * LONGEST


@given(st.text())
def test_what_is_printable_can_stand_in_xml(text: str) -> None:
    # XML 1.0, production 2
    allowed = re.compile("[\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
    assert allowed.fullmatch(printable(text))
    assert printable(printable(text)) == printable(text) or len(text) > LONGEST
