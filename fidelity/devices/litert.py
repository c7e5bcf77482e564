"""The LiteRT runtime, driven inside a worker process: compile for a device, run, read back."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.compiled_model import (
    CompiledModel,
    CpuOptions,
    GpuOptions,
    HardwareAccelerator,
    Options,
)
from numpy.typing import NDArray

from fidelity.devices.job import Precision
from fidelity.errors import BadInput

Tensors = dict[str, NDArray[Any]]
_AS_BYTES = (np.dtype(np.int16), np.dtype(np.int64))
_TIMEOUT_EXPIRED = "code=7,"
"""kLiteRtStatusErrorTimeoutExpired, as the wheel's buffers tell it (2.3.0)."""


@dataclass(frozen=True)
class Compiled:
    """A model compiled for a device; `on_device_alone` is False when the CPU had to help."""

    model: CompiledModel
    signature: str
    on_device_alone: bool
    seconds: float


def compile_model(
    source: Path | bytes, device: str, precision: Precision, threads: int, signature: str | None
) -> Compiled:
    """Compile for the CPU, or for the GPU alone and, when that refuses nodes, GPU with the CPU.

    Raises BadInput for an unknown signature, RuntimeError when the runtime compiles nothing at all.
    """
    started = time.perf_counter()
    alone = True
    if device == "cpu":
        model = _compile(source, HardwareAccelerator.CPU, precision, threads)
    else:
        try:
            model = _compile(source, HardwareAccelerator.GPU, precision, threads)
        except RuntimeError:
            alone = False
            model = _compile(source, HardwareAccelerator.GPU | HardwareAccelerator.CPU, precision, threads)
    seconds = time.perf_counter() - started
    return Compiled(model, _signature(model, signature), alone, seconds)


def _compile(source: Path | bytes, hardware: HardwareAccelerator, precision: Precision, threads: int) -> CompiledModel:
    options = Options(
        hardware_accelerators=hardware,
        cpu_options=CpuOptions(num_threads=threads),
        gpu_options=GpuOptions(enforce_f32=precision == "fp32"),
    )
    if isinstance(source, bytes):
        return CompiledModel.from_buffer(source, options=options)
    return CompiledModel.from_file(str(source), options=options)


def _signature(model: CompiledModel, wanted: str | None) -> str:
    known = list(model.get_signature_list())
    if wanted is None and known:
        return str(known[0])
    if wanted not in known:
        raise BadInput(f"signature {wanted!r}: the model has {', '.join(map(repr, known)) or 'none'}")
    return str(wanted)


def details(compiled: Compiled) -> tuple[dict[str, Any], dict[str, Any]]:
    """Input and output tensors of the signature by name, each with dtype and shape."""
    model, key = compiled.model, compiled.signature
    return model.get_input_tensor_details(key), model.get_output_tensor_details(key)


def check_inputs(compiled: Compiled, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Raises BadInput when names, shapes or dtypes are not the signature's, or a float is not finite."""
    check_against(details(compiled)[0], compiled.signature, tensors)


def check_against(wanted: Mapping[str, Any], signature: str, tensors: Mapping[str, NDArray[Any]]) -> None:
    """The same, of inputs that are `wanted` by name, each with its `shape` and `dtype`."""
    if set(wanted) != set(tensors):
        raise BadInput(f"inputs {sorted(tensors)} given, the signature {signature} takes {sorted(wanted)}")
    for name, array in tensors.items():
        shape, dtype = tuple(wanted[name]["shape"]), str(wanted[name]["dtype"])
        if tuple(array.shape) != shape or str(array.dtype) != dtype:
            raise BadInput(f"input {name!r}: {array.dtype} {tuple(array.shape)} given, the model takes {dtype} {shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadInput(f"input {name!r}: holds NaN or Inf")


@dataclass(frozen=True)
class Run:
    """One inference: outputs by name, seconds until all are read back, and until the call returned.

    A GPU's call returns before the work is done.
    """

    outputs: Tensors
    seconds: float
    enqueue_seconds: float


class Runner:
    """Buffers of one signature, reused from run to run as an application would."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        inputs, self._outputs = details(compiled)
        model, key = compiled.model, compiled.signature
        self._given = {name: model.create_input_buffer_by_name(key, name) for name in inputs}
        self._got = {name: self._output(name) for name in self._outputs}
        self._slow = False

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> Run:
        """One inference with its times; writing the inputs is not in them.

        The runtime waits two minutes for a GPU that computes, then gives the buffer up for lost (2.3.0, WebGPU), while
        the work goes on. Then it is made once more and read only when the device has finished, as all later ones
        are. However long that takes: the harness ends this process at the job's limit.
        """
        try:
            return self._run(tensors)
        except RuntimeError as error:
            if _TIMEOUT_EXPIRED not in str(error):
                raise
        self._slow = True
        self._finish()
        self._got = {name: self._output(name) for name in self._outputs}
        return self._run(tensors)

    def _run(self, tensors: Mapping[str, NDArray[Any]]) -> Run:
        for name, array in tensors.items():
            self._given[name].write(_writable(array))
        started = time.perf_counter()
        self._compiled.model.run_by_name(self._compiled.signature, self._given, self._got)
        enqueued = time.perf_counter() - started
        if self._slow:
            self._finish()
        outputs = {name: self._read(name, buffer) for name, buffer in self._got.items()}
        return Run(outputs, time.perf_counter() - started, enqueued)

    def _finish(self) -> None:
        """Wait for the device: a buffer that nothing has written is read after all that the device was given before."""
        name = next(iter(self._outputs))
        while True:
            try:
                self._read(name, self._output(name))
            except RuntimeError as error:
                if _TIMEOUT_EXPIRED not in str(error):
                    raise
                time.sleep(1)  # in case that another runtime does not wait at all
            else:
                return

    def _output(self, name: str) -> Any:
        """A buffer for one output."""
        return self._compiled.model.create_output_buffer_by_name(self._compiled.signature, name)

    def _read(self, name: str, buffer: Any) -> NDArray[Any]:
        """An output's numbers; as bytes where the runtime's Python buffers lack the dtype."""
        shape, dtype = self._outputs[name]["shape"], np.dtype(self._outputs[name]["dtype"])
        count = int(np.prod(shape, dtype=np.int64))
        if dtype in _AS_BYTES:
            numbers = np.asarray(buffer.read(count * dtype.itemsize, np.int8), np.int8).view(dtype)
        else:
            numbers = np.asarray(buffer.read(count, dtype), dtype=dtype)
        return np.reshape(numbers, shape)


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or its bytes where the runtime's Python buffers lack the dtype (int16, int64; 2.3.0)."""
    flat = np.ascontiguousarray(array)
    return flat.reshape(-1).view(np.int8) if flat.dtype in _AS_BYTES else flat


def runtime_versions() -> dict[str, str]:
    """The runtime's version, and the accelerator library that it loads for a GPU."""
    import ai_edge_litert  # noqa: PLC0415 - only its folder is needed

    libraries = sorted(Path(ai_edge_litert.__file__).parent.glob("*Accelerator.so"))
    return {
        "ai-edge-litert": importlib.metadata.version("ai-edge-litert"),
        "accelerator": ", ".join(path.name for path in libraries) or "none",
    }
