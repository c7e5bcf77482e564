"""The truth of a bare artefact: the reference kernels' outputs, held against our own float32 emulation first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.profile import load_profile
from fidelity.cache import Cache
from fidelity.devices.discovery import REFERENCE
from fidelity.errors import BadInput
from fidelity.gating.bare.depth import depth_of
from fidelity.gating.bare.outputs import Measured, reals_of
from fidelity.gating.bare.records import Agreement, Apart, Basis, Lacking, Truth
from fidelity.gating.bare.running import Sets, ran
from fidelity.gating.bare.tolerances import relative_tolerance, rms_steps
from fidelity.gating.execution import Execution
from fidelity.progress import Step
from fidelity.tflite.edit import TAP, with_taps
from fidelity.tflite.emulation.emulate import Emulated, Emulator
from fidelity.tflite.emulation.stored_integers import quantization_of
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Graph
from fidelity.tflite.walk import static_tensors

Array = NDArray[Any]
Outputs = dict[str, dict[str, Array]]
PROFILE = "ieee-fp32"


@dataclass(frozen=True)
class Established:
    """The record of the truth, and the outputs by set and name, in real numbers."""

    record: Truth
    outputs: Outputs


def establish(
    kernels: Execution,
    artefact: Path,
    signature: str | None,
    measured: Mapping[str, Measured],
    sets: Sets,
    cache: Cache,
    step: Step,
) -> Established:
    """Hold what the reference kernels gave against the emulation of `artefact`, and say what the truth rests on.

    Where an operator is lacking, or the two are apart, that is named, and the kernels alone are the truth:
    LiteRT's own definition of its operators. Where the kernels did not run there is none.
    """
    if kernels.result.status != "ok":
        why = f"the reference kernels ended as {kernels.result.status}: {kernels.result.error}"
        graph = read_graph(artefact)
        own = tuple(
            Lacking(operator=op.index, name=op.name, reason="a custom operation is its author's own")
            for subgraph in graph.subgraphs
            for op in subgraph.operators
            if op.is_custom
        )
        record = _record("nothing", (), own, 0, None, kernels, why)
        return Established(record, {})
    graph = read_graph(artefact)
    truth = reals_of(kernels.outputs, measured)
    found = _emulated(graph, signature, sets, step)
    lacking = tuple(Lacking(operator=m.operator, name=m.name, reason=m.reason) for m in found[1])
    emulated = reals_of({which: each.outputs for which, each in found[0].items()}, measured)
    agreements = tuple(
        _agreement(each, emulated, truth)
        for name, each in measured.items()
        if all(name in outputs for outputs in emulated.values()) and emulated
    )
    unreached = max((len(each.unreached) for each in found[0].values()), default=0)
    broken = [each for each in agreements if not each.holds]
    single = _OperatorByOperator(0, None)
    if broken:
        single = _operator_by_operator(graph, signature, broken[0].at, sets, cache, step)
    disputed = bool(broken) and (single.looked_at == 0 or single.apart is not None or not _finite(broken))
    whole = len(agreements) == len(measured)
    basis: Basis = "disputed" if disputed else "both" if whole else "reference kernels"
    apart = single.apart
    return Established(
        _record(basis, agreements, lacking, unreached, apart, kernels, _why(basis, broken, lacking, single)), truth
    )


def _record(
    basis: Basis,
    agreements: tuple[Agreement, ...],
    lacking: tuple[Lacking, ...],
    unreached: int,
    apart: Apart | None,
    kernels: Execution,
    why: str,
) -> Truth:
    return Truth(
        rests_on=basis,
        agreements=agreements,
        lacking=lacking,
        unreached=unreached,
        apart=apart,
        kernels=kernels.result,
        why=why,
    )


def _finite(broken: list[Agreement]) -> bool:
    return all(np.isfinite(each.worst) for each in broken)


def _why(basis: Basis, broken: list[Agreement], lacking: tuple[Lacking, ...], single: _OperatorByOperator) -> str:
    """In a line for a person."""
    if broken:
        first, apart = broken[0], single.apart
        far = (
            f"the emulation is {first.worst:.3g} ({first.unit}) from the reference kernels on {first.output!r} at "
            f"{first.at}, where {first.allowed:.3g} was expected"
        )
        if apart is not None:
            return f"{far}; first apart: op {apart.operator} {apart.name}, tensor {apart.tensor} {apart.tensor_name!r}"
        if basis == "disputed":
            return f"{far}, and no single operator could be blamed"
        return f"all {single.looked_at} operators agree one by one; {far}: the graph amplifies rounding"
    if basis == "both":
        return "reference kernels and emulation agree on every output"
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        return f"the emulator lacks op {lacking[0].operator} {lacking[0].name}{more}: {lacking[0].reason}"
    return "the emulation gave no output"


def _emulated(
    graph: Graph, signature: str | None, sets: Sets, step: Step
) -> tuple[dict[str, Emulated], tuple[Any, ...]]:
    """Every set's outputs; where an operator is lacking the first set tells all, and the others are not computed."""
    try:
        emulator = Emulator(graph, load_profile(PROFILE), signature)
    except NotImplementedError:
        return {}, ()
    found: dict[str, Emulated] = {}
    for which, inputs in sets.items():
        step(f"emulated {which}")
        found[which] = emulator.run(inputs)
        if found[which].missing and not found[which].outputs:
            break
    missing = {each.operator: each for run in found.values() for each in run.missing}
    return found, tuple(missing[index] for index in sorted(missing))


def _agreement(each: Measured, emulated: Outputs, truth: Outputs) -> Agreement:
    """Over every set that both have; the worst decides. A set with an output that is not finite is infinitely off."""
    scale = max((_rms(truth[which][each.name]) for which in emulated), default=0.0)
    errors = {which: _apart(each, emulated[which][each.name], truth[which][each.name], scale) for which in emulated}
    at = max(errors, key=lambda which: errors[which])
    allowed = rms_steps(each.depth.step_roundings) if each.unit == "steps" else each.tolerance
    return Agreement(output=each.name, unit=each.unit, worst=errors[at], allowed=allowed, at=at)


def _apart(each: Measured, one: Array, other: Array, scale: float) -> float:
    """In the output's unit: rms of steps; rms over 1; rms over the output's own, or over the sets' largest of few
    numbers, which alone may be near zero."""
    if one.shape != other.shape or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    error = _rms(one.astype(np.float64) - other.astype(np.float64))
    if each.unit == "steps":
        return error / (each.step or 1.0)
    if each.unit == "full scale":
        return error
    length = scale if one.size < FEW else _rms(other)
    return 0.0 if error == 0 else error / length if length else float("inf")


FEW = 16
"""Outputs of fewer numbers are judged over all sets at once: one number has no correlation, and may be near zero."""


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array.astype(np.float64))))) if array.size else 0.0


@dataclass(frozen=True)
class _OperatorByOperator:
    """Every operator by itself: how many were looked at, and the first that is apart."""

    looked_at: int
    apart: Apart | None


def _operator_by_operator(
    graph: Graph, signature: str | None, which: str, sets: Sets, cache: Cache, step: Step
) -> _OperatorByOperator:
    """Our emulation of every operator on what the reference kernels gave its inputs, at one set.

    So no rounding of one operator is another's to answer for. None is looked at where the graph cannot be shown
    from inside.
    """
    entry = graph.signature(signature)
    subgraph = graph.subgraphs[entry.subgraph]
    outputs, static = {index for _, index in entry.outputs}, static_tensors(subgraph)
    written = [index for op in subgraph.operators for index in op.outputs if index not in static]
    try:
        tapped = with_taps(graph, [index for index in written if index not in outputs], signature)
    except BadInput:
        return _OperatorByOperator(0, None)
    folder = cache.entry("tapped", {"bytes": _digest(tapped)}, _writer(tapped))
    run = ran(folder / "tapped.tflite", REFERENCE, "default", None, {which: sets[which]}, cache, step)
    if run.result.status != "ok":
        return _OperatorByOperator(0, None)
    given = run.outputs[which]
    values = {index: sets[which][name] for name, index in entry.inputs}
    values |= {index: given[f"{TAP}{index}"] for index in written if f"{TAP}{index}" in given}
    values |= {index: given[name] for name, index in entry.outputs}
    looked_at = 0
    for op, index, result in Emulator(graph, load_profile(PROFILE), signature).one_by_one(values):
        other, how = values[index], quantization_of(subgraph.tensors[index])
        if other.dtype.kind != "f" and how is None:
            error, allowed, length = float(not np.array_equal(result, other)), 0.0, 1.0
        elif how is not None:
            apart = np.abs(result.astype(np.float64) - other.astype(np.float64))
            error, allowed, length = float(np.max(apart, initial=0.0)), 1.0, 1.0
        else:
            length, error = _rms(other), _rms(result.astype(np.float64) - other)
            allowed = relative_tolerance(depth_of(subgraph, op))
        looked_at += 1
        if error > allowed * length:
            return _OperatorByOperator(
                looked_at,
                Apart(
                    operator=op.index,
                    name=op.name,
                    tensor=index,
                    tensor_name=subgraph.tensors[index].name,
                    error=error / length if length else float("inf"),
                    allowed=allowed,
                ),
            )
    return _OperatorByOperator(looked_at, None)


def _digest(data: bytes) -> str:
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(data).hexdigest()


def _writer(data: bytes) -> Any:
    def write(folder: Path) -> None:
        (folder / "tapped.tflite").write_bytes(data)

    return write
