"""The local executor: `python -m fidelity.devices.worker JOB` runs one job folder and nothing else.

It runs in a process of its own because a delegate can crash, hang, abort on a bad model, or print
what only a log shows. Everything that the runtime prints goes to the job's log.txt; what happened
goes to result.json, which is written last: without it, the job did not end.
"""

from __future__ import annotations

import hashlib
import os
import re
import statistics
import sys
from pathlib import Path

from fidelity.devices import litert, runtime_log
from fidelity.devices.job import (
    Job,
    JobInput,
    JobResult,
    PrecisionHad,
    Residency,
    RunOutput,
    Status,
    Timing,
)
from fidelity.devices.precision_probe import INPUT, precision_of, probe_model
from fidelity.devices.tensor_files import inside, read_tensor, safe_name, write_tensor
from fidelity.errors import BadInput
from fidelity.tflite.graph import read_graph

LOG = "log.txt"
RESULT = "result.json"
OUTPUTS = "outputs"


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
        nodes = len(read_graph(model).main.operators)
        with model.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != job.model_sha256:
            raise BadInput(f"model {job.model}: sha256 is {digest[:16]}..., the job says {job.model_sha256[:16]}...")
    except BadInput as error:
        return _failed(job, "bad_model", str(error))
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
    return _run(job, folder, compiled, loaded, nodes)


def _run(job: Job, folder: Path, compiled: litert.Compiled, loaded: dict[str, litert.Tensors], nodes: int) -> JobResult:
    outputs: list[RunOutput] = []
    status: Status = "ok"
    error = None
    try:
        runner = litert.Runner(compiled)
        for name, tensors in loaded.items():
            twice = job.repeat_only is None or name in job.repeat_only
            outputs.append(_one(runner, name, tensors, job.repeats if twice else 1, folder))
    except (RuntimeError, ValueError) as problem:
        status, error = "run_failed", _one_line(problem)
    log = runtime_log.read_log(folder / LOG)  # before the probe adds to it
    passed_over = runtime_log.driver_error(log) if status == "ok" and job.device != "cpu" else None
    if passed_over is not None:
        status, error = "run_failed", f"the driver reported an error, and the runtime ran on: {passed_over}"
    precision = _precision(job)
    seconds = [value for output in outputs for value in output.seconds]
    timing = None
    if seconds:
        steady = statistics.median(seconds[1:]) if len(seconds) > 1 else None
        timing = Timing(compile=compiled.seconds, first=seconds[0], steady=steady)
    return JobResult(
        status=status,
        error=error,
        device=job.device,
        precision_asked=job.precision,
        precision_had=precision,
        adapter=None if job.device == "cpu" else runtime_log.adapter(log),
        residency=_residency(job, compiled, log, nodes),
        outputs=tuple(outputs),
        timing=timing,
        peak_memory_bytes=_peak_memory(),
        runtime=litert.runtime_versions(),
        model_sha256=job.model_sha256,
    )


def _one(runner: litert.Runner, name: str, tensors: litert.Tensors, repeats: int, folder: Path) -> RunOutput:
    """Run one input `repeats` times; the first run's outputs are kept, later ones compared with it."""
    first, seconds = runner.run(tensors)
    times = [seconds]
    same = None
    for _ in range(repeats - 1):
        again, seconds = runner.run(tensors)
        times.append(seconds)
        same = (same is not False) and all(again[key].tobytes() == first[key].tobytes() for key in first)
    stored = {
        key: write_tensor(folder, f"{OUTPUTS}/{safe_name(f'{name}/{key}')}.raw", array) for key, array in first.items()
    }
    return RunOutput(input=name, tensors=stored, seconds=tuple(times), deterministic=same)


def _residency(job: Job, compiled: litert.Compiled, log: str, nodes: int) -> Residency | None:
    if job.device == "cpu":
        return Residency(nodes_on_device=nodes, nodes_total=nodes, partitions=1, source="the host CPU runs every node")
    accelerated = compiled.on_device_alone and bool(compiled.model.is_fully_accelerated())
    return runtime_log.residency(log, nodes, fully_accelerated=accelerated)


def _precision(job: Job) -> PrecisionHad:
    """What the same device with the same options makes of the probe; unknown when it cannot run it."""
    if job.device == "cpu":
        return "fp32"
    try:
        compiled = litert.compile_model(probe_model(), job.device, job.precision, job.threads, None)
        (name,), (output,) = litert.details(compiled)
        return precision_of(litert.Runner(compiled).run({name: INPUT})[0][output])
    except (RuntimeError, ValueError, BadInput):
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
