"""What cures each kind of failure."""

from __future__ import annotations

from fidelity.localisation.records import Kind

CURES: dict[Kind, str] = {
    "right": "none needed",
    "expected": "judge it by the expected error, or ask for more precision (--precision fp32) where it is needed",
    "overflow": "the rewrite safe_layernorm if it is in a LayerNorm; else scale what overflows; or --precision fp32",
    "compounding": "more precision where the error grows most: --precision fp16-accumulate-fp32 or fp32",
    "converter": "the conversion or a rewrite is wrong: fidelity prove SOURCE, then fidelity compare FILE --device cpu",
    "fallback": "the rewrites that make every node resident (fidelity audit FILE names them)",
    "kernel": "report it upstream with the operator alone (it is in the report), and rewrite that operation",
    "layout-or-fusion": "report it upstream with the operators around it; a reshape between them often avoids it",
    "unlocated": "see the evidence",
}
