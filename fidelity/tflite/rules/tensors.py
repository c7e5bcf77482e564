"""What the delegate demands of every tensor: rank, element type, a static shape, a size it can bind."""

from __future__ import annotations

from collections.abc import Iterator

from fidelity.tflite.finding import AuditFinding, Place, found
from fidelity.tflite.rules.attention import cure_of_high_ranks
from fidelity.tflite.structure import Graph, Subgraph, Tensor

MAX_RANK = 4
REFUSED_DTYPES = ("int64", "uint64", "float64", "complex64", "complex128", "string", "resource", "variant")
"""Measured for int64 and float64 (`Tensor type(INT64) is not supported`); the rest are wider still."""

STORAGE_BINDING_LIMIT = 128 * 1024 * 1024
"""WebGPU's default maxStorageBufferBindingSize; Vulkan guarantees no more (maxStorageBufferRange)."""

FLATBUFFER_LIMIT = 2**31 - 1
"""A flatbuffer's offsets are signed 32-bit numbers for the runtime's verifier."""


def high_ranks(_: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """Tensors over rank 4, each with the rewrite that does without it."""
    cures = cure_of_high_ranks(subgraph, MAX_RANK)
    for tensor in subgraph.tensors:
        if tensor.rank > MAX_RANK:
            reason = f"shape {list(tensor.shape)} has rank {tensor.rank}: the GPU delegate takes {MAX_RANK}"
            yield found(_place(subgraph, tensor), "rank", "refused", reason, cures.get(tensor.index))


def refused_dtypes(_: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """Tensors computed at run time in a type that the delegate has no storage for."""
    for tensor in subgraph.tensors:
        if tensor.dtype in REFUSED_DTYPES and not tensor.is_constant:
            reason = f"the GPU delegate does not store {tensor.dtype}"
            yield found(_place(subgraph, tensor), "dtype", "refused", reason)


def dynamic_shapes(_: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """Tensors with a dimension that is known only at run time."""
    for tensor in subgraph.tensors:
        if tensor.is_dynamic:
            reason = (
                f"shape {list(tensor.shape_signature)} is dynamic: the GPU delegate compiles for "
                f"{list(tensor.shape)} alone, and must compile again, or refuse, after a resize"
            )
            yield found(_place(subgraph, tensor), "dynamic_shape", "warning", reason)


def oversized_buffers(graph: Graph, subgraph: Subgraph) -> Iterator[AuditFinding]:
    """Tensors above the storage binding limit, and a flatbuffer above 2 GiB."""
    for tensor in subgraph.tensors:
        if (tensor.nbytes or 0) > STORAGE_BINDING_LIMIT:
            reason = (
                f"{tensor.nbytes} bytes pass {STORAGE_BINDING_LIMIT} (128 MiB), WebGPU's default "
                "maxStorageBufferBindingSize: a device that offers no more cannot bind it"
            )
            yield found(_place(subgraph, tensor), "oversized_tensor", "warning", reason)
    if subgraph.index == 0 and graph.flatbuffer_size > FLATBUFFER_LIMIT:
        reason = (
            f"the flatbuffer has {graph.flatbuffer_size} bytes and its offsets end at {FLATBUFFER_LIMIT}: "
            "keep the buffers outside it (Buffer.offset and Buffer.size)"
        )
        yield found(Place(subgraph), "oversized_file", "refused", reason)


def _place(subgraph: Subgraph, tensor: Tensor) -> Place:
    """A tensor with the operator that writes it, else the first that reads it, else none."""
    readers = subgraph.consumers[tensor.index]
    return Place(subgraph, subgraph.producers.get(tensor.index) or (readers[0] if readers else None), tensor)
