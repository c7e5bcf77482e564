"""Located runs for the report's examples, as `fidelity locate` would have stored them: twelve blocks of a tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from test_report_example_predictions import PROFILE, site

from fidelity.localisation.cures import CURES
from fidelity.localisation.records import Errors, Located, Overflow, Trace, Traced
from fidelity.prediction.site import headroom

BLOCKS = 12
KINDS = ("MUL", "SQUARED_DIFFERENCE", "MEAN", "FULLY_CONNECTED", "ADD")
PARTS = ("norm1", "norm1", "norm1", "mlp.fc1", None)
PLACES = tuple(
    (place, kind, f"EvaBlock_{block}" + (f".{part}" if part else ""))
    for place, (block, kind, part) in enumerate(
        [(block, kind, part) for block in range(BLOCKS) for kind, part in zip(KINDS, PARTS, strict=True)], start=10
    )
)
FAULT = 36
"""Where each example's fault is: a SQUARED_DIFFERENCE of block 5."""


@dataclass(frozen=True)
class Growth:
    """What is made up at one operator: errors and correlations of both sides, and the bits that are left."""

    expected: float
    actual: float
    correlation_expected: float
    correlation: float
    headroom: float
    non_finite: int = 0


def as_it_must(place: int) -> Growth:
    """A small error that grows with depth, a little another than expected."""
    grown = 2e-4 * (1 + 0.15 * (place - PLACES[0][0]))
    return Growth(grown, grown * 1.04, 1 - grown**2 / 2, 1 - grown**2 / 2.1, 9.5 - 0.05 * place)


def overflowing(place: int) -> Growth:
    """From the fault on, nothing is left on either side: first not finite, then another direction."""
    if place < FAULT:
        return as_it_must(place)
    if place == FAULT:
        return Growth(float("inf"), float("inf"), float("nan"), float("nan"), float("-inf"), 884)
    return Growth(1.37, 1.37, 0.0635, 0.0635, 5.5)


def broken_kernel(place: int) -> Growth:
    """From the fault on, the device is wrong and its arithmetic is not."""
    good = as_it_must(place)
    if place < FAULT:
        return good
    return Growth(good.expected, 0.21, good.correlation_expected, 0.978, good.headroom)


def traced(place: int, name: str, module: str | None, grown: Growth) -> Traced:
    """One row; its massive channel grows with depth."""
    return Traced(
        operator=place,
        name=name,
        tensor=1000 + place,
        module=module,
        members=(place - 1, place) if name == "ADD" else (place,),
        error_actual=grown.actual,
        error_expected=grown.expected,
        identical_share=1.0 if grown.actual == grown.expected else 0.8125,
        correlation=grown.correlation,
        correlation_expected=grown.correlation_expected,
        truth="pytorch",
        non_finite=grown.non_finite,
        peak=30.5 + 7.25 * place,
        headroom=grown.headroom,
        channels=(37, 511, 2, 640),
        magnitudes=(30.5 + 7.25 * place, 11.75, 3.5, 1.25),
    )


def trace_of(growth: Callable[[int], Growth], **changes: object) -> Trace:
    """A trace of the whole tower."""
    fields: dict[str, object] = {
        "profile": PROFILE,
        "stands_in": False,
        "operators": tuple(traced(place, name, module, growth(place)) for place, name, module in PLACES),
        "changed": False,
        "refused": {11: "the runtime gives no such output"},
        "runs": 1,
    }
    return Trace.model_validate(fields | changes)


def located(kind: str, found: Trace | None, **changes: object) -> Located:
    """What is found of the worst of three inputs on the GPU."""
    fields: dict[str, object] = {
        "input": "hubble-deep-field",
        "device": "gpu",
        "kind": kind,
        "culprit": None,
        "evidence": ("its error is 1.37, and mldrift-webgpu-lavapipe must give 1.37",),
        "cure": CURES[kind],  # type: ignore[index]
        "errors": Errors(actual=1.37, expected=1.37, cpu=4.4e-4),
        "inputs": {"hubble-deep-field": 1.37, "astronaut": 1.3125, "noise": 0.5},
        "trace": found,
        "device_runs": 1,
    }
    return Located.model_validate(fields | changes)


def overflow() -> Located:
    """The card's failure: the square in block 5's first LayerNorm passes 65,504."""
    needed = 818_000.5
    found = trace_of(overflowing)
    at = site(FAULT, "SQUARED_DIFFERENCE", float("inf"), non_finite=884, module="EvaBlock_5.norm1", input="astronaut")
    return located(
        "overflow",
        found,
        culprit=found.operators[FAULT - PLACES[0][0]],
        overflow=Overflow(site=at, needed=needed, headroom=headroom(65504.0, needed)),
    )


def kernel() -> Located:
    """One operator that is wrong alone, with its pack."""
    found = trace_of(broken_kernel)
    return located(
        "kernel",
        found,
        culprit=found.operators[FAULT - PLACES[0][0]],
        evidence=("right inputs, wrong result: 0.21 against 0.00098", "alone it is wrong as well: error 0.21"),
        errors=Errors(actual=0.21, expected=0.00198, cpu=4.4e-4),
        device_runs=3,
        pack="packs/gpu fp16",
    )


def converter() -> Located:
    """Wrong on the CPU as well, so no device was traced."""
    return located(
        "converter",
        None,
        evidence=("the CPU's error is 0.5",),
        errors=Errors(actual=0.5, expected=0.002, cpu=0.5),
        inputs={"noise": 0.5},
        input="noise",
    )


def hostile(texts: tuple[str, str, str, str]) -> Located:
    """Every name that comes from a file or a log is an attack."""
    script, cdata, mixed, attribute = texts
    rows = (traced(3, script, mixed, as_it_must(10)), traced(4, cdata, attribute, broken_kernel(FAULT)))
    return located(
        "layout-or-fusion",
        trace_of(as_it_must, operators=rows, changed=True, stands_in=True, refused={7: attribute}),
        culprit=rows[1],
        evidence=(script, cdata),
        cure=mixed,
        device=attribute,
        input=script,
        inputs={script: 0.25, attribute: float("nan")},
        pack="javascript:alert(1)//" + script,
    )


def test_the_traces_say_what_their_names_say() -> None:
    found = overflow()
    assert found.trace is not None
    lost = [row for row in found.trace.operators if not np.isfinite(row.error_actual)]
    assert [row.operator for row in lost] == [FAULT]
    assert found.overflow is not None
    assert -4 < found.overflow.headroom < -3
    assert kernel().culprit.place == f"op {FAULT} SQUARED_DIFFERENCE in EvaBlock_5.norm1"  # type: ignore[union-attr]
    assert converter().trace is None
