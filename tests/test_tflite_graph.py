"""The graph reader against the runtime's own view of the same file, and its accessors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from test_tflite_builder import GraphBuilder, add_and_scale

from fidelity.errors import BadInput
from fidelity.tflite.graph import Graph, read_graph


def varied() -> bytes:
    """One graph with scalars, vectors of options, integers, an absent input and a dynamic batch."""
    graph = GraphBuilder()
    graph.tensor("image", (1, 4, 6), signature=(-1, 4, 6))
    graph.constant("weight", np.arange(30.0).reshape(5, 6))
    graph.constant("axis", [2], "int32")
    graph.constant("shape", [1, 4, 1, 5], "int32")
    graph.tensor("dense", (1, 4, 5))
    graph.tensor("mean", (1, 4, 1))
    graph.tensor("product", (1, 4, 4))
    graph.tensor("out", (1, 4, 1, 5))
    dense = schema.FullyConnectedOptionsT()
    dense.keepNumDims = True
    dense.fusedActivationFunction = schema.ActivationFunctionType.RELU
    graph.op("FULLY_CONNECTED", ["image", "weight", ""], "dense", dense)
    mean = schema.ReducerOptionsT()
    mean.keepDims = True
    graph.op("MEAN", ["dense", "axis"], "mean", mean)
    product = schema.BatchMatMulOptionsT()
    product.adjY = True
    graph.op("BATCH_MATMUL", ["dense", "dense"], "product", product)
    reshape = schema.ReshapeOptionsT()
    reshape.newShape = [1, 4, 1, 5]
    graph.op("RESHAPE", ["dense", "shape"], "out", reshape)
    return graph.build(["image"], ["mean", "product", "out"], key="embed")


MODELS = {"add_and_scale": add_and_scale, "varied": varied}


def store(folder: Path, data: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path


def differences(graph: Graph, interpreter: Interpreter) -> list[str]:
    """Every way in which the reader and the runtime disagree about one file."""
    wrong = []
    for detail in interpreter.get_tensor_details():
        tensor = graph.main.tensors[detail["index"]]
        signature = tuple(detail["shape_signature"].tolist())
        theirs: dict[str, Any] = {
            "name": detail["name"],
            "shape": tuple(detail["shape"].tolist()),
            "shape_signature": signature,
            "dtype": np.dtype(detail["dtype"]).name,
        }
        wrong += [f"tensor {tensor.index} {k}" for k, v in theirs.items() if getattr(tensor, k) != v]
    operators = interpreter._get_ops_details()
    if len(operators) != len(graph.main.operators):
        wrong.append("number of operators")
    for detail, op in zip(operators, graph.main.operators, strict=False):
        theirs = {"name": detail["op_name"], "index": detail["index"]}
        theirs |= {key: tuple(detail[key].tolist()) for key in ("inputs", "outputs")}
        wrong += [f"operator {op.index} {k}" for k, v in theirs.items() if getattr(op, k) != v]
    for key, names in interpreter.get_signature_list().items():
        signature_read = graph.signature(key)
        for kind in ("inputs", "outputs"):
            if sorted(name for name, _ in getattr(signature_read, kind)) != sorted(names[kind]):
                wrong.append(f"signature {key} {kind}")
    return wrong


def plain_interpreter(data: bytes) -> Interpreter:
    """The runtime without a delegate, which would replace operators by its own."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_content=data, experimental_op_resolver_type=resolver)


@pytest.mark.parametrize("name", MODELS)
def test_reader_agrees_with_the_runtime(name: str, tmp_path: Path) -> None:
    data = MODELS[name]()
    graph = read_graph(store(tmp_path, data))
    assert differences(graph, plain_interpreter(data)) == []


@pytest.mark.parametrize(
    ("target", "change"),
    [
        ("tensor", {"name": "other"}),
        ("tensor", {"shape": (9,)}),
        ("tensor", {"shape_signature": (-1,)}),
        ("tensor", {"dtype": "float16"}),
        ("operator", {"inputs": (0,)}),
        ("operator", {"outputs": (0,)}),
        ("operator", {"name": "SUB"}),
    ],
)
def test_the_comparison_with_the_runtime_notices_each_field(
    target: str, change: dict[str, Any], tmp_path: Path
) -> None:
    data = add_and_scale()
    graph = read_graph(store(tmp_path, data))
    main = graph.main
    if target == "tensor":
        tensors = (dataclasses.replace(main.tensors[0], **change), *main.tensors[1:])
        wrong = dataclasses.replace(main, tensors=tensors)
    else:
        operators = (dataclasses.replace(main.operators[0], **change), *main.operators[1:])
        wrong = dataclasses.replace(main, operators=operators)
    assert differences(dataclasses.replace(graph, subgraphs=(wrong,)), plain_interpreter(data))


@pytest.mark.parametrize("name", MODELS)
def test_constants_have_the_runtimes_values(name: str, tmp_path: Path) -> None:
    data = MODELS[name]()
    graph, interpreter = read_graph(store(tmp_path, data)), plain_interpreter(data)
    interpreter.allocate_tensors()
    constants = [t for t in graph.main.tensors if t.is_constant]
    assert constants
    for tensor in constants:
        value = graph.constant(tensor)
        np.testing.assert_array_equal(value, interpreter.get_tensor(tensor.index))
        assert (value.shape, value.dtype.name, value.flags.writeable) == (tensor.shape, tensor.dtype, False)


def test_options_are_read_by_name(tmp_path: Path) -> None:
    dense, mean, product, reshape = read_graph(store(tmp_path, varied())).main.operators
    assert (dense.options["keep_num_dims"], dense.options["fused_activation_function"]) == (True, "RELU")
    assert mean.options == {"keep_dims": True}
    assert (product.options["adj_x"], product.options["adj_y"]) == (False, True)
    assert reshape.options == {"new_shape": (1, 4, 1, 5)}
    assert dense.inputs[2] == -1


def test_producers_and_consumers_follow_the_operators(tmp_path: Path) -> None:
    main = read_graph(store(tmp_path, varied())).main
    dense = next(t for t in main.tensors if t.name == "dense").index
    assert main.producers[dense].name == "FULLY_CONNECTED"
    assert [op.name for op in main.consumers[dense]] == ["MEAN", "BATCH_MATMUL", "RESHAPE"]
    assert main.inputs[0] not in main.producers
    assert main.input(main.operators[0], 2) is None
    assert main.output(main.operators[0]) == main.tensors[dense]


def test_census_and_signature(tmp_path: Path) -> None:
    graph = read_graph(store(tmp_path, varied()))
    assert graph.census() == {"BATCH_MATMUL": 1, "FULLY_CONNECTED": 1, "MEAN": 1, "RESHAPE": 1}
    assert graph.signature() == graph.signature("embed")
    assert graph.signature().inputs == (("image", 0),)
    with pytest.raises(BadInput, match=r"no signature 'other'; the file has 'embed'"):
        graph.signature("other")


def test_two_subgraphs_and_two_signatures(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(bytearray(add_and_scale()), 0)
    model.subgraphs = [model.subgraphs[0], model.subgraphs[0]]
    second = schema.SignatureDefT()
    first = model.signatureDefs[0]
    second.signatureKey, second.subgraphIndex = b"second", 1
    second.inputs, second.outputs = first.inputs, first.outputs
    model.signatureDefs = [first, second]
    graph = read_graph(store(tmp_path, packed(model)))
    assert [s.subgraph for s in graph.signatures] == [0, 1]
    assert graph.census() == {"ADD": 2, "MUL": 2}
    with pytest.raises(BadInput, match="no signature was named; the file has 'serving_default', 'second'"):
        graph.signature()


def packed(model: Any) -> bytes:
    """The bytes of an object-API model."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_buffers_outside_the_flatbuffer_are_read_where_they_lie(tmp_path: Path) -> None:
    """Writers of large files (ai-edge-quantizer too) put the data after the flatbuffer."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(add_and_scale()), 0)
    shift = model.subgraphs[0].tensors[1].buffer
    model.buffers[shift].data, model.buffers[shift].offset, model.buffers[shift].size = None, 2, 12
    size = len(packed(model))
    model.buffers[shift].offset = size
    data = packed(model) + np.float32([4, 5, 6]).tobytes()
    graph = read_graph(store(tmp_path, data))
    assert graph.main.tensors[1].buffer.outside
    assert graph.flatbuffer_size == size
    np.testing.assert_array_equal(graph.constant(graph.main.tensors[1]), np.float32([4, 5, 6]))
    with pytest.raises(BadInput, match=f"buffer {shift} is 12 bytes at {size}"):
        read_graph(store(tmp_path, data[:-1]))


def test_what_has_no_readable_value_is_refused(tmp_path: Path) -> None:
    graph = read_graph(store(tmp_path, add_and_scale()))
    runtime, constant = graph.main.tensors[0], graph.main.tensors[1]
    refused = {
        "computed at run time": runtime,
        "in another file": dataclasses.replace(constant, external=True),
        "not sparse": dataclasses.replace(constant, encoded=True),
        "not bfloat16": dataclasses.replace(constant, dtype="bfloat16"),
        "needs 16 bytes, its buffer has 12": dataclasses.replace(constant, shape=(4,)),
    }
    for reason, tensor in refused.items():
        with pytest.raises(BadInput, match=reason):
            graph.constant(tensor)


def test_names_that_a_terminal_would_act_on_are_escaped(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("a\x1b[31m\nb", (2,))
    graph.tensor("y", (2,))
    graph.op("ABS", ["a\x1b[31m\nb"], "y")
    read = read_graph(store(tmp_path, graph.build(["a\x1b[31m\nb"], ["y"])))
    assert read.main.tensors[0].name == "a\\x1b[31m\\nb"


def rewired(change: Callable[[Any], None]) -> bytes:
    """add_and_scale (tensors 0 x, 1 shift, 2 half, 3 sum, 4 y) with its object model changed."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(add_and_scale()), 0)
    change(model)
    return packed(model)


def wire(op: int, kind: str, value: list[int]) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].operators[op], kind, value)


def of_subgraph(kind: str, value: list[int]) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0], kind, value)


def of_tensor(index: int, kind: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].tensors[index], kind, value)


def of_signature(kind: str, value: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        entry = model.signatureDefs[0]
        setattr(entry.inputs[0] if kind == "tensorIndex" else entry, kind, value)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (wire(0, "inputs", [0, 3]), "operator 0 ADD reads tensor 3, which nothing before it writes"),
        (wire(0, "inputs", [0, 4]), "reads tensor 4"),
        (wire(0, "inputs", [0, 5]), "input of operator 0 ADD is tensor 5, of 5"),
        (wire(0, "inputs", [0, -2]), "input of operator 0 ADD is tensor -2"),
        (wire(1, "outputs", [3]), "operator 1 MUL writes tensor 3, which has a value already"),
        (wire(1, "outputs", [0]), "operator 1 MUL writes tensor 0"),
        (wire(1, "outputs", [1]), "operator 1 MUL writes tensor 1"),
        (wire(1, "outputs", [-1]), "output of operator 1 MUL is tensor -1"),
        (of_subgraph("operators", []), "output tensor 4 of subgraph 0 is never written"),
        (of_subgraph("inputs", [-1]), "input of subgraph 0 is tensor -1"),
        (of_subgraph("outputs", [9]), "output of subgraph 0 is tensor 9"),
        (of_tensor(0, "shape", [-2, 3]), r"tensor 0 'x' has the shape \[-2, 3\]"),
        (of_tensor(0, "shapeSignature", [2]), "rank 2 and a shape signature of rank 1"),
        (of_tensor(1, "shape", [2]), "needs 8 bytes, its buffer has 12"),
        (of_tensor(1, "shape", [4]), "needs 16 bytes, its buffer has 12"),
        (of_tensor(1, "type", schema.TensorType.FLOAT64), "needs 24 bytes"),
        (of_tensor(0, "buffer", 99), "index out of range"),
        (of_signature("subgraphIndex", 1), "signature 'serving_default' names subgraph 1 of 1"),
        (of_signature("tensorIndex", 5), "'x' of signature 'serving_default' is tensor 5, of 5"),
        (lambda model: setattr(model, "subgraphs", []), "no subgraph"),
        (lambda model: setattr(model, "operatorCodes", []), "index out of range"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(change: Callable[[Any], None], says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says):
        read_graph(store(tmp_path, rewired(change)))


def test_what_needs_no_writer_is_accepted(tmp_path: Path) -> None:
    """A variable, an empty tensor and an absent input have no operator that writes them."""
    variable = rewired(lambda m: (of_tensor(1, "buffer", 0)(m), of_tensor(1, "isVariable", True)(m)))
    assert not read_graph(store(tmp_path, variable)).main.tensors[1].is_constant
    empty = rewired(lambda m: (wire(1, "inputs", [3, -1])(m), of_tensor(2, "buffer", 0)(m)))
    assert read_graph(store(tmp_path, empty)).main.operators[1].inputs == (3, -1)
    unwritten = rewired(lambda m: (of_tensor(1, "buffer", 0)(m), of_tensor(1, "shape", [0])(m)))
    assert read_graph(store(tmp_path, unwritten)).main.tensors[1].elements == 0
