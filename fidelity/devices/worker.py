"""The local executor: `python -m fidelity.devices.worker JOB` runs one job folder and nothing else.

It runs in a process of its own because a delegate can crash, hang, abort on a bad model, or print
what only a log shows. Everything that the runtime prints goes to the job's log.txt; what happened
goes to result.json, which is written last: without it, the job did not end.
"""

from __future__ import annotations

import itertools
import os
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fidelity.devices import litert
from fidelity.devices.job import (
    PROBE_LINE,
    Job,
    JobInput,
    JobResult,
    PrecisionHad,
    RunOutput,
    Status,
    Thermal,
    Timing,
)
from fidelity.devices.precision_probe import INPUT, precision_of
from fidelity.devices.reference_kernels import SHAPES, ReferenceKernels
from fidelity.devices.temperatures import temperatures
from fidelity.devices.tensor_files import inside, read_tensor, safe_name, write_tensor
from fidelity.errors import BadInput
from fidelity.files import file_sha256
from fidelity.tflite.graph import read_graph

LOG = "log.txt"
RESULT = "result.json"
OUTPUTS = "outputs"


class Runs(Protocol):
    """Whatever runs one set of inputs: a compiled model, or the reference kernels."""

    def run(self, tensors: litert.Tensors) -> litert.Run:
        """One inference."""
        ...


def main() -> None:
    """Run the job folder given as the only argument."""
    folder = Path(sys.argv[1]).resolve()
    _send_output_to(folder / LOG)
    job = Job.read(folder / "job.json")
    execute(job, folder).write(folder / RESULT)


def execute(job: Job, folder: Path) -> JobResult:
    """Run the job in this process. Never raises for what a model, input or device can get wrong."""
    try:
        model = inside(folder, job.model)
        read_graph(model)
        digest = file_sha256(model)
        if digest != job.model_sha256:
            raise BadInput(f"model {job.model}: sha256 is {digest[:16]}..., the job says {job.model_sha256[:16]}...")
    except BadInput as error:
        return _failed(job, "bad_model", str(error))
    if job.device == "reference":
        return _on_reference_kernels(job, folder, model)
    return _on_delegate(job, folder, model)


def _on_delegate(job: Job, folder: Path, model: Path) -> JobResult:
    """The job as an application runs it: XNNPACK, or a GPU."""
    if job.device != "cpu" and job.precision not in ("default", "fp32"):
        return _failed(job, "refused", f"Python's runtime cannot be asked for {job.precision}; the C runner can")
    try:
        compiled = litert.compile_model(model, job.device, job.precision, job.threads, job.signature)
    except BadInput as error:
        return _failed(job, "bad_input", str(error))
    except RuntimeError as error:
        return _failed(job, "refused", _one_line(error))
    try:
        loaded = {item.name: _load(item, folder) for item in job.inputs}
        for tensors in loaded.values():
            litert.check_inputs(compiled, tensors)
    except BadInput as error:
        return _failed(job, "bad_input", str(error))
    return _run(job, folder, compiled, loaded)


def _on_reference_kernels(job: Job, folder: Path, model: Path) -> JobResult:
    """The job on the runtime's plain kernels; every tensor's shape is left in shapes.json, for whoever binds it."""
    try:
        loaded = {item.name: _load(item, folder) for item in job.inputs}
        prepared = ReferenceKernels(model, job.signature, next(iter(loaded.values()), {}))
        for tensors in loaded.values():
            prepared.check(tensors)
    except BadInput as error:
        return _failed(job, "bad_input", str(error))
    except (RuntimeError, ValueError) as error:
        return _failed(job, "refused", _one_line(error))
    result = _results(job, folder, lambda: prepared, loaded, prepared.seconds)
    prepared.shapes().write(folder / SHAPES)
    return result


def _run(job: Job, folder: Path, compiled: litert.Compiled, loaded: dict[str, litert.Tensors]) -> JobResult:
    result = _results(job, folder, lambda: litert.Runner(compiled), loaded, compiled.seconds)
    had, whole = _precision(job, folder), _fully_accelerated(job, compiled)
    return result.model_copy(update={"precision_had": had, "fully_accelerated": whole})


def _results(
    job: Job, folder: Path, ready: Callable[[], Runs], loaded: dict[str, litert.Tensors], compile_seconds: float
) -> JobResult:
    """Everything but what only a delegate has to tell."""
    outputs: list[RunOutput] = []
    status: Status = "ok"
    error = None
    warmup: list[float] = []
    before = temperatures()
    try:
        runner = ready()
        for tensors in itertools.islice(loaded.values(), 1):
            warmup += [runner.run(tensors).seconds for _ in range(job.warmups)]
        for name, tensors in loaded.items():
            outputs.append(_one(runner, name, tensors, job, folder))
    except (RuntimeError, ValueError) as problem:
        status, error = "run_failed", _one_line(problem)
    thermal = before and Thermal(before=before, after=temperatures())
    seconds = [value for output in outputs for value in output.seconds]
    timing = None
    if seconds:
        steady = seconds if warmup else seconds[1:]
        timing = Timing(
            compile=compile_seconds,
            first=(*warmup, *seconds)[0],
            steady=statistics.median(steady) if steady else None,
            warmup=tuple(warmup),
        )
    return JobResult(
        status=status,
        error=error,
        device=job.device,
        precision_asked=job.precision,
        precision_had="fp32",
        outputs=tuple(outputs),
        timing=timing,
        thermal=thermal or None,
        peak_memory_bytes=_peak_memory(),
        runtime=litert.runtime_versions(),
        model_sha256=job.model_sha256,
    )


def _fully_accelerated(job: Job, compiled: litert.Compiled) -> bool | None:
    """The runtime's own word; of a CPU it means nothing."""
    return None if job.device == "cpu" else compiled.on_device_alone and bool(compiled.model.is_fully_accelerated())


def _one(runner: Runs, name: str, tensors: litert.Tensors, job: Job, folder: Path) -> RunOutput:
    """Run one input as often as the job says; the first run's outputs are kept, later ones compared with it."""
    first = runner.run(tensors)
    runs = [first]
    same = None
    often = job.repeats if job.repeat_only is None or name in job.repeat_only else 1
    while len(runs) < often and not (len(runs) > 1 and _long_enough(job, runs)):
        again = runner.run(tensors)
        runs.append(litert.Run({}, again.seconds, again.enqueue_seconds))
        equal = all(again.outputs[key].tobytes() == first.outputs[key].tobytes() for key in first.outputs)
        same = (same is not False) and equal
    stored = {
        key: write_tensor(folder, f"{OUTPUTS}/{safe_name(f'{name}/{key}')}.raw", array)
        for key, array in first.outputs.items()
    }
    return RunOutput(
        input=name,
        tensors=stored,
        seconds=tuple(run.seconds for run in runs),
        enqueue_seconds=tuple(run.enqueue_seconds for run in runs),
        deterministic=same,
    )


def _long_enough(job: Job, runs: list[litert.Run]) -> bool:
    return job.repeat_seconds is not None and sum(run.seconds for run in runs) >= job.repeat_seconds


def _precision(job: Job, folder: Path) -> PrecisionHad:
    """What the same device with the same options makes of the probe; unknown when it cannot run it."""
    if job.device == "cpu":
        return "fp32"
    if job.probe is None:
        return "unknown"
    sys.stderr.write(f"{PROBE_LINE}\n")
    sys.stderr.flush()
    try:
        probe = inside(folder, job.probe).read_bytes()
        compiled = litert.compile_model(probe, job.device, job.precision, job.threads, None)
        (name,), (output,) = litert.details(compiled)
        return precision_of(litert.Runner(compiled).run({name: INPUT}).outputs[output])
    except (RuntimeError, ValueError, OSError, BadInput):
        return "unknown"


def _load(item: JobInput, folder: Path) -> litert.Tensors:
    return {name: read_tensor(folder, file) for name, file in item.tensors.items()}


def _failed(job: Job, status: Status, error: str) -> JobResult:
    return JobResult(
        status=status,
        error=error,
        device=job.device,
        precision_asked=job.precision,
        runtime=litert.runtime_versions(),
        model_sha256=job.model_sha256,
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def _peak_memory() -> int | None:
    """Peak resident bytes of this process. getrusage's figure is inherited from the parent at fork."""
    try:
        status = Path("/proc/self/status").read_text("utf-8")
    except OSError:
        return None  # the parent samples it, on systems without /proc
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _send_output_to(log: Path) -> None:
    """Everything that native libraries print on stdout and stderr goes to the log."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if __name__ == "__main__":
    main()
