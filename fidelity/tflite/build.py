"""Build small .tflite files on the runtime's schema: probes of a device, and graphs that no converter would write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


class GraphBuilder:
    """Adds tensors and operators by name, in order; `build` gives the file's bytes."""

    def __init__(self) -> None:
        self.buffers: list[np.ndarray | None] = [None]  # buffer 0 is empty by convention
        self.tensors: list[Any] = []
        self.names: dict[str, int] = {}
        self.codes: list[tuple[int, str | None]] = []
        self.operators: list[Any] = []

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "FLOAT32",
        data: np.ndarray | None = None,
        signature: tuple[int, ...] | None = None,
    ) -> str:
        """A tensor that an operator writes, or a constant when it has `data`."""
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type = name, list(shape), getattr(schema.TensorType, dtype)
        entry.shapeSignature = None if signature is None else list(signature)
        entry.buffer = 0
        if data is not None:
            entry.buffer = len(self.buffers)
            self.buffers.append(np.ascontiguousarray(data))
        self.names[name] = len(self.tensors)
        self.tensors.append(entry)
        return name

    def constant(self, name: str, value: Any, dtype: str = "float32") -> str:
        """A constant of a NumPy dtype, from a scalar, list or array."""
        array = np.asarray(value, dtype=dtype)
        return self.tensor(name, array.shape, dtype.upper(), array)

    def op(
        self,
        name: str,
        inputs: list[str],
        output: str,
        options: Any = None,
        custom: str | None = None,
    ) -> None:
        """An operator of the schema's name; `options` is an object of the schema's options class."""
        code = (getattr(schema.BuiltinOperator, name), custom)
        if code not in self.codes:
            self.codes.append(code)
        entry = schema.OperatorT()
        entry.opcodeIndex = self.codes.index(code)
        entry.inputs = [self.names[i] if i else -1 for i in inputs]
        entry.outputs = [self.names[output]]
        if options is not None:
            entry.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            entry.builtinOptions = options
        self.operators.append(entry)

    def build(self, inputs: list[str], outputs: list[str], key: str = "serving_default") -> bytes:
        """The file, with one subgraph and one signature whose names are the tensors' own."""
        subgraph = schema.SubGraphT()
        subgraph.name, subgraph.tensors, subgraph.operators = "main", self.tensors, self.operators
        subgraph.inputs = [self.names[i] for i in inputs]
        subgraph.outputs = [self.names[o] for o in outputs]
        model = schema.ModelT()
        model.version, model.description = 3, "built by fidelity"
        model.subgraphs, model.signatureDefs = (
            [subgraph],
            [signature_def(key, self._named(inputs), self._named(outputs))],
        )
        model.operatorCodes = [_code(number, custom) for number, custom in self.codes]
        model.buffers = [_buffer(data) for data in self.buffers]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _named(self, names: list[str]) -> dict[str, int]:
        return {name: self.names[name] for name in names}


def signature_def(key: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    """A signature of subgraph 0, as the schema's object: tensor indices by the names that a caller uses."""
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, 0
    signature.inputs, signature.outputs = _entries(inputs), _entries(outputs)
    return signature


def _entries(names: Mapping[str, int]) -> list[Any]:
    entries = []
    for name, index in names.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        entries.append(entry)
    return entries


def _code(number: int, custom: str | None) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
    code.customCode, code.version = custom, 1
    return code


def _buffer(data: np.ndarray | None) -> Any:
    buffer = schema.BufferT()
    buffer.data = None if data is None else np.frombuffer(data.tobytes(), dtype=np.uint8)
    return buffer
