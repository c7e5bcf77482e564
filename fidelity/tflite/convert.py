"""Convert a torch module to a .tflite artefact: the same model always gives the same bytes.

Tracing happens here, converting and casting in worker processes (see conversion_worker). The
artefact appears under its name whole, checked against the contract that was asked for, or not at all.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.files import file_sha256
from fidelity.record import Figure, Record
from fidelity.tflite.graph import Graph, read_graph
from fidelity.tflite.manifest import WeightsDtype
from fidelity.tflite.worker_process import Limits, Usage, run_worker

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Conversion", "Limits", "Wanted", "WeightsDtype", "cast_weights", "convert", "convert_many"]

Stage = Callable[[str], None]
"""Told the name of each stage as it begins: what a progress line shows."""

DEFAULT_SIGNATURE = "serving_default"
_WORKER = "fidelity.tflite.conversion_worker"
_EXTRAS = ("torch", "litert_torch", "ai_edge_quantizer")
_GRAPH_ALLOWANCE = 8 << 20
"""Bytes of a file besides its weights, generously: operators, names and baked constants (B/16: 0.3 MB)."""
DEFAULT_LIMITS = Limits()


class Conversion(Record):
    """One artefact that was made: its hash, and what it took. Memory is that of the worker alone."""

    artefact: str
    weights_dtype: WeightsDtype
    file_size: int
    sha256: str
    seconds: Figure
    peak_memory_bytes: int


def convert(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    path: Path,
    *,
    outputs: Sequence[str] = ("embedding",),
    signature: str = DEFAULT_SIGNATURE,
    weights_dtype: WeightsDtype = "float32",
    limits: Limits = DEFAULT_LIMITS,
    log: Path | None = None,
    on_stage: Stage = lambda _: None,
) -> Conversion:
    """Convert `module`, called by position with `inputs` in their order, to an artefact at `path`.

    `inputs` maps the signature's input names to samples of the exact shape and dtype; `outputs`
    names what the module returns (a tensor or a tuple). `log` keeps what the converter printed.
    Raises BadInput for a model that cannot be converted, EnvironmentMissing without the extra,
    disk space, memory or time; neither leaves a file behind.
    """
    _need_extras()
    from fidelity.tflite.export_program import check_module, save_program, stored_bytes  # noqa: PLC0415

    check_module(module)
    weights = stored_bytes(module)
    half = weights // 2 if weights_dtype == "float16" else 0
    with _workspace(path, weights + half + _GRAPH_ALLOWANCE, limits, log) as work:
        on_stage("trace")
        program, made = work.folder / "program.pt2", work.folder / "float32.tflite"
        save_program(module, inputs, outputs, program)
        on_stage("convert")
        usage = work.run("converting the model", "convert", str(program), signature, str(made))
        _check_contract(read_graph(made), path, signature, inputs, outputs)
        if weights_dtype == "float16":
            on_stage("cast")
            made, casting = _cast(made, work)
            usage = usage + casting
        return _publish(made, path, weights_dtype, usage)


@dataclass(frozen=True)
class Wanted:
    """One of several models to be converted, and where its artefact goes."""

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    path: Path
    outputs: Sequence[str] = ("embedding",)


def convert_many(
    wanted: Sequence[Wanted],
    *,
    weights_dtype: WeightsDtype = "float32",
    processes: int = 1,
    limits: Limits = DEFAULT_LIMITS,
    log: Path | None = None,
    on_stage: Stage = lambda _: None,
) -> None:
    """Convert several models in few worker processes, each of which imports the converter once.

    For many small models: the disk must hold all of them at once. Each artefact has the bytes that `convert` gives
    it. `limits` are those of one process. Raises what `convert` does, as soon as a model cannot be converted.
    """
    _need_extras()
    from fidelity.tflite.export_program import check_module, save_program, stored_bytes  # noqa: PLC0415

    for each in wanted:
        check_module(each.module)
    needed = sum(2 * stored_bytes(each.module) + _GRAPH_ALLOWANCE for each in wanted)
    with _workspace(wanted[0].path, needed, limits, log) as work, ThreadPoolExecutor(processes) as pool:
        for number, each in enumerate(wanted):
            on_stage(f"trace {each.path.name}")
            save_program(each.module, each.inputs, each.outputs, work.folder / f"program-{number}.pt2")
        on_stage(f"convert {len(wanted)} models")
        half = ("--half",) if weights_dtype == "float16" else ()
        shares = [[str(n) for n in range(first, len(wanted), processes)] for first in range(processes)]
        verb = ("convert-many", str(work.folder), DEFAULT_SIGNATURE)
        tasks = [pool.submit(work.run, "converting models", *verb, *numbers, *half) for numbers in shares if numbers]
        for task in tasks:
            task.result()
        for number, each in enumerate(wanted):
            made = work.folder / f"{weights_dtype}-{number}.tflite"
            _check_contract(read_graph(made), each.path, DEFAULT_SIGNATURE, each.inputs, each.outputs)
            if half:
                _check_float16(read_graph(made), each.path)
            made.replace(each.path)


def cast_weights(
    source: Path,
    path: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    log: Path | None = None,
) -> Conversion:
    """Cast the weights of a float32 artefact to float16 and store the result at `path`.

    Weights of FULLY_CONNECTED and convolutions are cast, rounding to nearest; others stay float32.
    Raises BadInput for a file that is no .tflite, or with a weight beyond 65,504, and
    EnvironmentMissing as `convert` does.
    """
    _need_extras()
    size = read_graph(source).size
    with _workspace(path, size // 2 + _GRAPH_ALLOWANCE, limits, log) as work:
        made, usage = _cast(source.resolve(), work)
        return _publish(made, path, "float16", usage)


@dataclass(frozen=True)
class _Workspace:
    """Where one artefact is made: a folder beside it, removed at the end."""

    path: Path
    folder: Path
    log: Path
    limits: Limits

    def run(self, doing: str, *arguments: str) -> Usage:
        """Run the conversion worker. Raises EnvironmentMissing, naming the artefact."""
        return run_worker(_WORKER, arguments, self.log, self.limits, f"{self.path}: {doing}")


def _cast(source: Path, work: _Workspace) -> tuple[Path, Usage]:
    made = work.folder / "float16.tflite"
    usage = work.run("casting the weights", "cast", str(source), str(made))
    _check_float16(read_graph(made), work.path)
    return made, usage


def _check_contract(
    graph: Graph, path: Path, signature: str, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]
) -> None:
    """The artefact has the signature that was asked for, with those names, shapes and dtypes."""
    found = graph.signature(signature)
    tensors = graph.subgraphs[found.subgraph].tensors
    got = {name: (tensors[i].shape, tensors[i].dtype) for name, i in found.inputs}
    asked = {n: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in inputs.items()}
    if got != asked:
        raise BadInput(f"{path}: the converter made the inputs {got}, asked for were {asked}")
    if {name for name, _ in found.outputs} != set(outputs):
        names = ", ".join(name for name, _ in found.outputs)
        raise BadInput(f"{path}: the converter made the outputs {names}, asked for were {', '.join(outputs)}")


def _check_float16(graph: Graph, path: Path) -> None:
    cast = [t for s in graph.subgraphs for t in s.tensors if t.is_constant and t.dtype == "float16"]
    if not cast:
        raise BadInput(f"{path}: the artefact has no weights that can be cast to float16")
    for tensor in cast:
        if not np.isfinite(graph.constant(tensor)).all():
            raise BadInput(
                f"{path}: weight {tensor.name!r} passes 65504, float16's largest: keep the weights in float32"
            )


@contextmanager
def _workspace(path: Path, needed: int, limits: Limits, log: Path | None) -> Iterator[_Workspace]:
    """A folder beside the artefact, on a disk with room for `needed` bytes, removed at the end."""
    if path.is_dir():
        raise BadInput(f"{path}: a folder; name a file for the artefact")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise EnvironmentMissing(
                f"{path}: the artefact needs {needed >> 20} MiB of disk and {free >> 20} MiB are free: "
                "free some, or choose another folder"
            )
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            yield _Workspace(path, folder, log or folder / "log.txt", limits)
    except OSError as error:
        raise EnvironmentMissing(f"{path}: cannot be written: {error.strerror or error}") from error


def _publish(made: Path, path: Path, weights_dtype: WeightsDtype, usage: Usage) -> Conversion:
    sha256 = file_sha256(made)
    size = made.stat().st_size
    made.replace(path)
    return Conversion(
        artefact=path.name,
        weights_dtype=weights_dtype,
        file_size=size,
        sha256=sha256,
        seconds=usage.seconds,
        peak_memory_bytes=usage.peak_memory_bytes,
    )


def _need_extras() -> None:
    missing = [name for name in _EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentMissing(
            f"{', '.join(missing)} not installed: converting needs the extra, pip install 'fidelity[convert]'"
        )
