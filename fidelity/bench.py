"""How fast an artefact is on each device: one job a device, every run timed, and a limit against an earlier bench.

A GPU's time is that of a run with its read-back, since the call alone returns before the work is
done; both are kept. Devices of one machine never run beside each other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.latency import FEWEST, Latency, latency
from fidelity.comparison.policy import Policy
from fidelity.devices.discovery import Device, DeviceInfo
from fidelity.devices.job import JobResult, Precision, PrecisionHad, Residency, Thermal
from fidelity.devices.prepare import prepare_job
from fidelity.devices.queues import Task, in_queues
from fidelity.devices.run import run_job
from fidelity.errors import BadInput
from fidelity.progress import Step
from fidelity.record import Figure, Record
from fidelity.tflite.fingerprint import file_sha256
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import IoContract, io_contract

_ONLY = "noise"


class Published(Record):
    """A figure that somebody else measured, for orientation: never compared with by a limit."""

    source: str
    device: str
    median: Figure
    best: Figure
    nodes_on_device: int
    nodes_total: int


CARD = Published(
    source="the published PE-Core B/16 conversion, by its publisher",
    device="Pixel 8a, Mali-G615, OpenCL",
    median=0.066,
    best=0.0125,
    nodes_on_device=1028,
    nodes_total=1028,
)


class BenchRow(Record):
    """One device. `latency` is None when it did not run; `error` then says why.

    Seconds: `compile` until the model was ready, `enqueue` the median until a call returned.
    """

    device: str
    info: DeviceInfo
    precision_asked: Precision
    precision_had: PrecisionHad
    residency: Residency | None
    latency: Latency | None
    compile: Figure | None
    enqueue: Figure | None
    thermal: Thermal | None
    runtime: dict[str, str]
    error: str | None


class Bench(Record):
    """All devices, the published row, and what is slower than the baseline by more than the policy allows."""

    artefact_sha256: str
    rows: tuple[BenchRow, ...]
    published: Published = CARD
    findings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every device ran and none is too slow."""
        return not self.findings and all(row.latency is not None for row in self.rows)


@dataclass(frozen=True)
class BenchPlan:
    """How often and how long: at most `runs` runs, and no new one after `seconds`."""

    precision: Precision = "default"
    runs: int = 200
    seconds: float = 120.0
    threads: int = 2

    def __post_init__(self) -> None:
        if self.runs < FEWEST:
            raise BadInput(f"runs {self.runs}: at least {FEWEST} are needed to tell when a device is steady")


def bench(artefact: Path, devices: Sequence[Device], plan: BenchPlan, step: Step) -> Bench:
    """Time the artefact on every device, phones beside each other, this machine's one after the other.

    Raises BadInput for a file that is no model of one signature with static inputs.
    """
    graph = read_graph(artefact)
    inputs = noise(io_contract(graph))

    def one(device: Device) -> BenchRow:
        step(f"bench on {device.spec}")
        return bench_on(artefact, device, inputs, plan)

    rows = in_queues([Task(device.queue, partial(one, device)) for device in devices])
    return Bench(artefact_sha256=file_sha256(graph), rows=tuple(rows))


def bench_on(artefact: Path, device: Device, inputs: dict[str, NDArray[Any]], plan: BenchPlan) -> BenchRow:
    """One device's row."""
    with tempfile.TemporaryDirectory(prefix="fidelity-bench-") as scratch:
        folder = Path(scratch) / "job"
        prepare_job(
            folder,
            artefact,
            {_ONLY: inputs},
            device=device.job_device,
            precision=plan.precision,
            repeat=(_ONLY,),
            repeats=plan.runs,
            repeat_seconds=plan.seconds,
            threads=plan.threads,
            timeout_seconds=600 + 2 * plan.seconds,
        )
        return row_of(device, run_job(folder, device))


def row_of(device: Device, result: JobResult) -> BenchRow:
    """A finished job as a row. Too few runs within the time are an error of the row, not a guess."""
    seconds = [value for output in result.outputs for value in output.seconds]
    enqueued = [value for output in result.outputs for value in output.enqueue_seconds]
    error, figures = result.error, None
    if result.status == "ok":
        try:
            figures = latency(seconds)
        except BadInput as problem:
            error = f"{problem}; allow more time with --seconds"
    steady = enqueued[(figures.steady_from or len(enqueued) // 2) :] if figures else []
    known = result.adapter and {"name": result.adapter.name, "software": result.adapter.software}
    return BenchRow(
        device=device.spec,
        info=device.info.model_copy(update=known or {}),
        precision_asked=result.precision_asked,
        precision_had=result.precision_had,
        residency=result.residency,
        latency=figures,
        compile=result.timing.compile if result.timing else None,
        enqueue=float(np.median(steady)) if steady else None,
        thermal=result.thermal,
        runtime=result.runtime,
        error=error,
    )


def against_baseline(found: Bench, baseline: Bench, policy: Policy) -> Bench:
    """The bench with what is slower than the baseline by more than the policy's limit.

    Only rows of the same adapter and precision are compared; one that has no such row in the baseline is a
    finding too, since nothing is known of it. Raises BadInput when the policy has no limit on latency.
    """
    if policy.bench is None:
        raise BadInput(f"policy {policy.name!r} has no [bench] median_regression, so a baseline decides nothing")
    limit = policy.bench.median_regression
    earlier = {_what(row): row.latency for row in baseline.rows if row.latency is not None}
    findings = []
    for row in found.rows:
        before, now = earlier.get(_what(row)), row.latency
        if now is None:
            continue  # passed is false already, with the row's own error
        if before is None:
            findings.append(f"{row.device}: the baseline has no row of {row.info.name} in {row.precision_had}")
        elif now.median > before.median * (1 + limit):
            findings.append(
                f"{row.device}: {1e3 * now.median:.3g} ms, {now.median / before.median - 1:.1%} slower than the "
                f"baseline's {1e3 * before.median:.3g} ms; allowed {limit:.1%}"
            )
    return found.model_copy(update={"findings": tuple(findings)})


def noise(contract: IoContract) -> dict[str, NDArray[Any]]:
    """Inputs that keep no unit idle: uniform in [-1, 1), the same in every run; small integers for integers.

    Raises BadInput for a dynamic shape.
    """
    generator = np.random.Generator(np.random.Philox(0))
    inputs: dict[str, NDArray[Any]] = {}
    for tensor in contract.inputs:
        if any(size < 1 for size in tensor.shape):
            raise BadInput(f"input {tensor.name!r} has a dynamic shape {tensor.shape}: nothing to time")
        drawn = generator.uniform(-1, 1, tensor.shape)
        dtype = np.dtype(tensor.dtype)
        inputs[tensor.name] = (drawn if dtype.kind == "f" else drawn > 0).astype(dtype)
    return inputs


def _what(row: BenchRow) -> tuple[str, str]:
    return row.info.name, row.precision_had
