"""Settings that no experiment can tell apart, each with its reason, and one form for all of them.

"No experiment" means: no graph of one operation (or a sum with what it takes in) on operands that
are graph inputs, weights or biases. Two rules with one canonical form give the same bits for all
of these; revealed rules are in that form. Orders are compared by their trees (shapes.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fidelity.arithmetic.float16 import IEEE, Conversion, rounded
from fidelity.arithmetic.reveal.conversions import FLUSHED
from fidelity.arithmetic.reveal.experiment import Single
from fidelity.arithmetic.reveal.synthetic import Arithmetic
from fidelity.arithmetic.rules import Elementwise, Function, Product, Reduction, Share, Softmax
from fidelity.arithmetic.summation import Accumulator


def seen_through(stored: Conversion | None, outputs: Conversion | None) -> Conversion | None:
    """`stored` and then `outputs` as one conversion: what was rounded to float16 is not rounded again, only flushed."""
    if outputs is None or stored is None:
        return stored or outputs
    flushed = "flushed" in (stored.subnormals, outputs.subnormals)
    return replace(stored, subnormals="flushed" if flushed else "kept")


def outputs_seen(arithmetic: Arithmetic) -> Conversion | None:
    """The outputs' conversion as far as it shows: where inputs are float16, what moves is, and only flushing shows."""
    inputs, outputs = arithmetic.inputs, arithmetic.outputs
    if inputs is None or outputs is None:
        return outputs
    return FLUSHED if outputs.subnormals == "flushed" and inputs.subnormals == "kept" else None


def elementwise(kind: str, rule: Elementwise, arithmetic: Arithmetic) -> Elementwise:
    """The canonical form of an elementwise rule."""
    stored = seen_through(rule.stored, arithmetic.outputs)
    inputs = arithmetic.inputs
    if kind in ("MAXIMUM", "MINIMUM") and inputs is not None:
        # chooses one of two float16 numbers: nothing to round, and subnormals only where they enter
        flushed = stored is not None and stored.subnormals == "flushed" and inputs.subnormals == "kept"
        return Elementwise(stored=FLUSHED if flushed else IEEE)
    if kind == "SQUARED_DIFFERENCE":
        return Elementwise(steps=_difference(rule.steps, stored), stored=stored)
    if kind == "DIV" and rule.division == "reciprocal":
        return _reciprocal(rule.steps, stored, inputs)
    return Elementwise(stored=stored)


def _difference(steps: Conversion | None, stored: Conversion | None) -> Conversion | None:
    if steps is None or stored is None:
        return steps
    # the square of a subnormal is below float16; that of 65504 overflows as that of infinity does
    overflow = "infinite" if stored.overflow == "infinite" else steps.overflow
    return replace(steps, subnormals="kept", overflow=overflow)


def _reciprocal(steps: Conversion | None, stored: Conversion | None, inputs: Conversion | None) -> Elementwise:
    whole = stored is not None and (stored.rounding, stored.subnormals) == ("nearest_even", "flushed")
    if steps is None and inputs is not None and whole:
        # a quotient of float16 numbers lies 2^-22 or more from a midpoint, or on one below the normals
        return Elementwise(stored=stored)
    if steps is not None and inputs is not None and inputs.subnormals == "flushed":
        steps = replace(steps, overflow="infinite")  # 1 / x overflows for subnormal x alone
    return Elementwise(steps=steps, stored=stored, division="reciprocal")


def function_values(values: Single, arithmetic: Arithmetic) -> Single:
    """A function's values as they leave."""
    return rounded(values, arithmetic.outputs)


def power(rule: Function, arithmetic: Arithmetic) -> Function:
    """The canonical form of a power's rule: the steps of float16 leave nothing to round, only to flush."""
    stored = seen_through(rule.stored, arithmetic.outputs)
    if rule.function != "exact":
        stored = FLUSHED if stored is not None and stored.subnormals == "flushed" else IEEE
    return Function(function=rule.function, stored=stored)


def product(kind: str, rule: Product, arithmetic: Arithmetic) -> Product:
    """The canonical form of a product's rule, its cases as they are."""
    stored = seen_through(rule.stored, arithmetic.outputs)
    accumulator, stored = accumulated(rule.accumulator, stored)
    narrow = arithmetic.inputs is not None and (kind == "BATCH_MATMUL" or arithmetic.weights is not None)
    # float32 holds a product of float16 numbers exactly, so there is nothing for a fused step to save
    fused = rule.fused and not (narrow and accumulator.format == "float32")
    bias = "last" if kind == "BATCH_MATMUL" else rule.bias  # the former has none
    changes = {"accumulator": accumulator, "stored": stored, "fused": fused, "bias": bias}
    return rule.model_copy(update=changes)


def accumulated(accumulator: Accumulator, stored: Conversion | None) -> tuple[Accumulator, Conversion | None]:
    """Accumulator and conversion of a sum: a float16 sum is not rounded again, only flushed."""
    if accumulator.format == "float32":
        return Accumulator(), stored
    return accumulator, seen_through(accumulator.conversion, stored)


def reduction(kind: str, rule: Reduction, arithmetic: Arithmetic) -> Reduction:
    """The canonical form of a sum's rule, its cases as they are but for a SUM's mean."""
    accumulator, stored = accumulated(rule.accumulator, seen_through(rule.stored, arithmetic.outputs))
    if kind == "MEAN" and accumulator.format == "float32" and arithmetic.inputs is not None:
        stored = stored and replace(stored, overflow="infinite")  # a mean of float16 numbers is no larger than they are
    if kind == "SUM" and accumulator.format == "float16_corrected":
        # what flushing loses is kept beside the sum, so only the end is flushed
        accumulator = Accumulator("float16_corrected", replace(accumulator.conversion, subnormals="kept"))
    changes = {
        "accumulator": accumulator,
        "stored": stored,
        "stored_absorbed": behind(kind, rule, Kept(accumulator, stored), arithmetic),
        "absorbs": tuple(each for each in ("ADD", "SUB", "MUL") if _inside(each, rule, arithmetic)),
    }
    return rule.model_copy(update=changes)


@dataclass(frozen=True)
class Kept:
    """What a sum is kept in and how it is stored; `fused` where each product is added with one rounding."""

    accumulator: Accumulator
    stored: Conversion | None
    fused: bool = False


def behind(kind: str, rule: Reduction, alone: Kept, arithmetic: Arithmetic) -> Conversion | None:
    """How a sum is seen behind an ADD of zero; None where it is as if stored as `alone`."""
    last = arithmetic.rules.get("ADD")
    after = last.stored if isinstance(last, Elementwise) else None

    def through(accumulator: Accumulator, stored: Conversion | None) -> Conversion | None:
        seen = accumulated(accumulator, seen_through(seen_through(stored, after), arithmetic.outputs))[1]
        mean = kind == "MEAN" and accumulator.format == "float32" and arithmetic.inputs is not None
        return seen and replace(seen, overflow="infinite") if mean else seen

    mine = through(rule.accumulator, rule.stored_absorbed or rule.stored)
    return None if mine == through(alone.accumulator, alone.stored) else mine


def _inside(kind: Literal["ADD", "SUB", "MUL"], rule: Reduction, arithmetic: Arithmetic) -> bool:
    """Whether `kind` shows as inside the sum: what is not stored in between is not, wherever it is computed."""
    alone = arithmetic.rules.get(kind)
    stored = alone.stored if isinstance(alone, Elementwise) else None
    if stored is None:
        return isinstance(alone, Elementwise) and arithmetic.outputs is not None
    return kind in rule.absorbs


def softmax(rule: Softmax, arithmetic: Arithmetic) -> Softmax:
    """The canonical form of a softmax rule: fields of the other form at their defaults, shares as they show."""
    shares = tuple(_share(share, arithmetic) for share in rule.shares)
    if rule.passes == "online":
        return Softmax(passes="online", lanes=rule.lanes, exponential=rule.exponential, shares=shares)
    steps = rule.steps and replace(rule.steps, overflow="infinite")  # e^-65504 and e^-infinity are both 0
    accumulator, _ = accumulated(rule.accumulator, None)
    if accumulator.format != "float32":  # nor does a sum of powers overflow
        # a sum of at least 1 is no subnormal; partial ones are when powers are, and a correction keeps those
        whole = accumulator.format == "float16_corrected" or (steps is not None and steps.subnormals == "flushed")
        subnormals = "kept" if whole else accumulator.conversion.subnormals
        conversion = replace(accumulator.conversion, overflow="infinite", subnormals=subnormals)
        accumulator = Accumulator(accumulator.format, conversion)
    return rule.model_copy(update={"lanes": 1, "shares": shares, "steps": steps, "accumulator": accumulator})


def _share(share: Share, arithmetic: Arithmetic) -> Share:
    stored = seen_through(share.stored, arithmetic.outputs)
    # shares are at most 1, and 1 / sum at least 1 / terms: neither overflows, nor is the latter subnormal
    return share.model_copy(
        update={
            "stored": stored and replace(stored, overflow="infinite"),
            "quotient": share.quotient and replace(share.quotient, overflow="infinite", subnormals="kept"),
        }
    )
