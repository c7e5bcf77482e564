"""How one kind of operation is computed, as data: the rules that an arithmetic profile is made of.

A rule says where a device rounds and in what order it adds, and no more: which values go in is the
graph's business. `None` in place of a Conversion means that the number stays float32 there.
Kinds of operation have the names of the .tflite schema.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from fidelity.arithmetic.float16 import Conversion
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.summation import Accumulator
from fidelity.record import Record

BINARY = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")
UNARY = ("ABS", "NEG", "SQRT", "RSQRT", "EXP", "GELU", "LOGISTIC", "TANH")
PRODUCTS = ("FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D")
SUMS = ("SUM", "MEAN")
SOFTMAX = "SOFTMAX"
POWER = "POW"
LAYER_NORM = "LAYER_NORM"
KINDS = (*BINARY, POWER, *UNARY, *PRODUCTS, *SUMS, SOFTMAX, LAYER_NORM)
"""What a profile can have a rule for. Operations that only move or choose numbers need none.

LAYER_NORM is no operation of the schema but a group of them that a delegate may take for one."""

Variable = Literal["rows", "columns", "terms", "slices"]
"""Of a product: rows and columns of the result, terms of each sum. Of a sum: results, 1, terms.
`slices` is terms divided by the order's lanes, rounded up."""


class Range(Record):
    """Whole numbers from `at_least` to `at_most`, both included; an open side is left out.
    With `multiple_of`, only its multiples among them."""

    at_least: int | None = None
    at_most: int | None = None
    multiple_of: Annotated[int | None, Field(ge=2)] = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        low, high = self.at_least, self.at_most
        if low is None and high is None and self.multiple_of is None:
            raise ValueError("a range needs at_least, at_most or multiple_of")
        if low is not None and high is not None and low > high:
            raise ValueError(f"a range from {low} to {high} holds nothing")
        return self

    def holds(self, number: int) -> bool:
        """Whether `number` lies in the range."""
        low = 0 if self.at_least is None else self.at_least
        high = number if self.at_most is None else self.at_most
        return low <= number <= high and (self.multiple_of is None or number % self.multiple_of == 0)


class Case(Record):
    """One order of a sum and the shapes that it is used for; no condition means every shape."""

    when: dict[Variable, Range] = Field(default_factory=dict)
    order: Order = Order()


class MeanCase(Case):
    """The order of a sum or mean, and where a mean divides.

    `partials`: every partial sum is multiplied by float32(1 / K) before they are combined;
    `total`: their sum is, at the end; `quotient`: their sum is divided by K.
    """

    mean: Literal["partials", "total", "quotient"] = "total"


class Share(Record):
    """How a softmax ends for some number of rows (results of the sum).

    `quotient` None: the power, computed again in float32, times float32(1 / sum). With a Conversion:
    the power exp(x - max) and 1 / sum are float16, the latter converted so, and so is their product.
    `stored_absorbed`: as in Reduction.
    """

    when: dict[Variable, Range] = Field(default_factory=dict)
    quotient: Conversion | None = None
    stored: Conversion | None = None
    stored_absorbed: Conversion | None = None


AnyCase = TypeVar("AnyCase", Case, MeanCase, Share)


def chosen(cases: tuple[AnyCase, ...], *, rows: int, columns: int, terms: int) -> AnyCase:
    """The first case whose conditions hold. There always is one: the last has no condition."""
    for case in cases:
        slices = case.order.slices(terms) if isinstance(case, Case) else terms
        shape = {"rows": rows, "columns": columns, "terms": terms, "slices": slices}
        if all(bounds.holds(shape[variable]) for variable, bounds in case.when.items()):
            return case
    raise AssertionError("the last case of a rule has no condition")


def _closed(cases: tuple[AnyCase, ...]) -> tuple[AnyCase, ...]:
    if cases and cases[-1].when:
        raise ValueError("the last case must have no condition, so that every shape has an order")
    if any(not case.when for case in cases[:-1]):
        raise ValueError("a case without a condition must be the last: those after it are never used")
    return cases


class Elementwise(Record):
    """One result an element. `steps` rounds what comes before the last step, `stored` the result.

    SQUARED_DIFFERENCE has two steps, the others one. A `reciprocal` division multiplies by the
    reciprocal of the divisor, rounded as a step.
    """

    rule: Literal["elementwise"] = "elementwise"
    steps: Conversion | None = None
    stored: Conversion | None = None
    division: Literal["quotient", "reciprocal"] = "quotient"


FunctionName = Literal[
    "exact", "reciprocal_of_root", "exp2_of_product", "abramowitz_stegun", "exp2_of_log2", "logistic"
]


class Function(Record):
    """A function of one number, or a power. `exact`: the real function's value, rounded once by `stored`.

    The others name an algorithm in steps of float16 (see special.py). `exceptions` are float16 values
    where the device differs: bits of the argument and of the result. A function of one float16 number
    is known completely by them, whatever its algorithm.
    """

    rule: Literal["function"] = "function"
    function: FunctionName = "exact"
    stored: Conversion | None = None
    exceptions: tuple[tuple[int, int], ...] = ()

    @field_validator("exceptions")
    @classmethod
    def _bits(cls, exceptions: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        arguments = [argument for argument, _ in exceptions]
        if len(set(arguments)) != len(arguments):
            raise ValueError("an argument is listed twice")
        if any(not 0 <= bits < 1 << 16 for pair in exceptions for bits in pair):
            raise ValueError("exceptions are pairs of float16 bits, 0 to 65535")
        return exceptions


Merged = Literal["ADD", "MUL"]


class Product(Record):
    """Sums of products. Factors are converted to the accumulator's format first.

    `cases` empty: float32 sums in whatever order the host's library takes, so that a prediction
    holds to rounding and not to the bit. `fused`: product and sum are rounded once. The bias is
    added to the finished sum (`last`) or starts it (`first`). `transposed`, where given, are the orders of
    a BATCH_MATMUL whose right side is stored as [columns, terms].

    A delegate may take constants of one number, or of one a channel, that stand next to a product with
    weights into the weights and the bias, in float32 and before these are converted: kind by kind in
    the order of `merges_after`, then of `merges_before`, an ADD there only where the input has more
    than one position between its first and last axis.
    """

    rule: Literal["product"] = "product"
    accumulator: Accumulator = Accumulator()
    fused: bool = False
    cases: Annotated[tuple[Case, ...], Field(validate_default=True)] = ()
    transposed: Annotated[tuple[Case, ...], Field(validate_default=True)] = ()
    bias: Literal["last", "first"] = "last"
    merges_before: tuple[Merged, ...] = ()
    merges_after: tuple[Merged, ...] = ()
    stored: Conversion | None = None

    _check = field_validator("cases", "transposed")(_closed)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.cases and (self.fused or self.accumulator.format != "float32"):
            raise ValueError("only plain float32 sums can be left without an order")
        if self.fused and self.accumulator.format == "float16_corrected":
            raise ValueError("a corrected accumulator has no fused form")
        return self


class Reduction(Record):
    """SUM and MEAN over one axis, or several as if they were one.

    The order over the last axis may differ from that over others. Kinds in `absorbs` that combine
    two runtime tensors, and whose only reader is this sum, are computed in the accumulator's
    format inside it. `stored_absorbed` replaces `stored` where an elementwise operation is
    computed together with the sum, as its only reader.
    """

    rule: Literal["reduction"] = "reduction"
    accumulator: Accumulator = Accumulator()
    last_axis: Annotated[tuple[MeanCase, ...], Field(min_length=1)]
    other_axis: Annotated[tuple[MeanCase, ...], Field(min_length=1)]
    absorbs: tuple[Literal["ADD", "SUB", "MUL"], ...] = ()
    stored: Conversion | None = None
    stored_absorbed: Conversion | None = None

    _check = field_validator("last_axis", "other_axis")(_closed)


class Softmax(Record):
    """e^(x - max) over their sum, over the last axis.

    `online`: one pass in slices of `lanes` with a running maximum and a float32 sum, rescaled when
    the maximum moves. `shared`, by shape, deals a row's slices to threads, each of which starts
    from the row's first number as its maximum; two threads' sums are rescaled to the greater
    maximum and added. Without it a row is one thread's. `two_pass`: the maximum first; then
    differences and powers rounded by `steps`, their sum in `accumulator` and `order`, and a quotient.
    """

    rule: Literal["softmax"] = "softmax"
    passes: Literal["online", "two_pass"] = "two_pass"
    lanes: Annotated[int, Field(ge=1)] = 1
    shared: tuple[Case, ...] = ()
    exponential: Literal["exact", "exp2_gallivm"] = "exact"
    steps: Conversion | None = None
    accumulator: Accumulator = Accumulator()
    order: Order = Order()
    shares: Annotated[tuple[Share, ...], Field(min_length=1)]

    _check = field_validator("shares", "shared")(_closed)

    @model_validator(mode="after")
    def _sliced(self) -> Self:
        if any(case.order.lanes != self.lanes or case.order.lanes_apart for case in self.shared):
            raise ValueError(f"shared: orders deal slices of the rule's {self.lanes} lanes, which are not apart")
        return self


class LayerNorm(Record):
    """(x - mean) / sqrt(variance + eps) over the last axis, computed as one operation in float32.

    For the group MEAN, SUB, MUL of the difference with itself, MEAN, ADD of one constant, RSQRT,
    MUL, with dimensions kept; a profile without this rule computes each by itself. The variance is
    the mean of `squares` less the squared mean (which cancels where the mean is large), or the mean
    of squared `deviations`. Sums are multiplied by float32(1 / K). `stored_absorbed` replaces
    `stored` where an elementwise operation is computed together with it, as its only reader.
    """

    rule: Literal["layer_norm"] = "layer_norm"
    variance: Literal["squares", "deviations"] = "deviations"
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]
    stored: Conversion | None = None
    stored_absorbed: Conversion | None = None

    _check = field_validator("cases")(_closed)


Rule = Annotated[Elementwise | Function | Product | Reduction | Softmax | LayerNorm, Field(discriminator="rule")]

RULE_OF: dict[str, type[Record]] = {
    **dict.fromkeys(BINARY, Elementwise),
    **dict.fromkeys((*UNARY, POWER), Function),
    **dict.fromkeys(PRODUCTS, Product),
    **dict.fromkeys(SUMS, Reduction),
    SOFTMAX: Softmax,
    LAYER_NORM: LayerNorm,
}
"""The rule that each kind of operation takes."""
