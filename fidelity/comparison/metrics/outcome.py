"""What a metric gives back: a figure, or the named reason why there is none.

A metric never returns NaN for a degenerate case, since `nan < limit` is False and would pass
unseen: it returns Undefined with a cause that a verdict can fail on by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fidelity.record import Record

Array = NDArray[np.float64]
RealArray = NDArray[Any]
"""Any real dtype; metrics widen it to float64 themselves, so nothing is summed in fp16."""

Cause = Literal[
    "empty",  # no elements, or no inputs
    "shape_mismatch",
    "not_real",  # complex, text, objects: not numbers that can be widened to float64
    "non_finite_actual",
    "non_finite_reference",
    "non_finite_expected",
    "out_of_range",  # beyond float32's range, or so small that float64 squares vanish
    "zero_actual",
    "zero_reference",
    "constant_actual",
    "constant_reference",
    "zero_expected_error",  # the emulated device has no error, and the device has
    "inputs_alike",  # the reference itself does not depend on the input
    "too_few_inputs",
]

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = 2.0**-200  # float32 goes down to 2**-149; squares of anything above are exact in range


@dataclass(frozen=True)
class Measured:
    """A figure. `index` is where in the output it was reached; `inputs` at which inputs."""

    value: float
    index: tuple[int, ...] = ()
    inputs: tuple[str, ...] = ()


class Undefined(Record):
    """Why a metric has no figure here: a cause from a fixed list, and one line for a person."""

    cause: Cause
    why: str


Outcome = Measured | Undefined


def finite_pair(actual: RealArray, reference: RealArray) -> tuple[Array, Array] | Undefined:
    """Both arrays in float64 when they can be compared at all, else the cause.

    Refuses other shapes, no elements, NaN or Inf on either side, and magnitudes whose squares
    leave float64: every metric that sums may then do so without a further check.
    """
    if actual.shape != reference.shape:
        return Undefined(cause="shape_mismatch", why=f"shape {list(actual.shape)}, reference {list(reference.shape)}")
    if actual.size == 0:
        return Undefined(cause="empty", why="no elements")
    if actual.dtype.kind not in "fiub" or reference.dtype.kind not in "fiub":
        return Undefined(cause="not_real", why=f"dtype {actual.dtype}, reference {reference.dtype}")
    wide = actual.astype(np.float64), reference.astype(np.float64)
    return _unfit(wide[0], "non_finite_actual") or _unfit(wide[1], "non_finite_reference") or wide


def _unfit(array: Array, non_finite: Cause) -> Undefined | None:
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        return Undefined(cause=non_finite, why=f"{bad} of {array.size} elements are NaN or Inf")
    peak = float(np.max(np.abs(array)))
    if peak > LARGEST or 0 < peak < SMALLEST:
        return Undefined(cause="out_of_range", why=f"largest magnitude {peak:g} is no float32 value")
    return None


def finite_set(
    actual: Mapping[str, RealArray], reference: Mapping[str, RealArray], *, at_least: int
) -> tuple[dict[str, Array], dict[str, Array]] | Undefined:
    """Flat float64 outputs of a set of inputs, in name order, when they can be compared at all.

    Every input of `actual` must be in `reference`, which may hold more. Refuses fewer than
    `at_least` inputs in `actual`, outputs of unequal shapes, and whatever `finite_pair` refuses.
    """
    if len(actual) < at_least:
        return Undefined(cause="too_few_inputs", why=f"{len(actual)} inputs, needs {at_least}")
    shapes = {array.shape for array in [*actual.values(), *reference.values()]}
    if len(shapes) > 1:
        return Undefined(cause="shape_mismatch", why=f"outputs of {len(shapes)} different shapes")
    references: dict[str, Array] = {}
    actuals: dict[str, Array] = {}
    for name in sorted(reference):
        pair = finite_pair(actual.get(name, reference[name]), reference[name])
        if isinstance(pair, Undefined):
            return Undefined(cause=pair.cause, why=f"{name}: {pair.why}")
        references[name] = pair[1].ravel()
        if name in actual:
            actuals[name] = pair[0].ravel()
    return actuals, references
