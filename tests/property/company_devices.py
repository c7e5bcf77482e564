"""Synthetic devices with known rules in company: graphs built as for a real one, and run by the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fidelity.arithmetic.float16 import Conversion
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.reveal.company.graphs import Company
from fidelity.arithmetic.reveal.company.merging import ORDERS
from fidelity.arithmetic.reveal.experiment import Refusal, Result, Single
from fidelity.arithmetic.rules import LAYER_NORM, SOFTMAX, Case, LayerNorm, Product, Range, Rule, Share, Softmax
from fidelity.devices.company_probes import file_of
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph

IEEE, CUT = Conversion(), Conversion("toward_zero", "saturate")
PARTS = (1, 2, 3, 4, 5, 8, 16, 32, 64)


def in_float32(profile: Profile) -> Profile:
    """The same rules with nothing converted, for the rules in company; others have no say in float32 runs."""
    rules: dict[str, Rule] = {}
    for kind, rule in profile.rules.items():
        if isinstance(rule, Softmax):
            shares = tuple(share.model_copy(update=dict.fromkeys(_SHARE)) for share in rule.shares)
            rules[kind] = rule.model_copy(update={"shares": shares})
        if isinstance(rule, LayerNorm):
            rules[kind] = rule.model_copy(update={"stored": None, "stored_absorbed": None})
    return profile.model_copy(update={"inputs": None, "weights": None, "outputs": None, "rules": rules})


_SHARE = ("quotient", "stored", "stored_absorbed")


@dataclass
class EmulatedCompany:
    """A laboratory whose device is the emulator under `profile`; without `wide` it has no float32 precision."""

    profile: Profile
    folder: Path
    wide: bool = True

    def run(self, graphs: Sequence[Company]) -> list[Result]:
        results: list[Result] = [Refusal("no float32 precision")] * len(graphs)
        for wide in (False, True) if self.wide else (False,):
            places = [place for place, graph in enumerate(graphs) if graph.wide == wide]
            if places:
                inputs: dict[str, Single] = {}
                path = self.folder / "graphs.tflite"
                path.write_bytes(file_of([graphs[place] for place in places], inputs))
                emulator = Emulator(read_graph(path), in_float32(self.profile) if wide else self.profile)
                outputs = emulator.run(inputs).outputs
                for number, place in enumerate(places):
                    found = outputs.get(f"g{number}_y")
                    results[place] = Refusal("not computed") if found is None else found
        return results


class Draw:
    """Rules in company, one random device after another."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.Generator(np.random.Philox(seed))

    def of(self, values: Sequence[Any]) -> Any:
        return values[int(self.generator.integers(len(values)))]

    def product(self, rule: Product) -> Product:
        return rule.model_copy(update={"merges_before": self.of(ORDERS), "merges_after": self.of(ORDERS)})

    def softmax(self, rule: Softmax) -> Softmax:
        shares = tuple(
            share.model_copy(update={"stored_absorbed": self.of((None, IEEE, CUT))}) for share in rule.shares
        )
        shared = self.cases(Order(lanes=rule.lanes)) if self.of((True, True, False)) else ()
        return rule.model_copy(update={"shares": shares, "shared": shared})

    def layer_norm(self) -> LayerNorm:
        apart = self.of((True, False))
        lanes = self.of((2, 4))
        flavour = Order(lanes, apart, first=self.of(("lanes", "parts")) if apart else "parts")
        return LayerNorm(
            variance=self.of(("squares", "deviations")),
            cases=self.cases(flavour),
            stored=self.of((IEEE, CUT)),
            stored_absorbed=self.of((None, IEEE, CUT)),
        )

    def cases(self, flavour: Order) -> tuple[Case, ...]:
        """One threshold on rows, one on slices, one multiple; or fewer."""
        rows, slices = int(self.generator.integers(2, 900)), int(self.generator.integers(6, 60))
        conditions: list[dict[str, Range]] = [
            {"rows": Range(at_most=rows), "slices": Range(at_least=slices)},
            {"slices": Range(multiple_of=self.of((8, 32)))},
            {"rows": Range(at_most=rows)},
        ]
        kept = [when for when in conditions if self.of((True, False))]
        return tuple(Case.model_validate({"when": when, "order": self.order(flavour)}) for when in (*kept, {}))

    def order(self, flavour: Order) -> Order:
        ways = ("running", "halves", "neighbours", "fours", (4,), (8, 4))
        return Order(
            flavour.lanes,
            flavour.lanes_apart,
            self.of(PARTS),
            combine=self.of(ways),
            first=flavour.first,
        )


def drawn(seed: int, base: Profile) -> Profile:
    """`base` with rules in company drawn anew."""
    draw = Draw(seed)
    rules = dict(base.rules)
    for kind in ("FULLY_CONNECTED", "CONV_2D"):
        rule = rules[kind]
        assert isinstance(rule, Product)
        rules[kind] = draw.product(rule)
    rule = rules[SOFTMAX]
    assert isinstance(rule, Softmax)
    rules[SOFTMAX] = draw.softmax(rule)
    rules.pop(LAYER_NORM, None)
    if draw.of((True, True, False)):
        rules[LAYER_NORM] = draw.layer_norm()
    return base.model_copy(update={"rules": rules})


def alone(profile: Profile) -> Profile:
    """What single operations tell of a device: no rule in company."""
    rules = {kind: rule for kind, rule in profile.rules.items() if kind != LAYER_NORM}
    for kind, rule in rules.items():
        if isinstance(rule, Product):
            rules[kind] = rule.model_copy(update={"merges_before": (), "merges_after": ()})
        if isinstance(rule, Softmax):
            shares: tuple[Share, ...] = tuple(it.model_copy(update={"stored_absorbed": None}) for it in rule.shares)
            rules[kind] = rule.model_copy(update={"shares": shares, "shared": ()})
    return profile.model_copy(update={"rules": rules})
