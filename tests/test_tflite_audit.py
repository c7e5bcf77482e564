"""Every rule of the static audit: a graph that triggers it, and the nearest one that does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from test_tflite_builder import GraphBuilder, add_and_scale

from fidelity.errors import BadInput
from fidelity.tflite.audit import AuditFinding, AuditReport, audit, audit_graph
from fidelity.tflite.graph import read_graph
from fidelity.tflite.rules.operators import REFUSED, TAKEN

Found = tuple[str, str, str | None]  # rule, severity, cure


def audited(folder: Path, data: bytes) -> AuditReport:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return audit(path)


def told(report: AuditReport) -> set[Found]:
    return {(f.rule, f.severity, f.cure) for f in report.findings}


def split(parts: int, *, pick: bool) -> bytes:
    """[1, 5, parts * 8] split into parts at rank 5, as a fused projection is, and one part picked."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 5, parts * 8))
    graph.constant("shape", [1, 5, parts, 2, 4], "int32")
    graph.constant("order", [2, 0, 3, 1, 4], "int32")
    graph.tensor("parted", (1, 5, parts, 2, 4))
    graph.tensor("turned", (parts, 1, 2, 5, 4))
    graph.op("RESHAPE", ["x", "shape"], "parted")
    graph.op("TRANSPOSE", ["parted", "order"], "turned")
    rows = 1 if pick else parts
    if pick:
        graph.constant("begin", [0, 0, 0, 0, 0], "int32")
        graph.constant("size", [1, 1, 2, 5, 4], "int32")
        graph.tensor("part", (1, 1, 2, 5, 4))
        graph.op("SLICE", ["turned", "begin", "size"], "part")
    graph.constant("flat", [rows * 2, 5, 4], "int32")
    graph.tensor("y", (rows * 2, 5, 4))
    graph.op("RESHAPE", ["part" if pick else "turned", "flat"], "y")
    return graph.build(["x"], ["y"])


def stacked_pairs(last: int) -> bytes:
    """`last` tensors of [1, 2, 5, 4] stacked on a new last axis: with two, interleaved RoPE's end."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 2, 5, 4))
    graph.constant("shape", [1, 2, 5, 4, 1], "int32")
    graph.tensor("one", (1, 2, 5, 4, 1))
    graph.op("RESHAPE", ["x", "shape"], "one")
    graph.tensor("pairs", (1, 2, 5, 4, last))
    joined = schema.ConcatenationOptionsT()
    joined.axis = 4
    graph.op("CONCATENATION", ["one"] * last, "pairs", joined)
    graph.constant("flat", [1, 2, 5, 4 * last], "int32")
    graph.tensor("y", (1, 2, 5, 4 * last))
    graph.op("RESHAPE", ["pairs", "flat"], "y")
    return graph.build(["x"], ["y"])


def reshaped(*shape: int) -> bytes:
    graph = GraphBuilder()
    graph.tensor("x", (2, 12))
    graph.constant("shape", list(shape), "int32")
    graph.tensor("y", shape)
    graph.op("RESHAPE", ["x", "shape"], "y")
    return graph.build(["x"], ["y"])


@pytest.mark.parametrize(
    ("data", "cures", "tensors"),
    [
        (split(3, pick=True), {"split_qkv"}, {"parted", "turned", "part"}),
        (split(2, pick=True), {"pool_one_query"}, {"parted", "turned", "part"}),
        (split(4, pick=True), {None}, {"parted", "turned", "part"}),
        (split(3, pick=False), {None}, {"parted", "turned"}),
        (stacked_pairs(2), {"rotate_half"}, {"one", "pairs"}),
        (stacked_pairs(3), {None}, {"one", "pairs"}),
        (reshaped(2, 3, 2, 2), set(), set()),
        (reshaped(1, 2, 3, 2, 2), {None}, {"y"}),
    ],
)
def test_tensors_over_rank_4(data: bytes, cures: set[str | None], tensors: set[str], tmp_path: Path) -> None:
    report = audited(tmp_path, data)
    findings = [f for f in report.findings if f.rule == "rank"]
    assert {f.tensor_name for f in findings} == tensors
    assert {f.cure for f in findings} == cures
    assert {f.severity for f in findings} <= {"refused"}
    assert report.passed == (not tensors)


def test_two_forms_of_rank_5_in_one_graph_keep_their_own_cures(tmp_path: Path) -> None:
    """The groups are told apart although both pass through the same rank-4 tensor."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 2, 5, 4))
    graph.constant("s1", [1, 2, 5, 4, 1], "int32")
    graph.constant("s2", [1, 2, 3, 2, 4], "int32")
    graph.constant("begin", [0] * 5, "int32")
    graph.constant("size", [1, 2, 1, 2, 4], "int32")
    for name, shape in (("one", (1, 2, 5, 4, 1)), ("pairs", (1, 2, 5, 4, 2)), ("parted", (1, 2, 3, 2, 4))):
        graph.tensor(name, shape)
    graph.tensor("part", (1, 2, 1, 2, 4))
    graph.op("RESHAPE", ["x", "s1"], "one")
    graph.op("CONCATENATION", ["one", "one"], "pairs")
    graph.op("RESHAPE", ["x", "s2"], "parted")
    graph.op("SLICE", ["parted", "begin", "size"], "part")
    report = audited(tmp_path, graph.build(["x"], ["pairs", "part"]))
    cures = {f.tensor_name: f.cure for f in report.findings if f.rule == "rank"}
    assert cures == {
        "one": "rotate_half",
        "pairs": "rotate_half",
        "parted": "split_qkv",
        "part": "split_qkv",
    }


def test_tensors_joined_late_are_one_group(tmp_path: Path) -> None:
    """Two chains of rank 5 that only the CONCATENATION joins: all of it is RoPE's."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 2, 5, 4))
    graph.constant("shape", [1, 2, 5, 4, 1], "int32")
    for side in ("a", "b"):
        graph.tensor(side, (1, 2, 5, 4, 1))
        graph.tensor(f"{side}2", (1, 2, 5, 4, 1))
        graph.op("RESHAPE", ["x", "shape"], side)
        graph.op("NEG", [side], f"{side}2")
    graph.tensor("pairs", (1, 2, 5, 4, 2))
    graph.op("CONCATENATION", ["a2", "b2"], "pairs")
    report = audited(tmp_path, graph.build(["x"], ["pairs"]))
    cures = {f.tensor_name: f.cure for f in report.findings if f.rule == "rank"}
    assert cures == dict.fromkeys(("a", "a2", "b", "b2", "pairs"), "rotate_half")


def picked(op: str, output: tuple[int, ...], extra: list[tuple[str, Any]], options: Any = None) -> bytes:
    """An operator that picks elements of [1, 4, 6, 8] by constants."""
    graph = GraphBuilder()
    graph.tensor("x", (1, 4, 6, 8))
    graph.tensor("y", output)
    names = [graph.constant(name, value, "int32") for name, value in extra]
    graph.op(op, ["x", *names], "y", options)
    return graph.build(["x"], ["y"])


def strided(output: tuple[int, ...], *strides: int) -> bytes:
    bounds = [("begin", [0, 0, 0, 0]), ("end", [1, 4, 6, 8]), ("strides", list(strides))]
    return picked("STRIDED_SLICE", output, bounds, schema.StridedSliceOptionsT())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (picked("GATHER", (1, 4, 6, 3), [("i", [0, 1, 5])]), {("gather", "refused", None)}),
        (picked("GATHER", (1, 4, 6, 4), [("i", [0, 2, 4, 6])]), {("gather", "refused", "rotate_half")}),
        (picked("GATHER_ND", (1, 4, 6, 8), [("i", [[0]])]), {("gather", "refused", None)}),
        (strided((1, 4, 6, 4), 1, 1, 1, 2), {("strided_slice", "warning", "rotate_half")}),
        (strided((1, 4, 3, 8), 1, 1, 2, 1), {("strided_slice", "warning", None)}),
        (strided((1, 4, 6, 8), 1, 1, 1, -1), {("strided_slice", "refused", None)}),
        (strided((1, 4, 6, 8), 1, 1, 1, 1), set()),
        (picked("SLICE", (1, 4, 6, 4), [("b", [0] * 4), ("s", [1, 4, 6, 4])]), set()),
    ],
)
def test_gathers(data: bytes, expected: set[Found], tmp_path: Path) -> None:
    assert told(audited(tmp_path, data)) == expected


def one_operator(op: str, custom: str | None = None) -> bytes:
    graph = GraphBuilder()
    graph.tensor("x", (2, 3))
    graph.tensor("y", (2, 3))
    graph.op(op, ["x"], "y", custom=custom)
    return graph.build(["x"], ["y"])


@pytest.mark.parametrize(
    ("data", "expected", "reason"),
    [
        (one_operator("CUSTOM", "FlexErf"), {("custom_op", "refused", None)}, "TensorFlow (Flex)"),
        (one_operator("CUSTOM", "MyOp"), {("custom_op", "refused", None)}, "MyOp is a custom"),
        (one_operator("L2_NORMALIZATION"), {("unsupported_op", "refused", None)}, "no kernel"),
        (
            one_operator("RANK"),
            {("untested_op", "warning", None)},
            "seen to take",
        ),
        (one_operator("TANH"), set(), ""),
    ],
)
def test_operators_without_a_kernel(data: bytes, expected: set[Found], reason: str, tmp_path: Path) -> None:
    report = audited(tmp_path, data)
    assert told(report) == expected
    assert all(reason in finding.reason for finding in report.findings)


def test_the_lists_of_measured_operators_name_operators_of_the_schema_once() -> None:
    known = set(vars(schema.BuiltinOperator))
    assert known > REFUSED | TAKEN
    assert not REFUSED & TAKEN
    measured = {"EXPAND_DIMS", "GATHER_ND", "L2_NORMALIZATION", "LOG_SOFTMAX", "RELU_0_TO_1", "SQUEEZE"}
    assert measured | {"ZEROS_LIKE"} == REFUSED


def product(left: Any, right: Any, shape: tuple[int, ...], **options: bool) -> bytes:
    """BATCH_MATMUL of two operands: a shape is a runtime tensor, an array a constant."""
    graph, inputs = GraphBuilder(), []
    for name, operand in (("left", left), ("right", right)):
        if isinstance(operand, tuple):
            inputs.append(graph.tensor(name, operand))
        else:
            graph.constant(name, operand)
    graph.tensor("y", shape)
    adjoint = schema.BatchMatMulOptionsT()
    for option, value in options.items():
        setattr(adjoint, option, value)
    graph.op("BATCH_MATMUL", ["left", "right"], "y", adjoint)
    return graph.build(inputs, ["y"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            product(np.ones((4, 1, 8)), (4, 8, 6), (4, 1, 6)),
            {("constant_matmul", "refused", "pool_one_query")},
        ),
        (
            product(np.ones((4, 8, 1)), (4, 8, 6), (4, 1, 6), adjX=True),
            {("constant_matmul", "refused", "pool_one_query")},
        ),
        (product(np.ones((4, 8, 1)), (4, 1, 6), (4, 8, 6)), {("constant_matmul", "refused", None)}),
        (product(np.ones((4, 3, 8)), (4, 8, 6), (4, 3, 6)), {("constant_matmul", "refused", None)}),
        (product((4, 3, 8), np.ones((4, 8, 6)), (4, 3, 6)), {("constant_matmul", "warning", None)}),
        (product((4, 3, 8), (4, 8, 6), (4, 3, 6)), set()),
        (product(np.ones((4, 3, 8)), np.ones((4, 8, 6)), (4, 3, 6)), set()),
    ],
)
def test_constant_by_runtime_products(data: bytes, expected: set[Found], tmp_path: Path) -> None:
    assert told(audited(tmp_path, data)) == expected


def test_a_constant_behind_dequantize_and_reshape_is_still_constant(tmp_path: Path) -> None:
    """float16 weights reach their operator through DEQUANTIZE: the product is no less constant."""
    graph = GraphBuilder()
    graph.tensor("x", (4, 8, 6))
    graph.constant("half", np.ones((4, 8)), "float16")
    graph.tensor("query", (4, 8))
    graph.tensor("row", (4, 1, 8))
    graph.constant("shape", [4, 1, 8], "int32")
    graph.tensor("y", (4, 1, 6))
    graph.op("DEQUANTIZE", ["half"], "query")
    graph.op("RESHAPE", ["query", "shape"], "row")
    graph.op("BATCH_MATMUL", ["row", "x"], "y", schema.BatchMatMulOptionsT())
    report = audited(tmp_path, graph.build(["x"], ["y"]))
    assert [(f.operator, f.tensor_name, f.cure) for f in report.findings] == [(2, "row", "pool_one_query")]


def test_what_a_runtime_value_touches_is_not_constant(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (4, 1, 8))
    graph.tensor("v", (4, 8, 6))
    graph.constant("scale", 0.5)
    graph.tensor("query", (4, 1, 8))
    graph.tensor("y", (4, 1, 6))
    graph.op("MUL", ["x", "scale"], "query")
    graph.op("BATCH_MATMUL", ["query", "v"], "y", schema.BatchMatMulOptionsT())
    assert audited(tmp_path, graph.build(["x", "v"], ["y"])).findings == ()


def test_a_constant_of_64_bits_is_no_finding(tmp_path: Path) -> None:
    """Axes and shapes may be int64: they are read when the graph is built, not on the device."""
    graph = GraphBuilder()
    graph.tensor("x", (2, 3))
    graph.constant("shape", [3, 2], "int64")
    graph.tensor("y", (3, 2))
    graph.op("RESHAPE", ["x", "shape"], "y")
    assert audited(tmp_path, graph.build(["x"], ["y"])).findings == ()


def typed(shape: tuple[int, ...], dtype: str, signature: tuple[int, ...] | None = None) -> bytes:
    graph = GraphBuilder()
    graph.tensor("x", shape, dtype, signature=signature)
    graph.tensor("y", shape, dtype)
    graph.op("ABS", ["x"], "y")
    return graph.build(["x"], ["y"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (typed((2, 3), "INT64"), {("dtype", "refused", None)}),
        (typed((2, 3), "FLOAT64"), {("dtype", "refused", None)}),
        (typed((2, 3), "FLOAT16"), set()),
        (typed((1, 3), "FLOAT32", signature=(-1, 3)), {("dynamic_shape", "warning", None)}),
        (typed((1, 3), "FLOAT32", signature=(1, 3)), set()),
        # 128 MiB of float32 is 2^25 elements: at the limit nothing is said, one element over it is
        (typed((1, 2**25), "FLOAT32"), set()),
        (typed((1, 2**25 + 1), "FLOAT32"), {("oversized_tensor", "warning", None)}),
    ],
)
def test_types_shapes_and_sizes_of_tensors(data: bytes, expected: set[Found], tmp_path: Path) -> None:
    assert told(audited(tmp_path, data)) == expected


def test_a_flatbuffer_over_2_gib_is_refused_unless_its_buffers_lie_outside(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(add_and_scale())
    graph = dataclasses.replace(read_graph(path), size=2**31)
    assert told(audit_graph(graph)) == {("oversized_file", "refused", None)}
    assert told(audit_graph(dataclasses.replace(graph, size=2**31 - 1))) == set()
    outside = dataclasses.replace(graph.buffers[1], offset=4096, outside=True)
    assert told(audit_graph(dataclasses.replace(graph, buffers=(*graph.buffers, outside)))) == set()


def test_report_counts_and_census(tmp_path: Path) -> None:
    report = audited(tmp_path, split(3, pick=True))
    assert (report.nodes, report.census) == (4, {"RESHAPE": 2, "SLICE": 1, "TRANSPOSE": 1})
    assert report.counts == {"rank": 3}
    assert report.cures() == ("split_qkv",)
    assert report.refused() == report.findings
    assert audited(tmp_path, add_and_scale()).findings == ()


def test_a_stored_report_is_read_back_and_an_altered_one_is_refused(tmp_path: Path) -> None:
    report = audited(tmp_path, split(3, pick=True))
    path = tmp_path / "audit.json"
    report.write(path)
    assert AuditReport.read(path) == report
    altered: list[dict[str, Any]] = [{"passed": True}, {"counts": {}}, {"nodes": 5}, {"findings": ()}]
    for change in altered:
        report.model_copy(update=change).write(path)
        with pytest.raises(BadInput, match=str(path)):
            AuditReport.read(path)


def test_findings_say_where(tmp_path: Path) -> None:
    (finding,) = audited(tmp_path, strided((1, 4, 6, 4), 1, 1, 1, 2)).findings
    assert finding == AuditFinding(
        rule="strided_slice",
        severity="warning",
        subgraph=0,
        operator=0,
        operator_name="STRIDED_SLICE",
        tensor=1,
        tensor_name="y",
        reason=finding.reason,
        cure="rotate_half",
    )
