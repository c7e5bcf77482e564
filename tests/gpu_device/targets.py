"""A target of the conformance suite: a device, where on it (CPU or GPU), and the executor that runs the job there.

A target runs each job once in a session: tests that look at the same job from several sides share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from over_adbd import OverAdbd
from tiny_models import job_folder

from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device, resolve
from fidelity.devices.job import JobResult
from fidelity.devices.run import run_job
from fidelity.pytest_plugin import device_or_skip

Inputs = dict[str, dict[str, NDArray[Any]]]
Outputs = Inputs
Folders = Callable[[], Any]


@dataclass(frozen=True)
class Choice:
    """One target by name, before any device is looked for: collection must not need one."""

    spec: str
    executor: str
    where: str

    def __str__(self) -> str:
        return f"{self.spec}-{self.executor}-{self.where}"


def choices(spec: str) -> tuple[Choice, ...]:
    """The executors of a local device, one of them over a real adbd; adb of a phone; its CPU and its GPU by each."""
    executors = ("adb",) if spec.startswith("android") else ("worker", "runner", "adbd")
    return tuple(Choice(spec, executor, where) for where in ("cpu", "gpu") for executor in executors)


@dataclass(frozen=True)
class Target:
    """A device that jobs of the suite are given to, each in a new folder."""

    choice: Choice
    device: Device
    folders: Folders
    variables: dict[str, str] = field(default_factory=dict)
    done: dict[str, tuple[JobResult, Outputs]] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        return self.choice.where == "gpu"

    @property
    def fp16(self) -> tuple[str, ...]:
        """What a run that asks for no float32 may compute in: a phone's driver may not say if it has fp16."""
        if not self.on_gpu:
            return ("fp32",)
        return {True: ("fp16",), False: ("fp32",), None: ("fp16", "fp32")}[self.device.info.fp16]

    def run(self, model: bytes, inputs: Inputs, *, again: bool = False, **options: Any) -> tuple[JobResult, Outputs]:
        """A job's result and its outputs, whatever its status is; `again` in another process than before."""
        key = _digest(model, inputs, options)
        if again or key not in self.done:
            job = job_folder(self.folders(), model, inputs, device=self.device.job_device, **options)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in self.variables.items():
                    patch.setenv(name, value)
                result = run_job(job, self.device)
            self.done[key] = result, load_outputs(job, result)
        return self.done[key]

    def ok(self, model: bytes, inputs: Inputs, **options: Any) -> tuple[JobResult, Outputs]:
        """The same of a job that must succeed."""
        result, outputs = self.run(model, inputs, **options)
        assert (result.status, result.error) == ("ok", None)
        return result, outputs

    def one(self, model: bytes, x: np.ndarray, **options: Any) -> tuple[JobResult, NDArray[Any]]:
        """The same of one input and one output."""
        result, outputs = self.ok(model, {"one": {"x": x}}, **options)
        (output,) = outputs["one"].values()
        return result, output


def _digest(model: bytes, inputs: Inputs, options: dict[str, Any]) -> str:
    """What tells one job from another."""
    digest = hashlib.sha256(model)
    for name, tensors in inputs.items():
        for key, array in tensors.items():
            digest.update(f"{name} {key} {array.dtype} {array.shape}".encode() + array.tobytes())
    digest.update(repr((list(inputs), sorted(options.items()))).encode())
    return digest.hexdigest()


def target(config: pytest.Config, choice: Choice, folders: Folders, over: Callable[[], OverAdbd]) -> Target:
    """The target, or a skip with the reason (a failure with --require-device). `over` starts the adbd, once."""
    device = device_or_skip(config, choice.spec)
    if choice.where == "cpu":
        device = resolve(f"{choice.spec}/cpu" if choice.executor == "adb" else "cpu")
    if choice.executor == "adbd":
        try:
            found = over()
        except RuntimeError as error:
            pytest.skip(str(error))
        there = replace(device, executor="runner", serial=found.serial, environment={})
        return Target(choice, there, folders, found.variables)
    if choice.executor != "adb":
        device = replace(device, executor=choice.executor)  # type: ignore[arg-type]
    if choice.executor == "runner":
        from fidelity.devices.runner_build import host_runner  # noqa: PLC0415
        from fidelity.errors import EnvironmentMissing  # noqa: PLC0415

        try:
            host_runner()
        except EnvironmentMissing as error:
            if config.getoption("--require-device"):
                pytest.fail(f"--require-device: {error}", pytrace=False)
            pytest.skip(str(error))
    return Target(choice, device, folders)
