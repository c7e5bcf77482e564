"""How numbers enter and leave: inputs, weights and outputs, at every boundary of float16.

A number enters and meets its float16 neighbour in an ADD, so that the small difference shows what
entered, exactly, whatever the ADD rounds; subnormals are lifted by a MUL.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from fidelity.arithmetic.float16 import Conversion, Overflow, Rounding, Subnormals, round_to_float16
from fidelity.arithmetic.reveal.elimination import settle, survivors
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Experiment, Inquiry, NotTold, Single, ask
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.rules import Elementwise

CONVERSIONS: tuple[Conversion, ...] = tuple(
    Conversion(rounding, overflow, subnormals)
    for rounding in get_args(Rounding)
    for overflow in get_args(Overflow)
    for subnormals in get_args(Subnormals)
)
ANY: tuple[Conversion | None, ...] = (*CONVERSIONS, None)
FLUSHED = Conversion(subnormals="flushed")
_LIFT = np.float32(16384)
_EXACT = {"ADD": Elementwise(), "MUL": Elementwise()}


def boundaries() -> Single:
    """Numbers where conversions differ: between float16 neighbours, at overflow, around and below the normals.

    So few bits each that what `entering` makes of them is a float16 value, however they entered.
    """
    quarters = np.arange(8) / 4
    near = [scale * (1 + (place + quarters) * 2**-10) for scale in (1.0, 1024.0) for place in (0, 1, 1022)]
    tiny = np.arange(1, 33) * 2.0**-26
    edge = [65504.0, 65519.0, 65520.0, 65535.0, 65536.0, 70000.0, 131008.0]
    below = [2.0**-14 * (1 - 2.0**-11)]
    positive = np.concatenate([*near, tiny, edge, below]).astype(np.float32)
    return _rows(np.concatenate([positive, -positive, np.zeros(1, np.float32)]))


def _rows(x: Single) -> Single:
    """As [1, 1, n, 4], zeros at the end: the shape that every delegate takes."""
    filled = np.zeros(-(-x.size // 4) * 4, np.float32)
    filled[: x.size] = x
    return filled.reshape(1, 1, -1, 4)


def _neighbour(x: Single) -> Single:
    """The float16 value below in magnitude, at most the largest: what cancels x but for its last bits."""
    return round_to_float16(x, Conversion("toward_zero", "saturate"))


def entering(constant: bool) -> list[Experiment]:
    """What shows how a number enters, as a runtime operand or as a weight."""
    x = boundaries()
    normal = _rows(x[np.abs(x) >= 2.0**-9])
    moderate = _rows(x[np.abs(x) < 1])

    def both(kind: str, a: Single, other: Single) -> Experiment:
        return Experiment(kind, (other,), (a,)) if constant else Experiment(kind, (a, other))

    return [both("ADD", normal, -_neighbour(normal)), both("MUL", moderate, np.full_like(moderate, _LIFT))]


def find_inputs(findings: Findings) -> Inquiry[Conversion | None]:
    """How graph inputs are converted."""
    found = yield from settle(
        ANY, lambda inputs, experiment: predict(Arithmetic(inputs, rules=_EXACT), experiment), entering(constant=False)
    )
    return _one("inputs", found, findings, "a runtime operand less its float16 neighbour; times 2^14 where small")


def find_weights(inputs: Conversion | None, findings: Findings) -> Inquiry[Conversion | None]:
    """How float32 constants are converted."""
    found = yield from settle(
        ANY,
        lambda weights, experiment: predict(Arithmetic(inputs, weights, rules=_EXACT), experiment),
        entering(constant=True),
    )
    return _one("weights", found, findings, "a constant operand less its float16 neighbour; times 2^14 where small")


def find_outputs(inputs: Conversion | None, findings: Findings) -> Inquiry[Conversion | None]:
    """How outputs are converted, as far as that shows: of numbers that are float16 already, only flushing does."""
    experiment = Experiment("RESHAPE", (boundaries(),))
    seen = yield from ask([experiment])
    hypotheses = ANY[::-1] if inputs is None else (None, FLUSHED)
    found = survivors(
        hypotheses, lambda outputs, it: predict(Arithmetic(inputs, outputs=outputs), it), [experiment], seen
    )
    return _one("outputs", found, findings, "boundary values through a RESHAPE")


def _one(field: str, found: list[Conversion | None], findings: Findings, experiment: str) -> Conversion | None:
    if not found:
        raise NotTold(f"{field}: no conversion explains the boundary values")
    excluded = len(ANY) - len(found)
    findings.found(
        field, f"{experiment}, {boundaries().size} values", f"as {found[0] or 'float32'}", f"{excluded} of {len(ANY)}"
    )
    return found[0]


def lossy(conversion: Conversion | None) -> bool:
    """Whether subnormals are lost in it."""
    return conversion is not None and conversion.subnormals == "flushed"
