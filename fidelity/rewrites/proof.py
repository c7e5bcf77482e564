"""What a proof of the rewrites says: the records that `fidelity prove` stores; no torch needed."""

from __future__ import annotations

from fidelity.record import Figure, Record
from fidelity.rewrites.contract import Contract, Exactness


class Decision(Record):
    """What one rewrite did at one module that concerns it: taken, or the reason why not."""

    rewrite: str
    path: str
    module: str
    refused: str | None = None


class TensorProof(Record):
    """What was found for one tensor of the rewritten model."""

    tensor: str
    source: str
    bits_equal: bool | None  # None: derived, so not a copy
    how: str


class WeightsProof(Record):
    """The whole map: every tensor of the rewritten model, and what became of every original one."""

    tensors: tuple[TensorProof, ...]
    lost: tuple[str, ...]  # original tensors of which some element is neither copied nor derived from
    unexplained: tuple[str, ...]  # rewritten tensors without an origin
    copied_values: int
    derived_tensors: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """True when every copy has the same bits and nothing is lost or unexplained."""
        return not self.lost and not self.unexplained and all(t.bits_equal is not False for t in self.tensors)


class CounterExample(Record):
    """One place where the rewritten module is not the original: enough to see it again."""

    input: str
    row: int
    column: int
    expected: Figure
    got: Figure
    difference: Figure
    allowed: Figure


class Difference(Record):
    """The worst row of all calls at one precision: relative L2 difference, and what was allowed."""

    worst: Figure
    allowed: Figure
    input: str


class SiteProof(Record):
    """One module, block or the whole model, held against the unrewritten one on the same inputs.

    `exactness` is what was found: EXACT (float32 bits equal on every input), ROUNDING (within the
    derived limit in float64 and float32), NOT_EQUIVALENT (with the counter-example).
    """

    path: str
    rewrites: tuple[str, ...]
    calls: int
    float64: Difference
    float32: Difference
    exactness: Exactness
    counter_example: CounterExample | None = None


class Proof(Record):
    """Whether a rewritten model is the original: decisions, weights, sites, blocks and the whole."""

    source: str
    weights: str
    contracts: tuple[Contract, ...]
    decisions: tuple[Decision, ...]
    weights_map: WeightsProof
    sites: tuple[SiteProof, ...]
    inputs: tuple[str, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """Every reason why the rewritten model may not stand for the original, in a sentence."""
        weights = self.weights_map
        lines = [f"weight {name} of the original is lost" for name in weights.lost]
        lines += [f"tensor {name} has no origin" for name in weights.unexplained]
        lines += [f"{t.tensor} differs in its bits from {t.source}" for t in weights.tensors if t.bits_equal is False]
        promised = {c.name: c.exactness for c in self.contracts}
        for site in self.sites:
            where = site.path or "the whole model"
            if site.counter_example is not None:
                e = site.counter_example
                lines.append(
                    f"{where}: {e.got:.9g} instead of {e.expected:.9g} at row {e.row}, column {e.column} on "
                    f"{e.input}: relative difference {e.difference:.3g}, allowed {e.allowed:.3g}"
                )
            elif site.exactness is not Exactness.EXACT and all(
                promised.get(name) is Exactness.EXACT for name in site.rewrites
            ):  # where another rewrite may round, what rounds is not known to be this one
                lines += [f"{where}: {name} promises EXACT and only rounds" for name in site.rewrites]
        return tuple(lines)

    @property
    def passed(self) -> bool:
        """True when there is no failure and at least one call was compared."""
        return not self.failures and bool(self.sites) and all(site.calls > 0 for site in self.sites)
