"""A job folder as every executor takes it: the model, raw inputs, the precision probe and job.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.devices.believing import JOB
from fidelity.devices.job import HOST, Job, JobInput, Precision
from fidelity.devices.precision_probe import probe_model
from fidelity.devices.tensor_files import safe_name, write_tensor
from fidelity.files import file_sha256, link_or_copy

Tensors = Mapping[str, NDArray[Any]]
PROBE = "probe.tflite"


def prepare_job(
    folder: Path,
    model: Path,
    inputs: Mapping[str, Tensors],
    *,
    device: str,
    precision: Precision = "default",
    signature: str | None = None,
    repeat: tuple[str, ...] = (),
    repeats: int = 2,
    repeat_seconds: float | None = None,
    warmups: int = 0,
    threads: int = 2,
    timeout_seconds: float = 600.0,
    memory_limit_bytes: int | None = None,
) -> Job:
    """Fill an empty `folder` with job.json, the model (a second name for it, or a copy) and raw inputs.

    `repeat` names the inputs that run `repeats` times, at most `repeat_seconds` long. `device` is the
    job's own word: cpu, gpu or reference. A GPU's job gets the model that tells its precision too.
    """
    if device not in HOST:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROBE).write_bytes(probe_model())
    link_or_copy(model, folder / "model.tflite")
    stored = [
        JobInput(
            name=name,
            tensors={
                key: write_tensor(folder, f"inputs/{safe_name(f'{name}/{key}')}.raw", np.asarray(array))
                for key, array in tensors.items()
            },
        )
        for name, tensors in inputs.items()
    ]
    job = Job(
        model="model.tflite",
        model_sha256=file_sha256(model),
        device=device,
        precision=precision,
        signature=signature,
        inputs=tuple(stored),
        warmups=warmups,
        repeats=repeats if repeat else 1,
        repeat_seconds=repeat_seconds,
        repeat_only=repeat or None,
        probe=None if device in HOST else PROBE,
        threads=threads,
        timeout_seconds=timeout_seconds,
        memory_limit_bytes=memory_limit_bytes,
    )
    job.write(folder / JOB)
    return job
