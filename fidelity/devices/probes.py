"""A real device behind reveal's protocol: many small operations in one file, one job, one start.

What the device refuses, or answers with another shape or type, is a Refusal of that experiment,
with its reason; no device output is believed beyond that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fidelity.arithmetic.reveal.experiment import Experiment, Refusal, Result, output_shape
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device, quickest
from fidelity.devices.job import JobResult
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.tflite.build import GraphBuilder

Single = NDArray[np.float32]
_MOST_OPERATIONS = 400
_MOST_NUMBERS = 24 << 20
_OPTIONS = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "MaximumMinimum",
    "MINIMUM": "MaximumMinimum",
    "SQUARED_DIFFERENCE": "SquaredDifference",
    "POW": "Pow",
    "ABS": "Abs",
    "NEG": "Neg",
    "EXP": "Exp",
    "GELU": "Gelu",
    "FULLY_CONNECTED": "FullyConnected",
    "BATCH_MATMUL": "BatchMatMul",
    "CONV_2D": "Conv2D",
    "SUM": "Reducer",
    "MEAN": "Reducer",
    "SOFTMAX": "Softmax",
    "RESHAPE": "Reshape",
}
"""The schema's options by kind; the others have none."""


class DeviceLaboratory:
    """Runs experiments on one device at its default precision; `jobs` counts how many that took."""

    def __init__(self, device: Device, folder: Path) -> None:
        """Jobs run in new folders under `folder` and are removed when they have answered."""
        self.device, self.folder, self.jobs = quickest(device), folder, 0
        self.last: JobResult | None = None
        self._refused: dict[str, str] = {}

    def run(self, experiments: Sequence[Experiment]) -> list[Result]:
        """One result for each, in order. A kind that the device refused once is not asked again."""
        results: list[Result | None] = [None] * len(experiments)
        for batch in _batches(list(enumerate(experiments))):
            for place, result in self._batch(batch):
                results[place] = result
        return [Refusal("no answer") if result is None else result for result in results]

    def _batch(self, batch: list[tuple[int, Experiment]]) -> Iterator[tuple[int, Result]]:
        open_ones = [(place, one) for place, one in batch if _group(one) not in self._refused]
        yield from (
            (place, Refusal(self._refused[_group(one)])) for place, one in batch if _group(one) in self._refused
        )
        if not open_ones:
            return
        answers = self._job([one for _, one in open_ones])
        groups = {_group(one) for _, one in open_ones}
        if not isinstance(answers, str):
            yield from zip((place for place, _ in open_ones), answers, strict=True)
        elif len(groups) == 1:
            self._refused[groups.pop()] = answers
            yield from ((place, Refusal(answers)) for place, _ in open_ones)
        else:
            for group in sorted(groups):
                yield from self._batch([(place, one) for place, one in open_ones if _group(one) == group])

    def _job(self, experiments: Sequence[Experiment]) -> list[Result] | str:
        """The results of one job, or why the whole job has none."""
        graph, inputs = GraphBuilder(), dict[str, Single]()
        for place, experiment in enumerate(experiments):
            inputs |= add_experiment(graph, f"e{place}", experiment)
        names = [f"e{place}_y" for place in range(len(experiments))]
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="probe-") as scratch:
            model = Path(scratch) / "probes.tflite"
            model.write_bytes(graph.build(list(inputs), names))
            job = Path(scratch) / "job"
            prepare_job(job, model, {"probes": inputs}, device=self.device.job_device, timeout_seconds=120)
            result = run_job(job, self.device)
            self.jobs += 1
            if result.status != "ok":
                return f"{result.status}: {result.error}"
            if result.residency is None or not result.residency.full:
                return "not all of it runs on the device"
            self.last = result
            outputs = load_outputs(job, result)["probes"]
        return [_answer(outputs.get(name), one) for name, one in zip(names, experiments, strict=True)]


def _answer(output: NDArray[Any] | None, experiment: Experiment) -> Result:
    if output is None:
        return Refusal("the device gives no output for it")
    if output.dtype != np.float32:
        return Refusal(f"the output is {output.dtype}, not float32")
    wanted = output_shape(experiment)
    if output.size != int(np.prod(wanted)):
        return Refusal(f"the output is {list(output.shape)}, not {list(wanted)}")
    return output.reshape(wanted)


def _group(experiment: Experiment) -> str:
    """What a device takes or refuses as one: the kind, with what goes before and after, and constants or none."""
    return f"{experiment.kind}/{experiment.before}/{experiment.after}/{len(experiment.constant)}/{experiment.axis}"


def _batches(numbered: list[tuple[int, Experiment]]) -> Iterator[list[tuple[int, Experiment]]]:
    batch: list[tuple[int, Experiment]] = []
    numbers = 0
    for place, experiment in numbered:
        size = sum(x.size for x in (*experiment.runtime, *experiment.constant))
        if batch and (len(batch) >= _MOST_OPERATIONS or numbers + size > _MOST_NUMBERS):
            yield batch
            batch, numbers = [], 0
        batch.append((place, experiment))
        numbers += size
    if batch:
        yield batch


def add_experiment(graph: GraphBuilder, name: str, experiment: Experiment) -> dict[str, Single]:
    """Put the experiment into `graph`, its output named `name`_y; the inputs that it needs."""
    inputs = {f"{name}_x{place}": x for place, x in enumerate(experiment.runtime)}
    for key, x in inputs.items():
        graph.tensor(key, x.shape)
    constants = [graph.constant(f"{name}_c{place}", x) for place, x in enumerate(experiment.constant)]
    runtime, kind, output = list(inputs), experiment.kind, f"{name}_y"
    if experiment.axis is not None:
        constants = [graph.constant(f"{name}_axis", [experiment.axis], "int32")]
    if kind == "RESHAPE":
        constants = [graph.constant(f"{name}_shape", _moved(experiment.runtime[0].shape), "int32")]
    if experiment.before is not None:
        graph.tensor(f"{name}_b", experiment.runtime[0].shape)
        graph.op(experiment.before, runtime, f"{name}_b", _options(experiment.before, experiment))
        runtime = [f"{name}_b"]
    shape = _moved(experiment.runtime[0].shape) if kind == "RESHAPE" else output_shape(experiment)
    graph.tensor(output if experiment.after is None else f"{name}_s", shape)
    if experiment.after is None:
        graph.op(kind, [*runtime, *constants], output, _options(kind, experiment))
    else:
        graph.op(kind, [*runtime[:-1], *constants], f"{name}_s", _options(kind, experiment))
        graph.tensor(output, shape)
        graph.op(experiment.after, [f"{name}_s", runtime[-1]], output, _options(experiment.after, experiment))
    return inputs


def _moved(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[2], shape[1], *shape[3:]) if len(shape) == 4 else shape


def _options(kind: str, experiment: Experiment) -> Any:
    name = _OPTIONS.get(kind)
    if name is None:
        return None
    options = getattr(schema, f"{name}OptionsT")()
    if kind in ("SUM", "MEAN"):
        options.keepDims = True
    if kind == "SOFTMAX":
        options.beta = 1.0
    if kind == "RESHAPE":
        options.newShape = list(_moved(experiment.runtime[0].shape))
    if kind == "CONV_2D":
        _, height, width, _ = experiment.constant[0].shape
        options.padding, options.strideH, options.strideW = schema.Padding.VALID, height, width
        options.dilationHFactor = options.dilationWFactor = 1
    return options
