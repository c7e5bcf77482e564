"""Hashes of an artefact that say which part of it changed: the whole file, the graph, the constants."""

from __future__ import annotations

import hashlib
from typing import Any

from fidelity.record import canonical_json
from fidelity.tflite.structure import Graph, Operator, Option, Tensor


def file_sha256(graph: Graph) -> str:
    """SHA-256 of the whole file."""
    return hashlib.sha256(graph.data).hexdigest()


def structure_sha256(graph: Graph) -> str:
    """SHA-256 over operators, options, tensors and signatures; not over where or what their bytes are."""
    subgraphs = [
        {
            "tensors": [_tensor(tensor) for tensor in subgraph.tensors],
            "operators": [_operator(op) for op in subgraph.operators],
            "inputs": subgraph.inputs,
            "outputs": subgraph.outputs,
        }
        for subgraph in graph.subgraphs
    ]
    signatures = [(s.key, s.subgraph, s.inputs, s.outputs) for s in graph.signatures]
    return hashlib.sha256(canonical_json({"subgraphs": subgraphs, "signatures": signatures})).hexdigest()


def constants_sha256(graph: Graph) -> str:
    """SHA-256 over the bytes of every constant tensor, in tensor order, whatever its dtype."""
    digest = hashlib.sha256()
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.is_constant:
                digest.update(f"{subgraph.index}:{tensor.index}:{tensor.buffer.size}:".encode())
                digest.update(graph.data[tensor.buffer.offset : tensor.buffer.offset + tensor.buffer.size])
    return digest.hexdigest()


def _tensor(tensor: Tensor) -> list[Any]:
    return [tensor.name, tensor.shape, tensor.shape_signature, tensor.dtype, tensor.is_constant]


def _operator(op: Operator) -> list[Any]:
    options = {key: _option(value) for key, value in op.options.items()}
    return [op.name, op.version, op.inputs, op.outputs, options]


def _option(value: Option) -> Any:
    """A float as its exact hexadecimal text, since JSON has no infinity and an untrusted file may."""
    if isinstance(value, tuple):
        return [_option(item) for item in value]
    return value.hex() if isinstance(value, float) else value
