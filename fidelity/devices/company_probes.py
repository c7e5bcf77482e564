"""A real device behind the experiments in company: many small graphs in one file, one job for each precision.

What the device refuses is a Refusal of those graphs, with its reason; no output is believed beyond
its type and shape.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fidelity.arithmetic.reveal.company.graphs import Company, Node
from fidelity.arithmetic.reveal.experiment import Refusal, Result
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device, quickest
from fidelity.devices.job import Precision
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.tflite.build import GraphBuilder

Single = NDArray[np.float32]
Numbered = list[tuple[int, Company]]
_MOST_OPERATIONS, _MOST_NUMBERS = 1600, 24 << 20
_OPTIONS = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "MEAN": "Reducer",
    "SOFTMAX": "Softmax",
    "FULLY_CONNECTED": "FullyConnected",
    "CONV_2D": "Conv2D",
}
"""The schema's options by kind; RSQRT has none."""


class DeviceCompany:
    """Runs graphs of several operations on one device; `jobs` counts how many that took."""

    def __init__(self, device: Device, folder: Path) -> None:
        """Jobs run in new folders under `folder` and are removed when they have answered."""
        self.device, self.folder, self.jobs = quickest(device), folder, 0
        self._refused: dict[str, str] = {}

    def run(self, graphs: Sequence[Company]) -> list[Result]:
        """One result for each, in order. What the device refused once is not asked again."""
        results: list[Result] = [Refusal("no answer")] * len(graphs)
        for wide in (False, True):
            for batch in _batches([(place, one) for place, one in enumerate(graphs) if one.wide == wide]):
                for place, result in self._batch(batch):
                    results[place] = result
        return results

    def _batch(self, batch: Numbered) -> Iterator[tuple[int, Result]]:
        yield from ((place, Refusal(self._refused[one.name])) for place, one in batch if one.name in self._refused)
        left = [(place, one) for place, one in batch if one.name not in self._refused]
        answers = self._job([one for _, one in left]) if left else []
        names = sorted({one.name for _, one in left})
        if not isinstance(answers, str):
            yield from zip((place for place, _ in left), answers, strict=True)
        elif len(names) == 1:
            self._refused[names[0]] = answers
            yield from ((place, Refusal(answers)) for place, _ in left)
        else:
            for name in names:
                yield from self._batch([(place, one) for place, one in left if one.name == name])

    def _job(self, graphs: Sequence[Company]) -> list[Result] | str:
        """The results of one job, all graphs of one precision, or why the whole job has none."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="company-") as scratch:
            model, inputs = Path(scratch) / "graphs.tflite", dict[str, Single]()
            model.write_bytes(file_of(graphs, inputs))
            job = Path(scratch) / "job"
            precision: Precision = "fp32" if graphs[0].wide else "default"
            prepare_job(
                job, model, {"all": inputs}, device=self.device.job_device, precision=precision, timeout_seconds=180
            )
            result = run_job(job, self.device)
            self.jobs += 1
            if result.status != "ok":
                return f"{result.status}: {result.error}"
            if result.residency is None or not result.residency.full:
                return "not all of it runs on the device"
            outputs = load_outputs(job, result)["all"]
        return [_answer(outputs.get(f"g{place}_y"), one) for place, one in enumerate(graphs)]


def file_of(graphs: Sequence[Company], inputs: dict[str, Single]) -> bytes:
    """A .tflite file of all graphs side by side; puts what it reads into `inputs`. Outputs are g0_y, g1_y, ..."""
    builder = GraphBuilder()
    for place, graph in enumerate(graphs):
        inputs |= _added(builder, f"g{place}", graph)
    return builder.build(list(inputs), [f"g{place}_y" for place in range(len(graphs))])


def _added(builder: GraphBuilder, name: str, graph: Company) -> dict[str, Single]:
    shapes = graph.shapes
    inputs = {f"{name}_x{place}": x for place, x in enumerate(graph.inputs)}
    names = [builder.tensor(key, x.shape) for key, x in inputs.items()]
    for place, node in enumerate(graph.nodes):
        last = place == len(graph.nodes) - 1
        constants = [builder.constant(f"{name}_c{place}_{n}", each) for n, each in enumerate(node.constants)]
        if node.kind == "MEAN":
            axis = len(shapes[node.reads[0]]) - 1
            constants = [builder.constant(f"{name}_axis{place}", [axis], "int32")]
        result = builder.tensor(f"{name}_y" if last else f"{name}_t{place}", shapes[len(names)])
        builder.op(node.kind, [*(names[each] for each in node.reads), *constants], result, _options(node))
        names.append(result)
    return inputs


def _options(node: Node) -> Any:
    if node.kind not in _OPTIONS:
        return None
    options = getattr(schema, f"{_OPTIONS[node.kind]}OptionsT")()
    if node.kind == "MEAN":
        options.keepDims = True
    if node.kind == "SOFTMAX":
        options.beta = 1.0
    if node.kind == "FULLY_CONNECTED":
        options.keepNumDims = True
    if node.kind == "CONV_2D":
        options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
        options.dilationHFactor = options.dilationWFactor = 1
    return options


def _answer(output: NDArray[Any] | None, graph: Company) -> Result:
    if output is None:
        return Refusal("the device gives no output for it")
    wanted = graph.shapes[-1]
    if output.dtype != np.float32 or output.size != int(np.prod(wanted)):
        return Refusal(f"the output is {output.dtype} {list(output.shape)}, not float32 {list(wanted)}")
    return output.reshape(wanted)


def _batches(numbered: Numbered) -> Iterator[Numbered]:
    batch: Numbered = []
    operations = numbers = 0
    for place, graph in numbered:
        size = sum(x.size for x in graph.inputs)
        if batch and (operations + len(graph.nodes) > _MOST_OPERATIONS or numbers + size > _MOST_NUMBERS):
            yield batch
            batch, operations, numbers = [], 0, 0
        batch.append((place, graph))
        operations, numbers = operations + len(graph.nodes), numbers + size
    if batch:
        yield batch
