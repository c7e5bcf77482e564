"""One device run against one reference: every figure, and every reason why there is none.

Nothing is skipped, replaced or averaged: what is missing, extra, of another shape or dtype, or
not finite becomes a named Failure in the record, and everything else is still measured, so that
one run tells all that is wrong with it. No limit is applied here; see `verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from fidelity.comparison.metrics import OUTPUT_METRICS, SET_METRICS
from fidelity.comparison.metrics.outcome import Measured, Outcome, RealArray, Undefined, finite_pair
from fidelity.errors import BadInput
from fidelity.record import Figure, Record

Outputs = Mapping[str, Mapping[str, RealArray]]
"""Arrays by input name, then by output name."""

FailureCode = Literal[
    "empty_set",  # no inputs were asked for, or the reference is empty
    "no_reference",  # an input was asked for that has no reference
    "missing_input",  # asked for, and the device gave nothing
    "extra_input",  # the device gave outputs for an input that nobody asked for
    "missing_output",
    "extra_output",
    "shape_mismatch",
    "dtype_mismatch",
    "non_finite_actual",
    "non_finite_reference",
    "zero_reference",
]


class Failure(Record):
    """Something that makes a comparison impossible or unsound, whatever the limits."""

    code: FailureCode
    message: str
    input: str | None = None
    output: str | None = None


class OutputComparison(Record):
    """One output of one input. Each metric is either in `metrics` or, with its cause, in `undefined`.

    `index` says where in the output a figure was reached, for the metrics that know.
    """

    input: str
    output: str
    metrics: dict[str, Figure]
    index: dict[str, tuple[int, ...]]
    undefined: dict[str, Undefined]


class SetComparison(Record):
    """One output over the inputs that could be compared. `at` names the inputs of a figure."""

    output: str
    inputs: tuple[str, ...]
    metrics: dict[str, Figure]
    at: dict[str, tuple[str, ...]]
    index: dict[str, tuple[int, ...]]
    undefined: dict[str, Undefined]


class Comparison(Record):
    """All of one run against one reference, in name order: the same arrays give the same bytes."""

    asked: tuple[str, ...]
    photographs: tuple[str, ...]
    outputs: tuple[OutputComparison, ...]
    sets: tuple[SetComparison, ...]
    failures: tuple[Failure, ...]


def compare(
    actual: Outputs,
    reference: Outputs,
    photographs: Iterable[str],
    *,
    asked: Iterable[str] | None = None,
    dtype: str = "float32",
) -> Comparison:
    """Every metric of every output of every input, and over the set of inputs.

    `reference` may be float64 and may hold more inputs than were `asked` of the device (all of
    them, unless told): the common component is taken over all. `photographs` are the inputs that
    nearest neighbours are taken among. `dtype` is what the model's contract says of its outputs.
    Whatever a device can get wrong becomes a Failure. Raises BadInput only for a photograph that
    is not in the reference, which is the caller's mistake.
    """
    wanted = tuple(sorted(set(reference if asked is None else asked)))
    photos = tuple(sorted(set(photographs)))
    unknown = [name for name in photos if name not in reference]
    if unknown:
        raise BadInput(f"photograph {unknown[0]!r}: not among the reference's inputs")
    failures = _set_failures(actual, reference, wanted)
    outputs: list[OutputComparison] = []
    for name in wanted:
        if name in actual and name in reference:
            failures += _output_failures(name, actual[name], reference[name], dtype)
            common = sorted(set(actual[name]) & set(reference[name]))
            outputs += [_measure_output(name, key, actual[name][key], reference[name][key]) for key in common]
    keys = sorted({key for name in wanted for key in reference.get(name, {})})
    sets = [_measure_set(key, actual, reference, wanted, photos) for key in keys]
    return Comparison(
        asked=wanted,
        photographs=photos,
        outputs=tuple(outputs),
        sets=tuple(sets),
        failures=tuple(failures),
    )


def _set_failures(actual: Outputs, reference: Outputs, wanted: tuple[str, ...]) -> list[Failure]:
    if not wanted or not reference:
        return [Failure(code="empty_set", message="no inputs to compare: a verdict on nothing is worth nothing")]
    failures = [
        Failure(code="no_reference", input=name, message=f"input {name!r} has no reference output")
        for name in wanted
        if not reference.get(name)
    ]
    failures += [
        Failure(code="missing_input", input=name, message=f"the device gave nothing for input {name!r}")
        for name in wanted
        if name not in actual
    ]
    failures += [
        Failure(code="extra_input", input=name, message=f"the device answered {name!r}, which was not asked")
        for name in sorted(set(actual) - set(wanted))
    ]
    return failures


def _output_failures(
    name: str, actual: Mapping[str, RealArray], reference: Mapping[str, RealArray], dtype: str
) -> list[Failure]:
    failures = [
        Failure(code="missing_output", input=name, output=key, message=f"output {key!r} is missing")
        for key in sorted(set(reference) - set(actual))
    ]
    failures += [
        Failure(code="extra_output", input=name, output=key, message=f"output {key!r} is not in the reference")
        for key in sorted(set(actual) - set(reference))
    ]
    for key in sorted(set(actual) & set(reference)):
        failures += _array_failures(name, key, actual[key], reference[key], dtype)
    return failures


def _array_failures(name: str, key: str, actual: RealArray, reference: RealArray, dtype: str) -> list[Failure]:
    found: list[tuple[FailureCode, str]] = []
    if actual.shape != reference.shape:
        found.append(("shape_mismatch", f"shape {list(actual.shape)}, reference {list(reference.shape)}"))
    if actual.dtype != np.dtype(dtype):
        found.append(("dtype_mismatch", f"dtype {actual.dtype}, the contract says {dtype}"))
    if reference.dtype.kind != "f":
        found.append(("dtype_mismatch", f"the reference has dtype {reference.dtype}, not a float"))
    elif not np.all(np.isfinite(reference)):
        found.append(("non_finite_reference", f"{_non_finite(reference)} reference elements are NaN or Inf"))
    elif not np.any(reference):
        found.append(("zero_reference", f"all {reference.size} reference elements are zero"))
    if actual.dtype.kind in "fc" and not np.all(np.isfinite(actual)):
        found.append(("non_finite_actual", f"{_non_finite(actual)} of {actual.size} elements are NaN or Inf"))
    return [Failure(code=code, input=name, output=key, message=message) for code, message in found]


def _non_finite(array: RealArray) -> int:
    return int(np.count_nonzero(~np.isfinite(array)))


def _measure_output(name: str, key: str, actual: RealArray, reference: RealArray) -> OutputComparison:
    outcomes = {metric.name: metric.function(actual, reference) for metric in OUTPUT_METRICS.values()}
    measured, undefined = _split(outcomes)
    return OutputComparison(
        input=name,
        output=key,
        metrics={metric: figure.value for metric, figure in measured.items()},
        index={metric: figure.index for metric, figure in measured.items() if figure.index},
        undefined=undefined,
    )


def _measure_set(
    key: str, actual: Outputs, reference: Outputs, wanted: tuple[str, ...], photos: tuple[str, ...]
) -> SetComparison:
    """Over every input whose output can be compared; a Failure tells of each that cannot."""
    references = {
        name: outputs[key]
        for name, outputs in sorted(reference.items())
        if key in outputs and not isinstance(finite_pair(outputs[key], outputs[key]), Undefined)
    }
    actuals = {
        name: actual[name][key]
        for name in wanted
        if name in references
        and key in actual.get(name, {})
        and not isinstance(finite_pair(actual[name][key], references[name]), Undefined)
    }
    outcomes: dict[str, Outcome] = {}
    for metric in SET_METRICS.values():
        over = photos if metric.over == "photographs" else wanted
        outcomes[metric.name] = metric.function(
            {name: array for name, array in actuals.items() if name in over}, references
        )
    measured, undefined = _split(outcomes)
    return SetComparison(
        output=key,
        inputs=tuple(actuals),
        metrics={metric: figure.value for metric, figure in measured.items()},
        at={metric: figure.inputs for metric, figure in measured.items() if figure.inputs},
        index={metric: figure.index for metric, figure in measured.items() if figure.index},
        undefined=undefined,
    )


def _split(outcomes: Mapping[str, Outcome]) -> tuple[dict[str, Measured], dict[str, Undefined]]:
    measured = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Measured)}
    undefined = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Undefined)}
    return measured, undefined
