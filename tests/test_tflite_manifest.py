"""The manifest beside an artefact: what it records, and that nothing can be changed unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tflite_builder import GraphBuilder, add_and_scale
from test_tflite_graph import packed, schema, varied

from fidelity.errors import BadInput
from fidelity.tflite.manifest import (
    AppliedRewrite,
    Manifest,
    Provenance,
    manifest_path,
    read_manifest,
    verify_manifest,
    write_manifest,
)

PROVENANCE = Provenance(
    source="timm:vit_pe_core_base_patch16_224",
    weights="seeded",
    weights_sha256="0" * 64,
    rewrites=(AppliedRewrite(name="split_qkv", version=1),),
)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(add_and_scale())
    write_manifest(path, PROVENANCE)
    return path


def test_what_is_written_is_read_back_and_verified(artefact: Path) -> None:
    manifest = verify_manifest(artefact)
    assert manifest == read_manifest(artefact)
    assert manifest_path(artefact).name == "model.tflite.manifest.json"
    assert manifest.provenance == PROVENANCE
    assert manifest.census == {"ADD": 1, "MUL": 1}
    assert manifest.file_size == len(add_and_scale())
    assert manifest.weights_dtype == "float32"
    assert {"python", "numpy", "ai-edge-litert"} <= set(manifest.tools)


def test_the_same_artefact_has_the_same_manifest(artefact: Path) -> None:
    before = manifest_path(artefact).read_bytes()
    write_manifest(artefact, PROVENANCE)
    assert manifest_path(artefact).read_bytes() == before


def test_the_contract_is_the_signature(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(varied())
    contract = write_manifest(path, PROVENANCE).contract
    assert contract.signature == "embed"
    assert [(t.name, t.shape, t.dtype) for t in contract.inputs] == [("image", (-1, 4, 6), "float32")]
    assert [t.name for t in contract.outputs] == ["mean", "product", "out"]


def test_float16_weights_are_told(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (3,))
    graph.constant("half", [1.0, 2.0, 3.0], "float16")
    graph.tensor("w", (3,))
    graph.tensor("y", (3,))
    graph.op("DEQUANTIZE", ["half"], "w")
    graph.op("MUL", ["x", "w"], "y")
    path = tmp_path / "model.tflite"
    path.write_bytes(graph.build(["x"], ["y"]))
    assert write_manifest(path, PROVENANCE).weights_dtype == "float16"


def changed_weight(data: bytes) -> bytes:
    half = np.float32(0.5).tobytes()
    assert data.count(half) == 1
    return data.replace(half, np.float32(0.25).tobytes())


def changed_operator(data: bytes) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MUL
    return packed(model)


def changed_name(data: bytes) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    model.signatureDefs[0].inputs[0].name = b"picture"
    return packed(model)


def changed_tensor_name(data: bytes) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    model.subgraphs[0].tensors[3].name = b"total"
    return packed(model)


def changed_option(data: bytes) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    relu = schema.ActivationFunctionType.RELU
    model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = relu
    return packed(model)


@pytest.mark.parametrize(
    ("change", "says", "says_not"),
    [
        (changed_weight, ["the weights (constants_sha256"], ["the graph"]),
        (changed_operator, ["the graph (structure_sha256"], ["the weights"]),
        (changed_name, ["the graph (structure_sha256"], ["the weights"]),
        (changed_tensor_name, ["the graph (structure_sha256"], ["the weights"]),
        (changed_option, ["the graph (structure_sha256"], ["the weights"]),
        (lambda d: changed_weight(changed_operator(d)), ["the weights (", "the graph ("], []),
        (lambda d: d + b"\0", ["neither the weights nor the graph"], []),
    ],
)
def test_a_changed_artefact_is_told_by_what_changed(
    change: Any, says: list[str], says_not: list[str], artefact: Path
) -> None:
    artefact.write_bytes(change(artefact.read_bytes()))
    with pytest.raises(BadInput) as error:
        verify_manifest(artefact)
    message = str(error.value)
    assert "sha256 differs from its manifest" in message
    assert "\n" not in message
    assert all(text in message for text in says)
    assert not any(text in message for text in says_not)


def test_every_field_of_the_manifest_is_guarded(artefact: Path) -> None:
    path = manifest_path(artefact)
    fields = json.loads(path.read_text())
    assert set(fields) == set(Manifest.model_fields)
    for field in set(fields) - {"version"}:
        path.write_text(json.dumps(fields | {field: _another(fields[field])}))
        with pytest.raises(BadInput, match=r"manifest\.json"):
            verify_manifest(artefact)
    path.write_text(json.dumps(fields))
    verify_manifest(artefact)


def _another(value: Any) -> Any:
    """A different value of the same type, valid where a pattern is demanded."""
    if isinstance(value, str):
        return "float16" if value == "float32" else ("1" * 64 if len(value) == 64 else value + "x")
    if isinstance(value, int):
        return value + 1
    changed = dict(value)
    key = next(iter(changed))
    changed[key] = _another(changed[key])
    return changed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the document"),
        ("{}", "field 'artefact'"),
        ("not json", "the document"),
        ('{"version": 2}', "field 'version'"),
    ],
)
def test_a_malformed_manifest_is_refused(text: str, says: str, artefact: Path) -> None:
    manifest_path(artefact).write_text(text)
    with pytest.raises(BadInput, match=says):
        read_manifest(artefact)


def test_a_missing_manifest_or_artefact_is_refused(artefact: Path) -> None:
    artefact.rename(artefact.with_name("other.tflite"))
    with pytest.raises(BadInput, match=r"other\.tflite\.manifest\.json: cannot be read"):
        read_manifest(artefact.with_name("other.tflite"))
    with pytest.raises(BadInput, match=r"model\.tflite: cannot be read"):
        verify_manifest(artefact)


def test_two_signatures_have_no_one_contract(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(bytearray(add_and_scale()), 0)
    model.signatureDefs = [model.signatureDefs[0]] * 2
    path = tmp_path / "model.tflite"
    path.write_bytes(packed(model))
    with pytest.raises(BadInput, match="no signature was named"):
        write_manifest(path, PROVENANCE)
    assert not manifest_path(path).exists()
