"""SUM and MEAN kernels against loops of NumPy's scalars: axes, orders, where a mean divides and what it rounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import IEEE, Conversion
from fidelity.arithmetic.kernels.reductions import reduce
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.rules import MeanCase, Range, Reduction
from fidelity.arithmetic.summation import Accumulator

Single = NDArray[np.float32]
Scalar = np.float16 | np.float32
TRUNCATED = Conversion("toward_zero", "saturate")
LANES = MeanCase(order=Order(lanes=2, lanes_apart=True))
TURNS = MeanCase(order=Order(parts=3))


def uneven(*shape: int) -> Single:
    generator = np.random.Generator(np.random.Philox(8))
    wide = generator.standard_normal(shape) * 2.0 ** generator.integers(-4, 5, shape)
    return wide.astype(np.float16).astype(np.float32)


def running(values: Sequence[Scalar], kind: type) -> Scalar:
    total = kind(0)
    for value in values:
        total = kind(total + kind(value))
    return total


def dealt(values: Sequence[Scalar], parts: int, kind: type) -> list[Scalar]:
    """Partial sums of every `parts`-th value: two lanes kept apart are dealt like two parts."""
    return [running(values[part::parts], kind) for part in range(parts)]


def of(accumulator: str = "float32", **rest: object) -> Reduction:
    fields: dict[str, object] = {"last_axis": (LANES,), "other_axis": (TURNS,), **rest}
    return Reduction(accumulator=Accumulator(accumulator), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("axes", "parts"), [((2,), 2), ((-1,), 2), ((0,), 3), ((1,), 3), ((0, 1), 3), ((2, 0), 2), ((-3, 1), 3)]
)
@pytest.mark.parametrize("form", ["float16", "float32"])
def test_axes_are_added_as_one_in_the_order_of_the_last_of_them(axes: tuple[int, ...], parts: int, form: str) -> None:
    x = uneven(5, 7, 9)
    kind = getattr(np, form)
    got = reduce("SUM", x, axes, of(form))
    over = [any(axis == chosen % 3 for chosen in axes) for axis in range(3)]
    assert got.shape == tuple(1 if gone else size for gone, size in zip(over, x.shape, strict=True))
    for place in product(*(range(size) for size in got.shape)):
        terms = x[tuple(slice(None) if gone else at for gone, at in zip(over, place, strict=True))].reshape(-1)
        assert got[place] == running(dealt(list(terms), parts, kind), kind)


@pytest.mark.parametrize("form", ["float16", "float32"])
@pytest.mark.parametrize("mean", ["partials", "total", "quotient"])
def test_a_mean_divides_where_its_case_says(mean: str, form: str) -> None:
    """23 terms, whose share is no power of two and rounds in either format."""
    x = uneven(40, 23)
    kind = getattr(np, form)
    share = kind(np.float32(1) / np.float32(23))
    got = reduce("MEAN", x, (1,), of(form, last_axis=(MeanCase(order=Order(parts=5), mean=mean),)))
    for row, result in zip(x, got, strict=True):
        partial = dealt(list(row), 5, kind)
        if mean == "partials":
            expected = running([kind(each * share) for each in partial], kind)
        elif mean == "total":
            expected = kind(running(partial, kind) * share)
        else:
            expected = kind(np.float32(running(partial, kind)) / np.float32(23))
        assert result[0] == expected
    others = {
        each: reduce("MEAN", x, (1,), of(form, last_axis=(MeanCase(order=Order(parts=5), mean=each),))).tobytes()
        for each in ("partials", "total", "quotient")
    }
    assert len(set(others.values())) == 3  # the rows tell the three apart


def test_the_number_of_results_chooses_the_case() -> None:
    few = MeanCase(when={"rows": Range(at_most=6)}, order=Order(parts=4))
    rule = of("float16", last_axis=(few, MeanCase()))
    x = uneven(3, 3, 40)
    for count, parts in ((2, 4), (3, 1)):  # six results, nine
        got = reduce("SUM", x[:count], (2,), rule)
        for place in product(range(count), range(3)):
            assert got[place][0] == running(dealt(list(x[place]), parts, np.float16), np.float16)


@pytest.mark.parametrize(("absorbed", "other"), [(False, IEEE), (True, IEEE), (True, None)])
@pytest.mark.parametrize("kind", ["SUM", "MEAN"])
def test_what_is_stored_changes_where_a_reader_is_computed_together(
    kind: str, absorbed: bool, other: Conversion | None
) -> None:
    x = uneven(50, 16)
    got = reduce(kind, x, (1,), of(stored=TRUNCATED, stored_absorbed=other), absorbed=absorbed)
    wide = reduce(kind, x, (1,), of())
    near = wide.astype(np.float16)
    below = np.where(np.abs(near.astype(np.float32)) > np.abs(wide), np.nextafter(near, np.float16(0)), near)
    assert not np.array_equal(near, below)
    assert np.array_equal(got, near if absorbed and other is not None else below)


@pytest.mark.parametrize("axes", [(), (3,), (0, -4)])
def test_axes_that_are_not_there_are_refused(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"axes .* of an array of rank 3"):
        reduce("SUM", uneven(2, 3, 4), axes, of())


class Seen(dict[str, list[Single]]):
    """What a kernel showed, by the name of the part."""

    def __call__(self, part: str, values: Single) -> None:
        self.setdefault(part, []).append(values.copy())


@pytest.mark.parametrize("mean", ["partials", "total", "quotient"])
def test_a_reduction_shows_the_sum_before_it_divides(mean: str) -> None:
    """300 times 300 is beyond float16, its mean is not: only who sees the sum sees the overflow."""
    x = np.full((1, 300), 300, np.float32)
    seen = Seen()
    reduce("MEAN", x, (1,), of(last_axis=(MeanCase(mean=mean),)), observe=seen)  # type: ignore[arg-type]
    assert max(float(values.max()) for values in seen["peak"]) == 90000
    assert max(float(values.max()) for values in seen["sum"]) == 90000
    assert ("mean" in seen) == (mean == "partials")
