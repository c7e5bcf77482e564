"""The job contract: what every executor (local worker, on-device runner) takes and gives.

A job is a folder: `job.json` (a Job), the model file and raw little-endian C-order inputs. Running
it adds `result.json` (a JobResult), raw outputs and `log.txt`. Executors share nothing else, so
one conformance suite tests them all, and a stored result can be judged again without a device.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fidelity.record import Figure, Record

HOST = ("cpu", "reference")
"""Devices that are this machine's processor: by XNNPACK, as in an application, or by the runtime's own plain
reference kernels (the Python worker alone knows these)."""

Precision = Literal["default", "fp16", "fp32", "fp16-accumulate-fp32"]
"""What is asked of a device. On a GPU `default` is fp16 where the driver has it; on the CPU all are
fp32. `fp16` and `fp16-accumulate-fp32` by name are for the C runner: Python's GpuOptions cannot ask
for them (ai-edge-litert 2.3.0)."""

PROBE_LINE = "fidelity: precision probe"
"""The line of log.txt behind which nothing is about the job's model any more. Every executor writes it."""

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
    "transfer_failed",  # a file did not arrive whole: disk full, another hash, a cut transfer
    "device_lost",  # the device was there and is not any more, or does not answer
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

    Before anything is kept, the first input is run `warmups` times. Then every input is run `repeats`
    times, or, once it was run twice, until its runs took `repeat_seconds`; the first run's outputs are
    kept and each later run is compared with it bit for bit. `repeat_only` names the inputs that are
    repeated (None: all), the others run once. `probe` is a .tflite of one MUL that tells the precision
    (precision_probe.py); without it a GPU's is unknown. `timeout_seconds` and `memory_limit_bytes`
    bound the whole job.
    """

    model: str
    model_sha256: str
    device: str
    precision: Precision
    signature: str | None = None
    inputs: tuple[JobInput, ...]
    warmups: int = Field(default=0, ge=0)
    repeats: int = Field(default=1, ge=1)
    repeat_seconds: float | None = Field(default=None, gt=0)
    repeat_only: tuple[str, ...] | None = None
    probe: str | None = None
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
    """What one input gave: outputs by the signature's output names, and whether repeats agreed.

    One figure a run: `seconds` from the call of the runtime until all outputs are read back,
    `enqueue_seconds` until the call returned, which on a GPU is before the work is done.
    """

    input: str
    tensors: dict[str, TensorFile]
    seconds: tuple[Figure, ...]
    enqueue_seconds: tuple[Figure, ...] = ()
    deterministic: bool | None = None  # None: run once, so not known


class Adapter(Record):
    """What the device turned out to be, from the runtime's log and the driver."""

    name: str
    driver: str | None = None
    software: bool = False
    fp16: bool | None = None


class Timing(Record):
    """Seconds. `first` includes lazy shader compilation; `steady` is the median of later runs.

    `warmup` are the runs before the kept ones, in order; with any, `first` is the first of them.
    """

    compile: Figure
    first: Figure
    steady: Figure | None = None
    warmup: tuple[Figure, ...] = ()


class Thermal(Record):
    """Degrees Celsius by thermal zone, as /sys/class/thermal tells them, before and after the runs."""

    before: dict[str, Figure]
    after: dict[str, Figure]


class JobResult(Record):
    """What happened. Anything but status `ok` has `error` in one line for a person.

    `outputs` holds what was finished before a failure; nothing in it is filled in or repaired.
    `adapter` and `residency` are not an executor's to tell: the harness reads them from the log,
    with the runtime's own word, `fully_accelerated` (None on a CPU).
    """

    status: Status
    error: str | None = None
    device: str
    precision_asked: Precision
    precision_had: PrecisionHad = "unknown"
    adapter: Adapter | None = None
    fully_accelerated: bool | None = None
    residency: Residency | None = None
    outputs: tuple[RunOutput, ...] = ()
    timing: Timing | None = None
    thermal: Thermal | None = None
    peak_memory_bytes: int | None = None
    runtime: dict[str, str] = Field(default_factory=dict)
    model_sha256: str
