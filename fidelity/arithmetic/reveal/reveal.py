"""All of a device's profile, from nothing: which inquiry follows which, and what is done where one tells nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fidelity.arithmetic.float16 import Conversion
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.profile import Origin, Profile
from fidelity.arithmetic.reveal.conversions import find_inputs, find_outputs, find_weights
from fidelity.arithmetic.reveal.elementwise import find_elementwise
from fidelity.arithmetic.reveal.evidence import Findings, Revealed
from fidelity.arithmetic.reveal.experiment import Inquiry, Laboratory, NotTold, conduct, together
from fidelity.arithmetic.reveal.functions import find_function, find_power
from fidelity.arithmetic.reveal.products import find_product
from fidelity.arithmetic.reveal.reductions import find_reduction
from fidelity.arithmetic.reveal.sight import Lattice
from fidelity.arithmetic.reveal.softmax import find_softmax
from fidelity.arithmetic.reveal.synthetic import Arithmetic
from fidelity.arithmetic.rules import BINARY, POWER, PRODUCTS, SOFTMAX, SUMS, UNARY, Reduction, Rule

Step = Callable[[str], None]
STAGES = ("conversions", "elementwise and functions", "products, SUM and SOFTMAX", "MEAN")


@dataclass(frozen=True)
class Reach:
    """The shapes at which a device is looked at; what lies beyond, or changes twice between two, is not told."""

    products: Mapping[str, Lattice]
    sums: Lattice
    softmax_rows: tuple[int, ...]

    def __str__(self) -> str:
        """As a profile's notes say it."""
        products = "; ".join(
            f"{kind} {'/'.join(map(str, it.rows))} rows x {'/'.join(map(str, it.columns))} columns x "
            f"{'/'.join(map(str, it.terms))} terms"
            for kind, it in self.products.items()
        )
        sums = f"{'/'.join(map(str, self.sums.rows))} rows x {'/'.join(map(str, self.sums.terms))} terms"
        return f"shapes looked at: {products}; sums {sums}; softmax {'/'.join(map(str, self.softmax_rows))} rows"


_WIDE = Lattice((4, 12, 24, 64), (64, 1024, 3000, 6000, 9000), (8, 32, 128))
_NARROW = Lattice((4, 12, 24, 64), (64, 1024, 3000), (8, 32, 128))
DEVICE_REACH = Reach(
    {"FULLY_CONNECTED": _WIDE, "BATCH_MATMUL": _NARROW, "CONV_2D": _NARROW},
    Lattice((16, 96), (1,), (4, 16, 40, 64, 100, 200, 256, 400, 512, 800, 1024, 1280)),
    (64, 512, 2048, 16384),  # a longer axis is another matter than more rows: this GPU rounds otherwise there
)
"""Vision transformers' shapes, in time: a few thousand columns, a thousand terms."""


def reveal(
    laboratory: Laboratory,
    reach: Reach,
    name: str,
    origin: Origin,
    kinds: tuple[str, ...] | None = None,
    step: Step = lambda _: None,
) -> Revealed:
    """The profile of the device behind `laboratory`, the evidence and the gaps.

    `kinds` limits what is looked for; conversions always are. Raises NotTold when not even the
    conversion of inputs shows: then no number means anything.
    """
    findings = Findings()
    step(STAGES[0])
    known = _conversions(laboratory, findings)
    rules: dict[str, Rule] = {}
    wanted = kinds or (*BINARY, POWER, *UNARY, *PRODUCTS, *SUMS, SOFTMAX)
    for stage, find in zip(STAGES[1:], (_alone, _summed, _means), strict=True):
        step(stage)
        inquiries = find(replace(known, rules=rules), reach, findings)
        asked = {kind: inquiry for kind, inquiry in inquiries.items() if kind in wanted or _needed(kind, wanted)}
        for kind, rule in conduct(together(asked), laboratory).items():
            if isinstance(rule, NotTold):
                findings.gap(f"{kind}: no rule; {rule}")
            else:
                rules[kind] = rule
    findings.gap(str(reach))
    profile = Profile(
        name=name,
        title=f"{name}, as revealed",
        origin=origin.model_copy(update={"notes": (*origin.notes, *findings.untold)}),
        inputs=known.inputs,
        weights=known.weights,
        outputs=known.outputs,
        rules={kind: rules[kind] for kind in wanted if kind in rules},
    )
    return Revealed(profile=profile, evidence=tuple(findings.evidence), untold=tuple(findings.untold))


def _needed(kind: str, wanted: tuple[str, ...]) -> bool:
    """Sums are told by what they take in, and MEAN's orders begin with SUM's."""
    if kind in ("ADD", "SUB", "MUL"):
        return any(each in wanted for each in SUMS)
    return kind == "SUM" and "MEAN" in wanted


def _conversions(laboratory: Laboratory, findings: Findings) -> Arithmetic:
    inputs = conduct(find_inputs(findings), laboratory)
    found = conduct(
        together({"weights": find_weights(inputs, findings), "outputs": find_outputs(inputs, findings)}), laboratory
    )
    values: dict[str, Conversion | None] = {}
    for name, result in found.items():
        if isinstance(result, NotTold):
            findings.gap(f"{name}: {result}; taken as those of inputs" if name == "weights" else f"{name}: {result}")
            values[name] = inputs if name == "weights" else None
        else:
            values[name] = result
    return Arithmetic(inputs, values["weights"], values["outputs"])


def _alone(known: Arithmetic, reach: Reach, findings: Findings) -> dict[str, Inquiry[Rule]]:
    inquiries: dict[str, Inquiry[Rule]] = {}
    for kind in BINARY:
        inquiries[kind] = find_elementwise(kind, known, findings)
    for kind in UNARY:
        inquiries[kind] = find_function(kind, known, findings)
    inquiries[POWER] = find_power(known, findings)
    return inquiries


def _summed(known: Arithmetic, reach: Reach, findings: Findings) -> dict[str, Inquiry[Rule]]:
    inquiries: dict[str, Inquiry[Rule]] = {}
    for kind, lattice in reach.products.items():
        inquiries[kind] = find_product(kind, lattice, known, findings)
    inquiries["SUM"] = find_reduction("SUM", reach.sums, known, findings)
    inquiries[SOFTMAX] = find_softmax(reach.softmax_rows, known, findings)
    return inquiries


def _means(known: Arithmetic, reach: Reach, findings: Findings) -> dict[str, Inquiry[Rule]]:
    """SUM's orders are likely to be MEAN's."""
    rule = known.rules.get("SUM")
    likely: list[Order] = []
    if isinstance(rule, Reduction):
        likely = [case.order for case in (*rule.last_axis, *rule.other_axis)]
    return {"MEAN": find_reduction("MEAN", reach.sums, known, findings, likely)}
