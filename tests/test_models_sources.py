"""Sources and weights as they are written: parsed, printed and refused, each with one line that helps."""

from __future__ import annotations

import time

import huggingface_hub.constants
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.models.source import Source
from fidelity.models.weights import DEFAULT_BLOCK, DEFAULT_PEAK, Weights, build_model

SMALL = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"
NAMES = st.from_regex(r"[A-Za-z0-9_.\-]+", fullmatch=True)
KEYS = st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**31), 2**31),
    st.floats(allow_nan=False, allow_infinity=False),
    st.from_regex(r"[a-z][a-z ,:/]*", fullmatch=True).filter(lambda text: text not in ("true", "false", "null")),
)
SECONDS_OFFLINE = 30.0  # importing timm takes seconds; a hub that is waited for takes minutes


@given(name=NAMES, options=st.dictionaries(KEYS, SCALARS, max_size=4))
def test_a_source_survives_being_written_and_read(name: str, options: dict[str, bool | int | float | str]) -> None:
    source = Source(name=name, options=options)
    again = Source.parse(str(source))
    assert again == source
    # 1 == True == 1.0 in Python, and they are three different constructor arguments
    assert [type(value) for value in again.options.values()] == [type(value) for value in options.values()]


def test_options_keep_their_types() -> None:
    options = Source.parse("timm:m?a=1&b=1.0&c=true&d=avg&e=-2e-3").options
    assert [(type(value), value) for value in options.values()] == [
        (int, 1),
        (float, 1.0),
        (bool, True),
        (str, "avg"),
        (float, -2e-3),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "timm:",
        "timm:?depth=2",
        "vit_base",
        "hub:vit_base",
        "timm:vit base",
        "timm:../x",
        "TIMM:x",
        "timm:x?",
        "timm:x\n",
    ],
)
def test_what_is_not_a_source_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="expected timm:NAME") as caught:
        Source.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("pair", ["depth", "=2", "2x=1", "a-b=1", "a b=1", "__class__.x=1"])
def test_what_is_not_an_option_is_refused(pair: str) -> None:
    with pytest.raises(BadInput, match="is not key=value") as caught:
        Source.parse(f"timm:x?depth=2&{pair}")
    assert repr(pair) in str(caught.value)


@pytest.mark.parametrize("value", ["1" * 5000, "[" * 100_000, "NaN,", "null"], ids=["digits", "nesting", "nan", "null"])
def test_a_value_that_is_no_json_number_is_text_or_refused(value: str) -> None:
    """JSON's own reader gives up on 5000 digits and on deep nesting with errors of its own."""
    try:
        assert Source.parse(f"timm:x?a={value}").options["a"] == value
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right


def test_an_unknown_model_is_told_with_close_names() -> None:
    with pytest.raises(BadInput, match=r"has no such model; close: .*vit_pe_core") as caught:
        Source.parse("timm:vit_pe_core_enormous").build()
    assert caught.value.exit_code == 2
    with pytest.raises(BadInput, match=r"has no such model$"):
        Source.parse("timm:qqqqqq").build()


@pytest.mark.parametrize("options", ["no_such_option=1", "embed_dim=65&num_heads=2&depth=1", "depth=many"])
def test_options_that_timm_refuses_are_told_in_one_line(options: str) -> None:
    with pytest.raises(BadInput, match="timm refuses these options") as caught:
        Source.parse(f"timm:vit_pe_core_tiny_patch16_384?{options}").build()
    assert "\n" not in str(caught.value)


def test_a_built_source_is_what_was_asked_for() -> None:
    model = Source.parse(SMALL).build()
    assert not model.training
    assert len(model.get_submodule("blocks").state_dict()) > 0
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}
    assert {str(parameter.device) for parameter in model.parameters()} == {"cpu"}
    assert len(list(model.get_submodule("blocks").children())) == 2


def test_pretrained_without_a_hub_says_what_to_do_instead(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(EnvironmentMissing, match=r"vit_pe_core_base_patch16_224.*--weights file:PATH") as caught:
        build_model(Source.parse("timm:vit_pe_core_base_patch16_224"), Weights.parse("pretrained"), 0)
    assert time.monotonic() - started < SECONDS_OFFLINE
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


PEAKS = st.integers(1, 10**24).map(lambda millionths: millionths / 10**6)  # also those that Python writes as 1e-05
WEIGHTS = st.one_of(
    st.sampled_from([Weights(kind="seeded"), Weights(kind="pretrained")]),
    st.builds(Weights, kind=st.just("massive"), peak=PEAKS, block=st.integers(0, 99)),
    st.builds(Weights, kind=st.just("file"), path=st.text(min_size=1)),
)


@given(WEIGHTS)
def test_weights_survive_being_written_and_read(weights: Weights) -> None:
    assert Weights.parse(str(weights)) == weights


@given(st.text())
def test_any_text_is_weights_or_refused(text: str) -> None:
    try:
        Weights.parse(text)
    except BadInput as error:
        assert repr(text) in str(error)  # noqa: PT017 - either way is right


def test_massive_has_defaults() -> None:
    assert Weights.parse("massive") == Weights(kind="massive", peak=DEFAULT_PEAK, block=DEFAULT_BLOCK)
    assert Weights.parse("massive:400") == Weights(kind="massive", peak=400.0, block=DEFAULT_BLOCK)
    assert Weights.parse("massive:400.5@7") == Weights(kind="massive", peak=400.5, block=7)


def test_block_zero_is_block_zero() -> None:
    """A mutant that says `block or DEFAULT` on the number would make it block 1."""
    assert Weights.parse("massive:10@0").block == 0


@pytest.mark.parametrize(
    "text", ["", "random", "massive:", "massive:-1", "massive:1@", "massive:nan", "file:", "seeded:1", "Seeded"]
)
def test_what_is_not_weights_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="expected seeded, massive"):
        Weights.parse(text)
