"""What a .tflite file says, as frozen data: subgraphs, operators, tensors, buffers, signatures.

Indices are the file's own, so that they agree with the runtime's tensor details, its logs and any
graph editor. Weights stay in the mapped file until `Graph.constant` is asked for one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fidelity.errors import BadInput

Option = bool | int | float | str | tuple[int | float, ...]
"""One operator option as stored; enumerations that the product needs are given by name."""

NUMPY_DTYPES = frozenset(
    [
        *("float16", "float32", "float64", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    ]
)
"""Tensor types that NumPy has; the others (string, resource, int4, bfloat16, ...) cannot be read here."""


@dataclass(frozen=True)
class Buffer:
    """Where stored bytes lie: `offset` from the start of the file, `size` in bytes, 0 for none.

    `outside` is true for data after the flatbuffer, as files near 2 GiB and above keep it, since a
    flatbuffer's own offsets are 32 bits wide.
    """

    index: int
    offset: int
    size: int
    outside: bool = False


PLACEHOLDER = "<placeholder signature>"
"""The key that the runtime gives the main subgraph of a file without signatures (ai-edge-litert 2.3.0)."""


@dataclass(frozen=True)
class Quantization:
    """value = scale * (stored - zero point): one pair for a tensor, or one a slice along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph. `shape_signature` has -1 where a dimension is dynamic.

    `is_constant`: the file, or a file beside it (`external`), holds its value. `encoded`: stored
    sparse, so its bytes are not its elements. `quantization`: of one that stores integers for reals.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    buffer: Buffer
    is_constant: bool
    is_variable: bool = False
    external: bool = False
    encoded: bool = False
    quantization: Quantization | None = None

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def elements(self) -> int:
        """The number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def is_dynamic(self) -> bool:
        """True when a dimension is known only at run time."""
        return -1 in self.shape_signature

    @property
    def nbytes(self) -> int | None:
        """Bytes of the value in its own dtype; None for a dtype that NumPy does not have."""
        return self.elements * np.dtype(self.dtype).itemsize if self.dtype in NUMPY_DTYPES else None


@dataclass(frozen=True)
class Operator:
    """One operator. `inputs` and `outputs` are tensor indices of its subgraph, -1 for an absent input.

    `name` is the schema's (`BATCH_MATMUL`), or the custom code of a custom op.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    is_custom: bool = False
    options: Mapping[str, Option] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Signature:
    """One entry point: names that a caller uses, in file order, and the tensors they mean."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Subgraph:
    """One graph of operators in execution order."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @cached_property
    def producers(self) -> Mapping[int, Operator]:
        """The operator that writes each tensor; inputs and constants have none."""
        return {tensor: op for op in self.operators for tensor in op.outputs}

    @cached_property
    def consumers(self) -> Mapping[int, tuple[Operator, ...]]:
        """The operators that read each tensor, each once, in execution order."""
        readers: dict[int, list[Operator]] = {tensor.index: [] for tensor in self.tensors}
        for op in self.operators:
            for index in dict.fromkeys(op.inputs):
                if index >= 0:
                    readers[index].append(op)
        return {index: tuple(found) for index, found in readers.items()}

    def input(self, op: Operator, position: int) -> Tensor | None:
        """The tensor at an operator's input position; None when it is absent."""
        if position >= len(op.inputs) or op.inputs[position] < 0:
            return None
        return self.tensors[op.inputs[position]]

    def output(self, op: Operator) -> Tensor | None:
        """An operator's first output; None for an operator without one."""
        return self.tensors[op.outputs[0]] if op.outputs else None


@dataclass(frozen=True)
class Graph:
    """A whole file. `flatbuffer_size` is `size` unless buffers lie outside the flatbuffer."""

    path: Path
    size: int
    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    buffers: tuple[Buffer, ...]
    signatures: tuple[Signature, ...]
    data: memoryview = field(repr=False, compare=False)

    @property
    def main(self) -> Subgraph:
        """The first subgraph, which the runtime runs when no signature is named."""
        return self.subgraphs[0]

    @cached_property
    def live(self) -> frozenset[int]:
        """Tensors of the main subgraph that depend on an input; the others are made of constants alone.

        Raises BadInput where there is not one signature.
        """
        found = {index for _, index in self.signature().inputs}
        for op in self.main.operators:
            if not found.isdisjoint(op.inputs):
                found |= set(op.outputs)
        return frozenset(found)

    @property
    def flatbuffer_size(self) -> int:
        """Bytes before the first buffer that lies outside the flatbuffer."""
        return min((b.offset for b in self.buffers if b.outside), default=self.size)

    def census(self) -> dict[str, int]:
        """How many operators of each name all subgraphs have, sorted by name."""
        counts = Counter(op.name for subgraph in self.subgraphs for op in subgraph.operators)
        return dict(sorted(counts.items()))

    @property
    def entry_points(self) -> tuple[Signature, ...]:
        """The signatures; of a file without any the one that the runtime makes up for its main subgraph."""
        if self.signatures:
            return self.signatures
        inputs, outputs = (
            tuple((self.main.tensors[index].name, index) for index in side)
            for side in (self.main.inputs, self.main.outputs)
        )
        return (Signature(PLACEHOLDER, 0, inputs, outputs),)

    def signature(self, key: str | None = None) -> Signature:
        """The entry point of that name, or the only one. Raises BadInput with those there are."""
        found = [s for s in self.entry_points if key in (None, s.key)]
        if len(found) != 1:
            names = ", ".join(repr(s.key) for s in self.entry_points)
            asked = "no signature was named" if key is None else f"no signature {key!r}"
            raise BadInput(f"{self.path}: {asked}; the file has {names}")
        return found[0]

    def constant(self, tensor: Tensor) -> npt.NDArray[np.generic]:
        """The stored value, as a read-only view of the mapped file in the tensor's shape and dtype.

        Raises BadInput for a tensor without a value, in another file, stored sparse, of a dtype
        that NumPy does not have, or whose bytes do not fit its shape.
        """
        where = f"{self.path}: tensor {tensor.index} {tensor.name!r}"
        if not tensor.is_constant:
            raise BadInput(f"{where} has no stored value: it is computed at run time")
        if tensor.external:
            raise BadInput(f"{where} keeps its value in another file, which fidelity does not read")
        if tensor.encoded or tensor.nbytes is None:
            kind = "sparse" if tensor.encoded else tensor.dtype
            raise BadInput(f"{where}: only dense values of NumPy's dtypes can be read, not {kind}")
        if tensor.nbytes != tensor.buffer.size:
            raise BadInput(f"{where} needs {tensor.nbytes} bytes, its buffer has {tensor.buffer.size}")
        dtype = np.dtype(tensor.dtype).newbyteorder("<")
        flat = np.frombuffer(self.data, dtype=dtype, count=tensor.elements, offset=tensor.buffer.offset)
        return flat.reshape(tensor.shape)
