"""Which constants a device takes into the weights and bias of the product that they stand next to.

Chains of a product and of MUL and ADD of one number a channel, before it or behind it, are predicted
under every way of taking them in. The way that a chain is taken in is the rule's business: kind by
kind, from the product outward, as Product says.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import rounded
from fidelity.arithmetic.kernels import elementwise, products
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.reveal.company.graphs import Company, CompanyLaboratory, chain, numbers
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import NotTold, same
from fidelity.arithmetic.rules import Elementwise, Merged, Product

Single = NDArray[np.float32]
Constant = tuple[str, Single]
_KINDS: tuple[Merged, ...] = get_args(Merged)
ORDERS: tuple[tuple[Merged, ...], ...] = tuple(order for count in range(3) for order in permutations(_KINDS, count))
"""Every ordered subset of what can be taken in, the emptiest first."""
WEIGHTED = ("FULLY_CONNECTED", "CONV_2D")
_POSITIONS, _TERMS, _CHANNELS = 20, 48, 40
_CHAINS = (("ADD",), ("MUL",), ("ADD", "MUL"), ("MUL", "ADD"), ("MUL", "ADD", "MUL"), ("ADD", "ADD"), ("MUL", "MUL"))


def find_merging(
    kind: str, profile: Profile, laboratory: CompanyLaboratory, findings: Findings
) -> dict[str, tuple[Merged, ...]]:
    """`merges_before` and `merges_after` of a product with weights. Raises NotTold where nothing explains it."""
    rule = profile.rules.get(kind)
    if not isinstance(rule, Product):
        raise NotTold(f"{kind} has no rule of its own")
    generator = np.random.Generator(np.random.Philox(21))
    graphs = {
        (place, names): _chain(kind, place, names, generator) for place in ("before", "after") for names in _CHAINS
    }
    plain = _chain(kind, "after", (), generator)
    seen = numbers(laboratory, [plain, *graphs.values()])
    if not same(predicted(plain, rule, profile), seen[0]):
        raise NotTold(f"{kind} alone is not as its rule has it, so nothing is told of what it takes in")
    found: dict[str, tuple[Merged, ...]] = {}
    for place in ("before", "after"):
        pairs = [(graph, y) for (at, _), graph, y in zip(graphs, graphs.values(), seen[1:], strict=True) if at == place]
        left = [
            order for order in ORDERS if _explains(rule.model_copy(update={f"merges_{place}": order}), pairs, profile)
        ]
        if not left:
            raise NotTold(f"{kind}: no way of taking in constants {place} it explains what is seen")
        found[f"merges_{place}"] = left[0]
        findings.found(
            f"rules.{kind}.merges_{place}",
            f"{len(pairs)} chains of MUL and ADD {place} it on {_POSITIONS} positions",
            f"{', '.join(left[0]) or 'nothing'} taken in",
            f"{len(ORDERS) - len(left)} of {len(ORDERS)} ordered subsets",
        )
    return found


def _explains(rule: Product, pairs: Sequence[tuple[Company, Single]], profile: Profile) -> bool:
    return all(same(predicted(graph, rule, profile), seen) for graph, seen in pairs)


def _chain(kind: str, place: str, names: tuple[str, ...], generator: np.random.Generator) -> Company:
    """A product of an image with a bias, and constants of one number a channel next to it."""
    convolution = kind == "CONV_2D"
    shape = (1, 4, _POSITIONS // 4, _TERMS) if convolution else (1, _POSITIONS, _TERMS)

    def drawn(*shape: int) -> Single:
        return generator.standard_normal(shape).astype(np.float32)

    weights = drawn(_CHANNELS, *((1, 1) if convolution else ()), _TERMS)
    product = (kind, (weights, drawn(_CHANNELS)))
    count = _TERMS if place == "before" else _CHANNELS
    around = [(name, (drawn(count),)) for name in names]
    steps = [*around, product] if place == "before" else [product, *around]
    return chain(drawn(*shape).astype(np.float16).astype(np.float32), steps)


def predicted(graph: Company, rule: Product, profile: Profile) -> Single:
    """The result of a chain around one product under `rule` and the profile's elementwise rules."""
    kinds = [node.kind for node in graph.nodes]
    middle = next(place for place, kind in enumerate(kinds) if kind in WEIGHTED)
    around = [(node.kind, node.constants[0]) for node in graph.nodes]
    before, after = around[:middle], around[middle + 1 :]
    weights, bias = graph.nodes[middle].constants
    w, b = weights.reshape(weights.shape[0], -1), bias
    taken = _taken([kind for kind, _ in after], rule.merges_after)
    for name, value in after[:taken]:
        w, b = (w * value[:, np.newaxis], b * value) if name == "MUL" else (w, b + value)
    near = before[::-1]
    inside = _taken([kind for kind, _ in near], rule.merges_before)
    for name, value in near[:inside]:
        if name == "MUL":
            w = w * value
        else:
            b = b + np.add.accumulate(w * value, axis=1, dtype=np.float32)[:, -1]
    x = rounded(graph.inputs[0], profile.inputs)
    for name, value in before[: len(before) - inside]:
        x = _elementwise(name, x, value, profile)
    prepared = products.weights(rounded(w.reshape(weights.shape), profile.weights), rule)
    added = rounded(b, profile.weights)
    if kinds[middle] == "CONV_2D":
        x = products.conv_2d(x, prepared, (1, 1), products.Window(), added, rule)
    else:
        x = products.fully_connected(x, prepared, added, rule)
    for name, value in after[taken:]:
        x = _elementwise(name, x, value, profile)
    return rounded(x, profile.outputs)


def _taken(names: Sequence[str], order: Sequence[str]) -> int:
    """How many of the operations next to a product, the nearest first, are taken in: kind by kind, while each lasts."""
    taken = 0
    for kind in order:
        while taken < len(names) and names[taken] == kind:
            taken += 1
    return taken


def _elementwise(kind: str, x: Single, constant: Single, profile: Profile) -> Single:
    rule = profile.rules.get(kind)
    if not isinstance(rule, Elementwise):
        raise NotTold(f"{kind} has no rule of its own")
    return elementwise.binary(kind, x, rounded(constant, profile.weights), rule)
