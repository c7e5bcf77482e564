"""The runtime's own reference kernels, driven inside a worker process: plain loops, no XNNPACK, no delegate.

They are what LiteRT's authors hold every optimised kernel to, so a bare artefact is judged against them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from fidelity.devices.litert import Run, Tensors, check_against
from fidelity.errors import BadInput
from fidelity.record import Record
from fidelity.tflite.graph import read_graph

SHAPES = "shapes.json"


class TensorShapes(Record):
    """The shape of every tensor of one subgraph, by its index, once the inputs have theirs."""

    subgraph: int
    shapes: dict[int, tuple[int, ...]]


class ReferenceKernels:
    """One entry point of a model, ready to run on the reference kernels with inputs of the shapes of `first`.

    Raises BadInput for an unknown signature, RuntimeError or ValueError for a model that cannot be
    prepared: a custom operator, or a shape that an operator refuses.
    """

    def __init__(self, path: Path, signature: str | None, first: Tensors) -> None:
        started = time.perf_counter()
        graph = read_graph(path)
        self._entry = graph.signature(signature)
        tensors = graph.subgraphs[self._entry.subgraph].tensors
        self._interpreter = Interpreter(
            model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
        )
        self._runner = None
        if graph.signatures:
            self._runner = self._interpreter.get_signature_runner(self._entry.key)
            self._wanted = {
                name: {"shape": detail["shape"], "dtype": np.dtype(detail["dtype"])}
                for name, detail in self._runner.get_input_details().items()
            }
        else:
            self._wanted = {
                name: {"shape": tensors[index].shape, "dtype": np.dtype(tensors[index].dtype)}
                for name, index in self._entry.inputs
            }
        self._bind({name: tensors[index].shape_signature for name, index in self._entry.inputs}, first)
        if self._runner is None:
            self._interpreter.allocate_tensors()
        self.seconds = time.perf_counter() - started

    def check(self, tensors: Tensors) -> None:
        """Raises BadInput when names, shapes or dtypes are not those that it was made ready for."""
        check_against(self._wanted, self._entry.key, tensors)
        if "self" in tensors:
            raise BadInput("input 'self': the runtime's Python signature runner cannot be given this name")

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> Run:
        """One inference with its time."""
        started = time.perf_counter()
        if self._runner is not None:
            outputs = {name: np.array(value) for name, value in self._runner(**tensors).items()}
        else:
            for name, index in self._entry.inputs:
                self._interpreter.set_tensor(index, np.ascontiguousarray(tensors[name]))
            self._interpreter.invoke()
            outputs = {name: np.array(self._interpreter.get_tensor(index)) for name, index in self._entry.outputs}
        seconds = time.perf_counter() - started
        return Run(outputs, seconds, seconds)

    def shapes(self) -> TensorShapes:
        """Every tensor's shape after a run."""
        details = self._interpreter.get_tensor_details(self._entry.subgraph)
        return TensorShapes(
            subgraph=self._entry.subgraph,
            shapes={int(each["index"]): tuple(int(size) for size in each["shape"]) for each in details},
        )

    def _bind(self, signatures: Mapping[str, tuple[int, ...]], first: Tensors) -> None:
        """Give dynamic inputs the shapes of the first ones; a shape that the file fixes is not moved."""
        for name, index in self._entry.inputs:
            asked, dynamic = first.get(name), signatures[name]
            if asked is None or -1 not in dynamic:
                continue
            fits = len(dynamic) == asked.ndim and all(
                want in (-1, size) for want, size in zip(dynamic, asked.shape, strict=True)
            )
            if not fits:
                raise BadInput(f"input {name!r}: shape {asked.shape}, the file takes {dynamic}")
            if self._runner is None:
                self._interpreter.resize_tensor_input(index, list(asked.shape), strict=True)
            self._wanted[name]["shape"] = asked.shape
