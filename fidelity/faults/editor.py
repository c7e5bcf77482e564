"""A .tflite file that operators are added to and constants changed in, on the schema's own objects."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Array = NDArray[Any]
_BUILTIN = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
_DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}


class Editor:
    """One file being edited. Tensors are indices in its first subgraph, which is the only one."""

    def __init__(self, model: bytes) -> None:
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        self._subgraph = self._model.subgraphs[0]
        self._file = model

    def index(self, name: str) -> int | None:
        """The tensor of this name, None where the file has none."""
        wanted = name.encode()
        return next((i for i, tensor in enumerate(self._subgraph.tensors) if tensor.name == wanted), None)

    def producer(self, tensor: int) -> Any | None:
        """The operator object that writes a tensor."""
        return next((op for op in self._subgraph.operators if tensor in op.outputs), None)

    def written_before(self, op: Any) -> list[int]:
        """Tensors that operators before this one write."""
        operators = self._subgraph.operators[: self._place(op)]
        return [int(index) for each in operators for index in each.outputs]

    def kind(self, op: Any) -> str:
        """An operator's name in the schema."""
        code = self._model.operatorCodes[op.opcodeIndex]
        return str(_BUILTIN[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def shape(self, tensor: int) -> tuple[int, ...]:
        """A tensor's shape."""
        return tuple(int(size) for size in self._subgraph.tensors[tensor].shape)

    def is_float(self, tensor: int) -> bool:
        """Whether it is float32."""
        return bool(self._subgraph.tensors[tensor].type == schema.TensorType.FLOAT32)

    def value(self, tensor: int) -> Array | None:
        """A float constant's value, None for what is none."""
        entry = self._subgraph.tensors[tensor]
        buffer = self._model.buffers[entry.buffer]
        dtype = _DTYPES.get(entry.type)
        if dtype is None:
            return None
        if buffer.offset > 1 and buffer.size > 1:
            data = self._file[buffer.offset : buffer.offset + buffer.size]
        elif buffer.data is not None and len(buffer.data):
            data = np.asarray(buffer.data, np.uint8).tobytes()
        else:
            return None
        return np.frombuffer(data, dtype).reshape(self.shape(tensor))

    def constant(self, value: Array) -> int:
        """A new constant of the value's own dtype."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self._tensor(value.shape, str(value.dtype).upper(), len(self._model.buffers) - 1)

    def like(self, tensor: int) -> int:
        """A new tensor of another's shape that nothing writes yet."""
        return self._tensor(self.shape(tensor), "FLOAT32", 0)

    def new(self, shape: tuple[int, ...]) -> int:
        """A new float32 tensor that nothing writes yet."""
        return self._tensor(shape, "FLOAT32", 0)

    def _tensor(self, shape: tuple[int, ...], dtype: str, buffer: int) -> int:
        entry = schema.TensorT()
        entry.name = f"planted_{len(self._subgraph.tensors)}".encode()
        entry.shape, entry.buffer, entry.type = list(shape), buffer, getattr(schema.TensorType, dtype)
        self._subgraph.tensors.append(entry)
        return len(self._subgraph.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int, options: Any, before: Any | None) -> None:
        """A new operator, in execution order before another one; at the end for None."""
        code = getattr(schema.BuiltinOperator, name)
        places = [max(each.builtinCode, each.deprecatedBuiltinCode) for each in self._model.operatorCodes]
        if code not in places:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
            self._model.operatorCodes.append(entry)
            places.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = places.index(code), inputs, [output]
        if options is not None:
            op.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            op.builtinOptions = options
        operators = self._subgraph.operators
        operators.insert(len(operators) if before is None else self._place(before), op)

    def after(self, op: Any) -> Any | None:
        """The operator behind one, None where it is the last."""
        operators = self._subgraph.operators
        place = self._place(op) + 1
        return operators[place] if place < len(operators) else None

    def _place(self, op: Any) -> int:
        return next(place for place, each in enumerate(self._subgraph.operators) if each is op)

    def bytes(self) -> bytes:
        """The edited file."""
        for buffer in self._model.buffers:
            if buffer.offset > 1 and buffer.size > 1:
                start = buffer.offset
                buffer.data = np.frombuffer(self._file, np.uint8, buffer.size, start)
            buffer.offset = buffer.size = 0
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
