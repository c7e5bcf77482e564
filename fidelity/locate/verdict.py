"""What kind of failure it is, with the evidence and the cure."""

from __future__ import annotations

from typing import Literal

from fidelity.locate.trace import Trace, Traced
from fidelity.record import Figure, Record

Kind = Literal[
    "right",  # nothing to locate: the device is as near to the truth as it must be, and that is good enough
    "expected",  # the device gives what its fp16 must give, and no more can be had of it
    "overflow",  # the device gives what its fp16 must give, and an overflow makes that wrong
    "compounding",  # as expected, no overflow, and the error grows with depth: no single operator is to blame
    "converter",  # the CPU is wrong as well
    "fallback",  # not every node runs on the device, or the result is the CPU's own
    "kernel",  # wrong in one operator, and wrong when that operator is alone
    "layout-or-fusion",  # wrong in one operator, which is right when it is alone
    "unlocated",  # wrong, and no operator could be told: the reason is in the evidence
]

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


class Errors(Record):
    """Relative L2 of the final output against the truth: the device, what its arithmetic must give, the CPU."""

    actual: Figure
    expected: Figure
    cpu: Figure


class Located(Record):
    """The answer. `culprit` is None where no single operator is to blame; `device_runs` is what it cost."""

    kind: Kind
    culprit: Traced | None
    evidence: tuple[str, ...]
    cure: str
    errors: Errors
    trace: Trace | None
    device_runs: int
