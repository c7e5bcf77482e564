"""The C kernels on whole arrays against the NumPy definitions: rounding, exp2, softmax statistics; and the library."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import Conversion, from_float16, holds_float16, round_to_float16
from fidelity.arithmetic.kernels.softmax_statistics import running_statistics
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.packed import softmax_statistics
from fidelity.arithmetic.special import exp2_gallivm

Single = NDArray[np.float32]
PATHS = pytest.mark.parametrize("path", compiled.paths())
BITS = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
EVERY = BITS.astype(np.float32)


def around_every_boundary() -> Single:
    """Every float16 value, every midpoint, their float32 neighbours, and one float32 number in 1000."""
    ordered = np.unique(EVERY[np.isfinite(EVERY)])
    middle = (ordered[:-1] + ordered[1:]) / 2
    ends = np.array([65519.996, 65520, 65535.996, 65536, 1e30, 3.4e38, np.inf, np.nan], np.float32)
    points = np.concatenate([EVERY, middle, ends, -ends])
    sample = np.arange(0, 1 << 32, 997, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        beside = [np.nextafter(points, np.float32(end)) for end in (-np.inf, np.inf)]
    return np.concatenate([points, *beside, sample])


def same_bits(a: Single, b: Single) -> bool:
    nan = np.isnan(a) & np.isnan(b)
    return a.shape == b.shape and bool(np.all(nan | (a.view(np.uint32) == b.view(np.uint32))))


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero"])
@pytest.mark.parametrize("overflow", ["infinite", "saturate"])
@pytest.mark.parametrize("subnormals", ["kept", "flushed"])
def test_rounding_to_float16(rounding: str, overflow: str, subnormals: str) -> None:
    rule = Conversion(rounding, overflow, subnormals)  # type: ignore[arg-type]
    x = around_every_boundary()
    with compiled.on_path(None):
        expected = round_to_float16(x, rule)
    for path in compiled.paths():
        with compiled.on_path(path):
            assert same_bits(round_to_float16(x, rule), expected)


@PATHS
@given(st.integers(0, 70), st.integers(0, 3))
def test_arrays_of_any_length_and_layout(path: str, length: int, skip: int) -> None:
    x = np.linspace(-3, 3, 4 * length + 4, dtype=np.float32)[skip :: skip + 1][:length]
    with compiled.on_path(path):
        assert same_bits(round_to_float16(x), x.astype(np.float16).astype(np.float32))
        assert round_to_float16(x.reshape(1, -1, 1)).shape == (1, x.size, 1)
        assert same_bits(from_float16(x.astype(np.float16)), x.astype(np.float16).astype(np.float32))


@PATHS
def test_float16_values_are_widened_and_known(path: str) -> None:
    with compiled.on_path(path):
        assert same_bits(from_float16(BITS), EVERY)
        assert holds_float16(EVERY)
        with np.errstate(invalid="ignore"):
            beside = np.nextafter(EVERY, np.float32(np.inf))
            middle = (EVERY[:-1] + EVERY[1:]) / 2
        for number in (*beside[::97], *middle[::97], *np.float32([65536, -65536, 65520, 1e30, 2.0**-25])):
            alone = np.array([0, number], np.float32)
            assert holds_float16(alone) == same_bits(alone.astype(np.float16).astype(np.float32), alone)
        large = np.zeros(10_000, np.float32)
        assert holds_float16(large)
        for place in (0, 4095, 4096, 9_999):
            large[:] = 0
            large[place] = 0.1
            assert not holds_float16(large)


@PATHS
def test_exp2(path: str) -> None:
    """The clamp at both ends, whole numbers, subnormal and infinite results, NaN, and a dense sample."""
    x = np.concatenate([np.linspace(-130, 130, 300_001, dtype=np.float32), around_every_boundary()])
    with compiled.on_path(None):
        expected = exp2_gallivm(x)
    assert np.isinf(expected).any()
    assert (expected[expected > 0] < 2.0**-126).any()
    with compiled.on_path(path):
        assert same_bits(exp2_gallivm(x), expected)


@PATHS
@given(st.integers(1, 70), st.integers(1, 40), st.sampled_from((1, 2, 3, 4)), st.integers(0, 2**32), st.booleans())
def test_softmax_statistics(path: str, rows: int, terms: int, lanes: int, seed: int, strange: bool) -> None:
    generator = np.random.Generator(np.random.Philox(seed))
    x = (generator.standard_normal((rows, terms)) * 4).astype(np.float32)
    if strange:
        x[generator.random(x.shape) < 0.1] = -np.inf
        x[generator.integers(rows), generator.integers(terms)] = generator.choice([np.inf, np.nan, -np.inf, 1e4])
    with np.errstate(all="ignore"), compiled.on_path(None):
        expected = running_statistics(x, Order(lanes=lanes), lambda y: exp2_gallivm(y * np.float32(np.log2(np.e))))
    with compiled.on_path(path):
        got = softmax_statistics(x, lanes)
    assert np.array_equal(got[0], expected[0][:, 0], equal_nan=True)
    assert same_bits(got[1], expected[1][:, 0])


def test_a_forked_child_computes_too() -> None:
    """Threads do not survive a fork: a child that waited for its parent's would wait for ever."""
    x = np.ones((1, 64, 512), np.float32)
    from fidelity.arithmetic.matmul import matmul, right_side  # noqa: PLC0415  # late: before a fork, on purpose
    from fidelity.arithmetic.order import Order  # noqa: PLC0415
    from fidelity.arithmetic.summation import Accumulator  # noqa: PLC0415

    right = right_side(np.ones((1, 512, 64), np.float32))
    matmul(x, right, Order(), Accumulator("float16"))
    child = os.fork()
    if child == 0:
        product = matmul(x, right, Order(), Accumulator("float16"))
        os._exit(0 if np.all(product == 512) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_path_that_is_not_there_is_refused_and_described() -> None:
    with pytest.raises(ValueError, match="not available"), compiled.on_path("neon"):
        pass
    with compiled.on_path(None):
        assert "as was asked for" in compiled.describe()
        with pytest.raises(RuntimeError, match="NumPy"):
            compiled.round_to_float16(EVERY, compiled.Conversion())


def test_without_a_library_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not built; and built by something that is no library, or an older one."""
    clear = compiled._library.cache_clear, compiled._fastest.cache_clear
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    try:
        for content, reason in ((None, "for want of a C compiler"), (b"no library", "cannot be used")):
            if content is not None:
                (tmp_path / f"_kernels{compiled.EXTENSION_SUFFIXES[0]}").write_bytes(content)
            for forget in clear:
                forget()
            assert compiled.paths() == ()
            assert compiled.path() is None
            assert reason in compiled.describe()
            assert same_bits(round_to_float16(EVERY), EVERY)
    finally:
        for forget in clear:
            forget()
