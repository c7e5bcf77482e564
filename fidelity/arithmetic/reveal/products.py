"""FULLY_CONNECTED, BATCH_MATMUL and CONV_2D: accumulator, orders by shape, fused steps, the place of the bias."""

from __future__ import annotations

from dataclasses import replace

from fidelity.arithmetic.reveal import canonical
from fidelity.arithmetic.reveal.accumulator import find_kept
from fidelity.arithmetic.reveal.conversions import lossy
from fidelity.arithmetic.reveal.elimination import settle
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import Inquiry, NotTold
from fidelity.arithmetic.reveal.sight import Lattice
from fidelity.arithmetic.reveal.sites import Shape, Site
from fidelity.arithmetic.reveal.stress import with_bias
from fidelity.arithmetic.reveal.survey import Survey
from fidelity.arithmetic.reveal.synthetic import Arithmetic, predict
from fidelity.arithmetic.reveal.territory import cases_of, explore
from fidelity.arithmetic.rules import Case, Product


def find_product(kind: str, lattice: Lattice, arithmetic: Arithmetic, findings: Findings) -> Inquiry[Product]:
    """The rule of one kind of product."""
    site = Site(kind)
    widest = Shape(lattice.rows[-1], lattice.columns[-1], lattice.terms[-1])
    kept = yield from find_kept(site, widest, arithmetic, findings)
    flushed = (
        lossy(arithmetic.inputs) or lossy(arithmetic.weights) or lossy(kept[0].stored) or lossy(arithmetic.outputs)
    )
    survey = Survey(site, lattice, kept[0], flushed, arithmetic, findings)
    territory = yield from explore(survey, kept, arithmetic)
    cases = tuple(Case(when=when, order=option.order) for when, option in cases_of(territory))
    rules = [
        Product(accumulator=each.accumulator, fused=each.fused, stored=each.stored, cases=cases, bias=bias)
        for each in territory.kept
        for bias in ("last", "first")
    ]
    unique = list(dict.fromkeys(canonical.product(kind, rule, arithmetic).to_json() for rule in rules))
    candidates = [Product.model_validate_json(text) for text in unique]
    known = replace(arithmetic, rules={})
    if kind != "BATCH_MATMUL":
        first = [
            one
            for terms in (lattice.terms[0], lattice.terms[-1])
            for one in with_bias(site, widest._replace(terms=terms))
        ]
        candidates = yield from settle(candidates, lambda rule, it: predict(known.with_rule(kind, rule), it), first)
    if not candidates:
        raise NotTold(f"{kind}: no rule explains a bias")
    found = candidates[0]
    findings.found(
        f"rules.{kind}.cases",
        f"masks over {len(lattice.rows) * len(lattice.columns) * len(lattice.terms)} shapes, thresholds by bisection",
        f"{len(cases)} case(s), {len(survey.known)} orders fit the trees, fused {found.fused}, bias {found.bias}",
        "every other tree at the shapes asked",
    )
    if kind == "BATCH_MATMUL":
        findings.gap(f"{kind}.transposed: no experiment; a right side that is transposed is taken to add as any other")
    return found
