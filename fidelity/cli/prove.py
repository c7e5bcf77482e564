"""`fidelity prove`: are the rewrites weights-exact, on this very model?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fidelity.cli import options as o
from fidelity.errors import EXIT_FAIL, EXIT_PASS

if TYPE_CHECKING:
    from fidelity.rewrites.proof import Proof


def prove(
    source: o.Source,
    weights: o.Weights = "seeded",
    rewrites: o.Rewrites = "all",
    images: o.Images = o.IMAGES,
    inputs: o.Inputs = None,
    seed: o.Seed = 0,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Prove the rewrites against the unrewritten model: weights map, float64, float32."""
    from fidelity.api.sources import prove as run_proof  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    proof = run_proof(
        source,
        weights=weights,
        rewrites=rewrites,
        inputs=o.names(inputs),
        images=images,
        seed=seed,
        reporter=session.reporter,
    )
    session.show(proof, summary(proof))
    return EXIT_PASS if proof.passed else EXIT_FAIL


def summary(proof: Proof) -> list[str]:
    """The proof for a person: weights, worst site of each kind, decisions, failures."""
    weights = proof.weights_map
    lines = [
        f"weights: {'exact' if weights.exact else 'NOT EXACT'}, {weights.copied_values:,} values bit for bit, "
        f"derived: {', '.join(weights.derived_tensors) or 'none'}"
    ]
    for contract in proof.contracts:
        taken = [d.path for d in proof.decisions if d.rewrite == contract.name and d.refused is None]
        refused = {d.refused for d in proof.decisions if d.rewrite == contract.name and d.refused is not None}
        lines.append(
            f"{contract.name} v{contract.version}: {len(taken)} modules, promises {contract.exactness}"
            + (f"; not taken: {'; '.join(sorted(filter(None, refused)))}" if refused else "")
        )
    for title, precision in (("float64", "float64"), ("float32", "float32")):
        worst = max(proof.sites, key=lambda site: getattr(site, precision).worst / getattr(site, precision).allowed)
        found = getattr(worst, precision)
        lines.append(
            f"{title}: worst of {len(proof.sites)} sites and blocks is {worst.path or 'the whole model'} on "
            f"{found.input}: {found.worst:.3g} relative L2 of a row, allowed {found.allowed:.3g}"
        )
    lines += [f"FAIL {reason}" for reason in proof.failures]
    lines.append("proved" if proof.passed else "not proved")
    return lines
