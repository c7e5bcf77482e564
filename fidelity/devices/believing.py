"""What an executor left behind, made into a checked JobResult: nothing that it says is believed as it stands.

Used by every harness side (local, android): a missing, cut or nonsensical result.json, a result of
another job and outputs that do not hold are results with a name, never an exception and never a pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from fidelity.devices import runtime_log
from fidelity.devices.job import HOST, PROBE_LINE, Job, JobResult, Residency, Status
from fidelity.devices.known_runtimes import with_version
from fidelity.devices.tensor_files import inside, read_tensor
from fidelity.errors import BadInput
from fidelity.record import describe
from fidelity.tflite.graph import read_graph

JOB, RESULT, LOG = "job.json", "result.json", "log.txt"
_LARGEST_RESULT = 64 << 20


def no_result(job: Job, status: Status, error: str) -> JobResult:
    """The result of a job that has none of its own."""
    return JobResult(
        status=status,
        error=" ".join(error.split())[:600],
        device=job.device,
        precision_asked=job.precision,
        model_sha256=job.model_sha256,
    )


def read_result(job: Job, folder: Path, ending: str) -> JobResult:
    """The executor's own result if it holds, with what the log tells; else what its `ending` means.

    `ending` is how the executor ended, for a person: "died of SIGSEGV", "ended with code 0".
    """
    path = folder / RESULT
    if path.is_symlink() or not path.is_file():
        return no_result(job, "crashed", f"the worker {ending} and left no result; see {LOG}")
    if path.stat().st_size > _LARGEST_RESULT:
        return no_result(job, "crashed", f"the worker's result.json is larger than {_LARGEST_RESULT >> 20} MiB")
    try:
        result = JobResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        return no_result(job, "crashed", f"the worker's result.json is not a result: {describe(error)}")
    if wrong := _contradiction(job, result):
        return no_result(job, "crashed", f"the worker's result {wrong}")
    try:
        load_outputs(folder, result)
    except BadInput as error:
        return no_result(job, "crashed", f"the worker's outputs do not hold: {error}")
    return _with_log(result, job, folder)


def load_outputs(folder: Path, result: JobResult) -> dict[str, dict[str, NDArray[Any]]]:
    """Outputs by input name, then by output name. Raises BadInput for a file that does not hold."""
    return {
        output.input: {name: read_tensor(folder, file) for name, file in output.tensors.items()}
        for output in result.outputs
    }


def _contradiction(job: Job, result: JobResult) -> str | None:
    """Why a result is not of this job, or says ok without answering every input once, in order."""
    if (result.model_sha256, result.device) != (job.model_sha256, job.device):
        return "is for another model or device"
    if result.precision_asked != job.precision:
        return f"is for precision {result.precision_asked}, not {job.precision}"
    if result.status != "ok":
        return None
    asked, answered = [item.name for item in job.inputs], [output.input for output in result.outputs]
    if asked != answered:
        return f"says ok and answers {answered[:4]}, not the inputs {asked[:4]}"
    empty = [output.input for output in result.outputs if not output.tensors]
    return f"says ok and has no output for {empty[0]!r}" if empty else None


def _with_log(result: JobResult, job: Job, folder: Path) -> JobResult:
    """The result with the runtime's version, adapter, residency and the driver's own complaints, as the log tells them.

    What comes behind the probe's line is about the probe, not the job's model.
    """
    if result.status not in ("ok", "run_failed"):
        return result
    result = result.model_copy(update={"runtime": with_version(result.runtime)})
    nodes = len(read_graph(inside(folder, job.model)).main.operators)
    if job.device in HOST:
        here = Residency(nodes_on_device=nodes, nodes_total=nodes, partitions=1, source="the CPU runs every node")
        return result.model_copy(update={"residency": here})
    log = runtime_log.read_log(folder / LOG).partition(PROBE_LINE)[0]
    update: dict[str, Any] = {
        "adapter": runtime_log.adapter(log),
        "residency": runtime_log.residency(log, nodes, fully_accelerated=bool(result.fully_accelerated)),
    }
    complaint = runtime_log.driver_error(log) if result.status == "ok" else None
    if complaint is not None:
        update["status"] = "run_failed"
        update["error"] = f"the driver reported an error, and the runtime ran on: {complaint}"
    return result.model_copy(update=update)
