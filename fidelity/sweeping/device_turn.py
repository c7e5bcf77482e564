"""A chunk's inputs on one device: one job, in a process of its own; and no two at once on a GPU or phone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.run_facts import RunFacts, run_facts
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device, quickest, resolve
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.devices.tensor_files import safe_name
from fidelity.errors import BadInput
from fidelity.sweeping.order import SweepOrder

_MEMORY_LIMIT = 5 << 30
_ATTEMPTS = 2  # a killed or starved process is worth a second; what fails twice is a finding


def run_on(
    order: SweepOrder, spec: str, inputs: Mapping[str, NDArray[np.float32]], scratch: Path
) -> tuple[RunFacts, dict[str, dict[str, NDArray[Any]]]]:
    """The facts of the run, and outputs by input and output name; none of a job that did not end well.

    The first input runs twice, for determinism. `facts.asked` is left empty: it is the chunk's.
    Raises BadInput when the artefact is not the order's any more, EnvironmentMissing without the device.
    """
    device = _device(spec)
    for attempt in range(_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(dir=scratch, prefix="job-"))
        try:
            facts, outputs = _once(order, device, inputs, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if facts.status == "ok" or attempt == _ATTEMPTS - 1:
            break
    return facts, outputs


def _once(
    order: SweepOrder, device: Device, inputs: Mapping[str, NDArray[np.float32]], folder: Path
) -> tuple[RunFacts, dict[str, dict[str, NDArray[Any]]]]:
    job = prepare_job(
        folder,
        Path(order.artefact),
        {name: {order.input: array} for name, array in inputs.items()},
        device=device.job_device,
        precision=order.precision,
        repeat=tuple(inputs)[:1],
        threads=1,
        timeout_seconds=order.timeout_seconds,
        memory_limit_bytes=_MEMORY_LIMIT,
    )
    if job.model_sha256 != order.artefact_sha256:
        raise BadInput(f"{order.artefact}: changed since the sweep began; run it again")
    with turn(device):
        result = run_job(folder, device)
    facts = run_facts(job, result, order.weights_dtype)
    repeated = {name: same for name, same in facts.deterministic.items() if same is not None}
    facts = facts.model_copy(update={"asked": (), "deterministic": repeated})
    return facts, load_outputs(folder, result) if result.status == "ok" else {}


@lru_cache(maxsize=8)
def _device(spec: str) -> Device:
    device = resolve(spec)
    return quickest(device) if spec == "cpu" else device


@contextlib.contextmanager
def turn(device: Device) -> Iterator[None]:
    """Hold a GPU or phone for one job. A CPU job has a core of its own and needs no turn.

    The lock is the kernel's, on a file of this host: it goes with the process that held it, however that ended,
    and is seen by every worker, of this sweep or another.
    """
    if device.spec == "cpu":
        yield
        return
    name = f"fidelity-{os.getuid()}-{safe_name(device.queue)}.lock"
    with (Path(tempfile.gettempdir()) / name).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
