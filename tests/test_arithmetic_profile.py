"""A profile that is half understood predicts another device: what its schema does not know is refused by name.

And the words of a rule that decide which order a shape gets: ranges, and the first case that holds.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from fidelity.arithmetic.order import Order
from fidelity.arithmetic.profile import load_profile, shipped
from fidelity.arithmetic.rules import Case, Range, Share, chosen
from fidelity.errors import BadInput

SMALL = {"rows": {"at_most": 2}}
ANY: dict[str, Any] = {"order": {}}
SHARED = {"order": {"lanes": 4, "parts": 8}}


def written(folder: Path, path: tuple[str | int, ...], value: Any) -> str:
    """The measured profile with one thing in it changed, as a file."""
    document = json.loads((files("fidelity.arithmetic") / "profiles" / "mldrift-webgpu-lavapipe.json").read_text())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    target = folder / "profile.json"
    target.write_text(json.dumps(document))
    return str(target)


REFUSED: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "kind": (("rules", "SINE"), {"rule": "elementwise"}, "unknown op kind 'SINE'"),
    "rule of another kind": (("rules", "ADD"), {"rule": "function"}, "ADD takes the rule 'elementwise'.* 'function'"),
    "rule": (("rules", "ADD", "rule"), "sums", "'rules.ADD'"),
    "field": (("rules", "ADD", "round"), 1, "rules.ADD.elementwise.round"),
    "conversion": (("inputs", "rounding"), "stochastic", "'inputs.rounding'"),
    "word of an order": (("rules", "CONV_2D", "cases"), [{"order": {"combine": "spiral"}}], "order.combine"),
    "field of an order": (("rules", "CONV_2D", "cases"), [{"order": {"lane": 4}}], "order.lane"),
    "number of an order": (("rules", "CONV_2D", "cases"), [{"order": {"parts": 0}}], "counts from 1 on"),
    "group of one": (("rules", "CONV_2D", "cases"), [{"order": {"combine": [8, 1]}}], "order.combine"),
    "single dotted lane": (("rules", "CONV_2D", "cases"), [{"order": {"dotted": True}}], "dotted slices have"),
    "dotted lanes apart": (
        ("rules", "CONV_2D", "cases"),
        [{"order": {"dotted": True, "lanes": 4, "lanes_apart": True}}],
        "dotted slices have",
    ),
    "joined lanes first": (
        ("rules", "CONV_2D", "cases"),
        [{"order": {"lanes": 4, "first": "lanes"}}],
        "cannot be combined first",
    ),
    "variable": (("rules", "CONV_2D", "cases"), [{"when": {"depth": {"at_most": 2}}}, ANY], "when.depth"),
    "empty range": (("rules", "CONV_2D", "cases"), [{"when": {"rows": {}}}, ANY], "a range needs at_least"),
    "range upside down": (
        ("rules", "CONV_2D", "cases"),
        [{"when": {"rows": {"at_least": 3, "at_most": 2}}}, ANY],
        "from 3 to 2 holds nothing",
    ),
    "open cases": (("rules", "CONV_2D", "cases"), [{"when": SMALL, **ANY}], "last case must have no condition"),
    "unreachable case": (("rules", "CONV_2D", "cases"), [ANY, ANY], "must be the last"),
    "open transposed": (("rules", "BATCH_MATMUL", "transposed"), [{"when": SMALL}], "last case must have"),
    "open last axis": (("rules", "SUM", "last_axis"), [{"when": SMALL}], "SUM.reduction.last_axis.* last case"),
    "open other axis": (("rules", "SUM", "other_axis"), [{"when": SMALL}], "SUM.reduction.other_axis.* last case"),
    "no case": (("rules", "SUM", "last_axis"), [], "rules.SUM.reduction.last_axis"),
    "open shares": (("rules", "SOFTMAX", "shares"), [{"when": SMALL}], "softmax.shares.* last case"),
    "open shared": (("rules", "SOFTMAX", "shared"), [{"when": SMALL, **SHARED}], "softmax.shared.* last case"),
    "shared of other lanes": (
        ("rules", "SOFTMAX", "shared"),
        [{"order": {"lanes": 2}}],
        "slices of the rule's 4 lanes",
    ),
    "shared lanes apart": (
        ("rules", "SOFTMAX", "shared"),
        [{"order": {"lanes": 4, "lanes_apart": True}}],
        "slices of the rule's 4 lanes",
    ),
    "open norm": (("rules", "LAYER_NORM", "cases"), [{"when": SMALL}], "layer_norm.cases.* last case"),
    "float16 sums without an order": (("rules", "CONV_2D", "cases"), [], "only plain float32 sums"),
    "fused and corrected": (
        ("rules", "CONV_2D"),
        {"rule": "product", "fused": True, "accumulator": {"format": "float16_corrected"}, "cases": [ANY]},
        "no fused form",
    ),
    "exception twice": (("rules", "EXP", "exceptions"), [[1, 2], [1, 3]], "listed twice"),
    "exception of 17 bits": (("rules", "EXP", "exceptions"), [[1, 65536]], "0 to 65535"),
    "exception below 0": (("rules", "EXP", "exceptions"), [[-1, 2]], "0 to 65535"),
    "version": (("schema_version",), 2, "'schema_version'"),
    "name": (("name",), "two words", "'name'"),
    "measured nowhere": (("origin", "driver"), None, "names runtime, driver and adapter"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_schema_does_not_know_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    path, value, words = REFUSED[what]
    with pytest.raises(BadInput, match=words) as refused:
        load_profile(written(tmp_path, path, value))
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'profile.json'}: field ")


def test_the_same_file_unchanged_is_read(tmp_path: Path) -> None:
    assert load_profile(written(tmp_path, ("name",), "mine")).name == "mine"
    assert load_profile(written(tmp_path, ("rules", "SOFTMAX", "shared"), [SHARED])).rules


def test_a_name_that_is_neither_a_file_nor_shipped_is_refused_with_the_names_that_are(tmp_path: Path) -> None:
    for which in ("mali", str(tmp_path)):
        with pytest.raises(BadInput, match="neither a file nor a shipped profile") as refused:
            load_profile(which)
        assert all(name in str(refused.value) for name in shipped())


@pytest.mark.parametrize(
    ("bounds", "held", "not_held"),
    [
        ({"at_least": 3}, (3, 4, 1000), (0, 2)),
        ({"at_most": 16}, (0, 15, 16), (17, 32)),
        ({"at_least": 3, "at_most": 3}, (3,), (2, 4)),
        ({"multiple_of": 4}, (4, 8, 400), (1, 2, 6, 401)),
        ({"at_least": 5, "at_most": 12, "multiple_of": 4}, (8, 12), (4, 6, 16)),
    ],
)
def test_ranges_include_both_ends(bounds: dict[str, int], held: tuple[int, ...], not_held: tuple[int, ...]) -> None:
    assert all(Range(**bounds).holds(number) for number in held)
    assert not any(Range(**bounds).holds(number) for number in not_held)


def test_the_first_case_that_holds_in_every_variable_is_chosen() -> None:
    cases = (
        Case(when={"rows": Range(at_most=2), "columns": Range(at_least=8)}, order=Order(parts=2)),
        Case(when={"rows": Range(at_most=4)}, order=Order(parts=3)),
        Case(when={"slices": Range(at_least=3)}, order=Order(parts=4, lanes=4)),
        Case(order=Order(parts=5)),
    )

    def parts(rows: int, columns: int, terms: int) -> int:
        return chosen(cases, rows=rows, columns=columns, terms=terms).order.parts

    assert parts(2, 8, 1) == 2
    assert parts(8, 2, 1) == 5  # rows and columns are not the same
    assert parts(2, 7, 1) == parts(4, 8, 1) == 3
    assert parts(5, 1, 9) == 4  # nine terms are three slices of four
    assert parts(5, 1, 8) == 5
    shares = (Share(when={"slices": Range(at_least=3)}), Share())
    assert chosen(shares, rows=1, columns=1, terms=3) is shares[0]  # a share has no slices: terms count


def test_float16_is_stored_where_inputs_are_converted(tmp_path: Path) -> None:
    assert load_profile("mldrift-webgpu-lavapipe").stores_float16
    assert not load_profile(written(tmp_path, ("inputs",), None)).stores_float16
    assert load_profile(written(tmp_path, ("weights",), None)).stores_float16
