"""The job contract: what every executor (local worker, on-device runner) takes and gives.

A job is a folder: `job.json` (a Job), the model file and raw little-endian C-order inputs. Running
it adds `result.json` (a JobResult), raw outputs and `log.txt`. Executors share nothing else, so
one conformance suite tests them all, and a stored result can be judged again without a device.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fidelity.record import Figure, Record

Precision = Literal["default", "fp32"]
"""What is asked of a device. On a GPU `default` is fp16 where the driver has it; on the CPU both
are the same. fp16 and fp16-with-fp32-accumulation by name need the C runner (Python's GpuOptions
cannot ask for them in ai-edge-litert 2.3.0)."""

PrecisionHad = Literal["fp16", "fp32", "unknown"]
"""What the device really computed in: a driver without fp16 computes fp32 whatever is asked."""

Status = Literal[
    "ok",
    "bad_model",  # the file is not a model that the runtime can load
    "bad_input",  # signature, tensor name, shape or dtype do not fit the model
    "no_device",  # the device asked for does not exist here, or its driver is missing
    "refused",  # the runtime would not compile the model for the device at all
    "run_failed",  # compiled, then an inference returned an error
    "crashed",  # the executor died (signal, abort)
    "timeout",  # the executor passed its time limit and was killed
    "out_of_memory",  # the executor passed its memory limit and was killed
]


class TensorFile(Record):
    """One raw tensor on disk: `file` is relative to the job folder, dtype is a NumPy name."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


class JobInput(Record):
    """One set of inputs for one inference; `tensors` maps the signature's input names to files."""

    name: str
    tensors: dict[str, TensorFile]


class Job(Record):
    """What to run. Paths are relative to the job folder; an executor never reads outside it.

    `repeats` >= 1 runs of each input (the first two of an input are compared bit for bit when
    there are two or more); `determinism_inputs` limits which inputs are repeated (all by default).
    `timeout_seconds` and `memory_limit_bytes` bound the whole job.
    """

    model: str
    model_sha256: str
    device: str
    precision: Precision
    signature: str | None = None
    inputs: tuple[JobInput, ...]
    repeats: int = 1
    repeat_only: tuple[str, ...] | None = None
    threads: int = 2
    timeout_seconds: float = 600.0
    memory_limit_bytes: int | None = None


class Refusal(Record):
    """One kind of node that the delegate would not take, as the runtime's log tells it."""

    op: str
    reason: str
    tensor: str | None = None
    count: int = 1


class Residency(Record):
    """How many of the graph's nodes the device took, in how many partitions, and the refusals.

    `nodes_total` counts the runtime's own nodes; `source` is the log line or API that said so.
    """

    nodes_on_device: int
    nodes_total: int
    partitions: int
    refusals: tuple[Refusal, ...] = ()
    source: str

    @property
    def full(self) -> bool:
        """True when every node runs on the device, in one partition."""
        return self.nodes_total > 0 and self.nodes_on_device == self.nodes_total and self.partitions == 1


class RunOutput(Record):
    """What one input gave: outputs by the signature's output names, and whether repeats agreed."""

    input: str
    tensors: dict[str, TensorFile]
    seconds: tuple[Figure, ...]
    deterministic: bool | None = None  # None: run once, so not known


class Adapter(Record):
    """What the device turned out to be, from the runtime's log and the driver."""

    name: str
    driver: str | None = None
    software: bool = False
    fp16: bool | None = None


class Timing(Record):
    """Seconds. `first` includes lazy shader compilation; `steady` is the median of later runs."""

    compile: Figure
    first: Figure
    steady: Figure | None = None


class JobResult(Record):
    """What happened. Anything but status `ok` has `error` in one line for a person.

    `outputs` holds what was finished before a failure; nothing in it is filled in or repaired.
    """

    status: Status
    error: str | None = None
    device: str
    precision_asked: Precision
    precision_had: PrecisionHad = "unknown"
    adapter: Adapter | None = None
    residency: Residency | None = None
    outputs: tuple[RunOutput, ...] = ()
    timing: Timing | None = None
    peak_memory_bytes: int | None = None
    runtime: dict[str, str] = Field(default_factory=dict)
    model_sha256: str
