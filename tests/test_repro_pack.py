"""A repro pack: the smallest piece that fails, and one command that shows it again and believes no tampered folder.

Devices are the emulator with one result spoilt, as in test_locate.py; run.py is a process of its own on LiteRT's CPU.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fidelity.arithmetic.profile import load_profile
from fidelity.errors import EnvironmentMissing
from fidelity.localisation.cures import CURES
from fidelity.localisation.emulations import emulated, parsed
from fidelity.localisation.noise import NOISE
from fidelity.localisation.on_device import Arrays, Ran, RunModel
from fidelity.localisation.pieces import Case, right_inputs
from fidelity.localisation.records import Errors, Kind, Located
from fidelity.localisation.repro.piece import Blame, Piece, smallest
from fidelity.localisation.repro.write import Device, Repro, write_pack
from fidelity.localisation.taps import tappable
from fidelity.tflite.structure import Graph

sys.path.insert(0, str(Path(__file__).parent))
from test_locate import MEASURED, X, cpu, device, graph_of, halved, network, shifted
from test_tflite_builder import GraphBuilder

FLOAT32 = load_profile("ieee-fp32")
HERE = Device(
    name="a device", driver="a driver", accelerator="cpu", precision="fp32", versions={"ai-edge-litert": "2.3.0"}
)


def written_by(graph: Graph, tensor: str) -> int:
    return next(op.index for op in graph.main.operators if graph.main.tensors[op.outputs[0]].name == tensor)


def blame(graph: Graph, run: RunModel, tensor: str, kind: Kind = "kernel", **others: Any) -> Blame:
    profile = others.pop("profile", MEASURED)
    case = Case(graph, others.pop("inputs", {"x": X}), run, profile, NOISE)
    return Blame(case, (written_by(graph, tensor),), kind, others.pop("truth", {}))


def found(given: Blame) -> Piece:
    piece = smallest(given)
    assert piece is not None
    return piece


def located(kind: Kind = "kernel", *evidence: str) -> Located:
    return Located(
        input="noise",
        device="a device",
        kind=kind,
        culprit=None,
        evidence=evidence,
        cure=CURES[kind],
        errors=Errors(actual=1, expected=0, cpu=0),
        trace=None,
        device_runs=3,
    )


def at_least(count: int) -> Callable[[Graph], bool]:
    return lambda graph: len(graph.main.operators) >= count


def replay(folder: Path, *options: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, str(folder / "run.py"), *options]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def misconverted(folder: Path) -> Blame:
    """A graph that is wrong on every device: PyTorch's GELU is twice the file's, and its input a little more."""
    graph = graph_of(network(), folder)
    values = emulated(graph, tappable(graph), {"x": X}, FLOAT32).values
    truth = {index: array.astype(np.float64) for index, array in values.items()}
    blamed = graph.main.operators[written_by(graph, "gelu1")]
    truth[blamed.outputs[0]] *= 2
    truth[blamed.inputs[0]] += 1e-6
    return blame(graph, cpu(folder), "gelu1", "converter", truth=truth, profile=FLOAT32)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack of a graph that LiteRT's CPU computes to something else than PyTorch."""
    given = misconverted(tmp_path)
    write_pack(tmp_path / "pack", found(given), given.case.graph, located("converter"), HERE)
    return tmp_path / "pack"


@pytest.mark.parametrize("tensor", ["product0", "gelu1", "scaled2", "sum3", "y"])
def test_a_kernel_is_its_operator_alone(tmp_path: Path, tensor: str) -> None:
    graph = graph_of(network(), tmp_path)
    given = blame(graph, device(tmp_path, tensor=tensor, spoil=halved), tensor)
    piece = found(given)
    assert (piece.extent, piece.operators, piece.told) == ("piece", given.operators, ())
    assert piece.error == pytest.approx(0.5, rel=0.01)
    assert piece.allowed < 0.01
    assert given.case.runs == 1
    assert [graph.main.tensors[piece.tensors[name]].name for name in piece.actual] == [tensor]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7])
def test_what_is_right_alone_is_packed_with_its_neighbours(tmp_path: Path, count: int) -> None:
    graph = graph_of(network(), tmp_path)
    run = device(tmp_path, tensor="gelu2", spoil=shifted, when=at_least(count))
    piece = found(blame(graph, run, "gelu2", "layout-or-fusion"))
    assert (piece.extent, len(piece.operators)) == ("piece", count)
    assert written_by(graph, "gelu2") in piece.operators
    assert any("right, or wrong by no more than is allowed" in line for line in piece.told)


def test_a_group_is_tried_as_it_is_and_each_of_it_alone(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    group = tuple(written_by(graph, name) for name in ("product1", "gelu1", "scaled1", "sum1"))
    run = device(tmp_path, tensor="product1", spoil=halved)
    case = Case(graph, {"x": X}, run, MEASURED, NOISE)
    assert found(Blame(case, group, "kernel", {})).operators == group[:1]
    seen: list[int] = []

    def four_alone(model: bytes, inputs: Arrays) -> Ran:
        seen.append(len(parsed(model).main.operators))
        return device(tmp_path, tensor="product1", spoil=halved, when=at_least(4))(model, inputs)

    pair = tuple(written_by(graph, name) for name in ("gelu1", "scaled1"))
    both = device(tmp_path, tensor="scaled1", spoil=halved, when=at_least(2))
    assert found(Blame(Case(graph, {"x": X}, both, MEASURED, NOISE), pair, "layout-or-fusion", {})).operators == pair
    piece = found(Blame(Case(graph, {"x": X}, four_alone, MEASURED, NOISE), group, "layout-or-fusion", {}))
    assert piece.operators == group
    assert seen == sorted(seen)  # smaller pieces first
    assert len(seen) <= 41


@pytest.mark.parametrize("count", [2, 6])
def test_weights_come_along_with_the_bytes_that_the_file_has(tmp_path: Path, count: int) -> None:
    """float16 weights are read through a DEQUANTIZE, which is in no piece but those that need it."""
    builder, draw = GraphBuilder(), np.random.Generator(np.random.Philox(7))
    builder.tensor("x", (4, 32))
    stream = "x"
    for layer in range(4):
        builder.constant(f"half{layer}", draw.standard_normal((32, 32)) / 6, "float16")
        for name, shape in (("w", (32, 32)), ("product", (4, 32)), ("gelu", (4, 32))):
            builder.tensor(f"{name}{layer}", shape)
        builder.op("DEQUANTIZE", [f"half{layer}"], f"w{layer}", schema.DequantizeOptionsT())
        builder.op("FULLY_CONNECTED", [stream, f"w{layer}", ""], f"product{layer}", schema.FullyConnectedOptionsT())
        builder.op("GELU", [f"product{layer}"], f"gelu{layer}", schema.GeluOptionsT())
        stream = f"gelu{layer}"
    graph = graph_of(builder.build(["x"], ["gelu3"]), tmp_path)
    run = device(tmp_path, tensor="product1", spoil=halved, when=at_least(count))
    piece = found(blame(graph, run, "product1"))
    names = [graph.main.operators[op].name for op in piece.operators]
    assert len(names) == count
    assert names.count("DEQUANTIZE") == names.count("FULLY_CONNECTED")
    cut_out = parsed(piece.model)
    halves = [cut_out.constant(each).tobytes() for each in cut_out.main.tensors if each.dtype == "float16"]
    kept = [each for each in graph.main.tensors if each.name == "half1"]
    assert graph.constant(kept[0]).tobytes() in halves
    assert set(piece.actual) == {f"tap_{graph.main.operators[piece.operators[-1]].outputs[0]}"}


@pytest.mark.parametrize(
    ("count", "extent", "tensor"), [(16, "prefix", "sum3"), (19, "graph", "sum3"), (19, "graph", "y")]
)
def test_what_no_piece_shows_is_the_graph_up_to_it_or_all_of_it(
    tmp_path: Path, count: int, extent: str, tensor: str
) -> None:
    graph = graph_of(network(), tmp_path)
    run = device(tmp_path, tensor=tensor, spoil=halved, when=at_least(count))
    piece = found(blame(graph, run, tensor))
    assert (piece.extent, len(piece.operators)) == (extent, count)
    assert piece.told
    folder = tmp_path / "pack"
    record = write_pack(folder, piece, graph, located(), HERE)
    assert record.search == piece.told
    assert f"{count} operators. On right inputs" in (folder / "README.md").read_text()
    assert "No smaller piece shows it" in (folder / "README.md").read_text()
    assert replay(folder)[0] == 0  # LiteRT's CPU has no such fault


def test_a_right_value_is_computed_once_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a large graph each is the emulation of all that is before it."""
    asked: list[int] = []

    def right(case: Case, tensors: Sequence[int]) -> Arrays:
        asked.extend(tensors)
        return right_inputs(case, tensors)

    monkeypatch.setattr("fidelity.localisation.repro.piece.right_inputs", right)
    run = device(tmp_path, tensor="gelu2", spoil=shifted, when=at_least(7))
    found(blame(graph_of(network(), tmp_path), run, "gelu2"))
    assert len(asked) == len(set(asked)) > 5


def test_where_nothing_fails_again_there_is_no_piece(tmp_path: Path) -> None:
    assert smallest(blame(graph_of(network(), tmp_path), device(tmp_path), "gelu1")) is None


def test_a_piece_that_the_device_does_not_take_whole_is_none(tmp_path: Path) -> None:
    faulty = device(tmp_path, tensor="gelu1", spoil=halved)

    def run(model: bytes, inputs: Arrays) -> Ran:
        count = len(parsed(model).main.operators)
        if count == 1:
            return Ran({}, False, "refused: a lone GELU")
        return Ran(faulty(model, inputs).outputs, resident=count > 2)

    piece = found(blame(graph_of(network(), tmp_path), run, "gelu1"))
    assert len(piece.operators) == 3
    assert any("does not run it: refused: a lone GELU" in line for line in piece.told)
    assert any("not every node of it runs on the device" in line for line in piece.told)


def test_a_missing_output_says_nothing_of_the_arithmetic(tmp_path: Path) -> None:
    piece = smallest(blame(graph_of(network(), tmp_path), lambda model, inputs: Ran({}, resident=True), "gelu1"))
    assert piece is None


def test_an_overflow_is_packed_though_its_arithmetic_must_have_it(tmp_path: Path) -> None:
    graph = graph_of(network(gain=400.0), tmp_path)
    piece = found(blame(graph, device(tmp_path), "square", "overflow"))
    assert len(piece.operators) == 1
    (off,) = piece.off.values()
    assert (off.error, off.expected) == (np.inf, np.inf)
    assert all(np.isfinite(array).all() for array in piece.truth.values())
    record = write_pack(tmp_path / "pack", piece, graph, located("overflow"), HERE)
    assert record.error == np.inf
    assert Repro.read(tmp_path / "pack" / "repro.json") == record
    assert "beyond the largest number of the format" in (tmp_path / "pack" / "README.md").read_text()


def test_an_error_that_the_arithmetic_does_not_give_is_no_overflow(tmp_path: Path) -> None:
    run = device(tmp_path, tensor="gelu1", spoil=halved)
    assert smallest(blame(graph_of(network(), tmp_path), run, "gelu1", "overflow")) is None


def test_inputs_that_are_beyond_the_format_are_given_to_no_device(tmp_path: Path) -> None:
    graph = graph_of(network(gain=400.0), tmp_path)
    given: list[Arrays] = []

    def run(model: bytes, inputs: Arrays) -> Ran:
        given.append(inputs)
        return device(tmp_path)(model, inputs)

    piece = found(blame(graph, run, "y", "overflow"))
    assert written_by(graph, "square") in piece.operators
    assert all(np.isfinite(array).all() for inputs in given for array in inputs.values())
    assert any("beyond the format already" in line for line in piece.told)


def test_a_conversion_is_held_against_pytorch_from_pytorchs_inputs(tmp_path: Path) -> None:
    given = misconverted(tmp_path)
    piece = found(given)
    assert piece.operators == given.operators
    assert piece.error == pytest.approx(0.5, rel=1e-3)
    assert piece.allowed == NOISE
    for arrays, dtype in ((piece.inputs, np.float32), (piece.truth, np.float64)):
        ((name, array),) = arrays.items()
        assert array.dtype == dtype
        assert np.array_equal(array, given.truth[piece.tensors[name]].astype(dtype))


def test_a_truth_of_another_shape_is_no_truth(tmp_path: Path) -> None:
    given = misconverted(tmp_path)
    flat = {index: array.reshape(-1) for index, array in given.truth.items()}
    assert smallest(Blame(given.case, given.operators, "converter", flat)) is None


# The folder


def test_a_pack_holds_what_it_says(pack: Path) -> None:
    record = Repro.read(pack / "repro.json")
    files = {str(path.relative_to(pack)) for path in pack.rglob("*") if path.is_file()}
    assert files == {*record.files, "repro.json", "README.md"}
    assert all(hashlib.sha256((pack / file).read_bytes()).hexdigest() == sha for file, sha in record.files.items())
    assert (record.kind, record.extent, record.device) == ("converter", "piece", HERE)
    for out in record.outputs.values():
        truth, actual = (np.load(pack / file, allow_pickle=False) for file in (out.truth, out.actual))
        assert np.linalg.norm(actual - truth) / np.linalg.norm(truth) == pytest.approx(out.error)
    readme = (pack / "README.md").read_text()
    assert "pip install ai-edge-litert==2.3.0 numpy" in readme
    assert record.artefact_sha256 in readme
    assert all(f"`{op.name}`" in readme for op in record.operators)


def test_the_same_piece_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    for name in ("one", "other"):
        given = blame(graph, device(tmp_path, tensor="gelu1", spoil=halved), "gelu1")
        write_pack(tmp_path / name, found(given), graph, located(), HERE)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 9
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes() for file in files)


def test_a_folder_that_is_there_is_not_written_over(pack: Path, tmp_path: Path) -> None:
    given = misconverted(tmp_path)
    with pytest.raises(EnvironmentMissing, match="cannot be written: File exists"):
        write_pack(pack, found(given), given.case.graph, located(), HERE)


HOSTILE = "../../evil|`code` <b>"


@pytest.mark.parametrize("extent", ["piece", "graph"])
def test_names_of_an_untrusted_file_leave_neither_the_folder_nor_their_place(tmp_path: Path, extent: str) -> None:
    """A whole graph keeps the signature of the file, with the names that it has there."""
    builder, result = GraphBuilder(), f"{HOSTILE} result"
    for name in (HOSTILE, "mid", result):
        builder.tensor(name, (2, 8))
    builder.op("GELU", [HOSTILE], "mid", schema.GeluOptionsT())
    builder.op("GELU", ["mid"], result, schema.GeluOptionsT())
    graph = graph_of(builder.build([HOSTILE], [result]), tmp_path)
    given = blame(graph, device(tmp_path, tensor=result, spoil=halved), result, inputs={HOSTILE: X[:2, :8]})
    piece = found(given) if extent == "piece" else whole(given)
    outer = tmp_path / "a" / "b" / "c"
    write_pack(outer / "pack", piece, graph, located("kernel", f"{HOSTILE}\n# a heading"), HERE)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix in (".npy", ".raw")]
    assert len(files) == 5
    assert all(outer / "pack" in path.parents for path in files)
    lines = (outer / "pack" / "README.md").read_text().splitlines()
    assert "- `../../evil/'code' <b> # a heading`" in lines
    assert not any(line.startswith("# a heading") for line in lines)
    rows = [line for line in lines if line.startswith("|") and "GELU" in line]
    assert {(row.count("|"), row.count("`") % 2) for row in rows} == {(7, 0)}
    assert replay(outer / "pack")[0] == 0


def whole(given: Blame) -> Piece:
    """The whole graph as a piece: where nothing smaller is taken."""
    run = given.case.run

    def all_of_it(model: bytes, inputs: Arrays) -> Ran:
        smaller = model != bytes(given.case.graph.data)
        return Ran({}, False, "refused: a piece") if smaller else run(model, inputs)

    case = Case(given.case.graph, given.case.inputs, all_of_it, MEASURED, NOISE)
    piece = found(Blame(case, given.operators, "kernel", {}))
    assert piece.extent == "graph"
    return piece


# The program


def test_the_program_fails_again(pack: Path) -> None:
    code, told = replay(pack)
    assert code == 1, told
    assert "WRONG on cpu; recorded: converter: relative L2 0.5" in told
    assert "elements are off by more than" in told
    assert "[0, 0]:" in told


def test_the_program_says_when_it_is_right(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    given = blame(graph, cpu(tmp_path, tensor="gelu1", spoil=halved), "gelu1", profile=FLOAT32)
    write_pack(tmp_path / "pack", found(given), graph, located(), HERE)
    code, told = replay(tmp_path / "pack")
    assert (code, "right on cpu" in told, "other bits than recorded" in told) == (0, True, True), told


def rewritten(pack: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((pack / "repro.json").read_text())
    change(record)
    (pack / "repro.json").write_text(json.dumps(record))


def test_every_file_of_a_tampered_pack_is_told(pack: Path) -> None:
    for file in Repro.read(pack / "repro.json").files:
        if file == "run.py":
            continue
        before = (pack / file).read_bytes()
        (pack / file).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        code, told = replay(pack)
        assert (code, f"{file!r} has not the recorded sha256" in told) == (2, True), told
        (pack / file).write_bytes(before)
    assert replay(pack)[0] == 1


def test_what_is_missing_or_not_listed_is_told(pack: Path) -> None:
    record = Repro.read(pack / "repro.json")
    (truth,) = [out.truth for out in record.outputs.values()][:1]
    kept = (pack / "repro.json").read_text()
    rewritten(pack, lambda each: each["files"].pop(truth))
    assert replay(pack)[0] == 2
    (pack / "repro.json").write_text(kept)
    (pack / truth).unlink()
    code, told = replay(pack)
    assert (code, "is missing" in told) == (2, True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3, "inputs": {}, "outputs": {}}'])
def test_a_record_that_is_none_is_told_in_a_line(pack: Path, text: str) -> None:
    (pack / "repro.json").write_text(text)
    code, told = replay(pack)
    assert (code, len(told.splitlines()), "Traceback" in told) == (2, 1, False), told


def test_a_file_outside_the_folder_is_not_read(pack: Path) -> None:
    outside = pack.parent / "outside.npy"
    np.save(outside, np.zeros(3, np.float32))
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    rewritten(pack, lambda each: each["files"].update({"../outside.npy": digest}))
    code, told = replay(pack)
    assert (code, "is outside the pack" in told) == (2, True), told


def test_a_pickle_is_not_loaded(pack: Path) -> None:
    file = next(iter(Repro.read(pack / "repro.json").inputs.values())).file
    np.save(pack / file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    digest = hashlib.sha256((pack / file).read_bytes()).hexdigest()
    rewritten(pack, lambda each: each["files"].update({file: digest}))
    code, told = replay(pack)
    assert (code, "allow_pickle=False" in told) == (2, True), told


def test_arrays_that_are_not_the_models_are_told(pack: Path) -> None:
    file = next(iter(Repro.read(pack / "repro.json").inputs.values())).file
    np.save(pack / file, np.zeros((2, 2), np.float32))
    digest = hashlib.sha256((pack / file).read_bytes()).hexdigest()
    rewritten(pack, lambda each: each["files"].update({file: digest}))
    code, told = replay(pack)
    assert (code, "the model takes" in told) == (2, True), told


def test_a_device_that_is_not_there_is_neither_wrong_nor_right(pack: Path) -> None:
    code, told = replay(pack, "--device", "gpu", VK_DRIVER_FILES="/nonexistent.json")
    assert (code, "not run: gpu: no such device here" in told) == (3, True), told


def test_without_the_runtime_it_says_what_to_install(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden" / "ai_edge_litert").mkdir(parents=True)
    (tmp_path / "hidden" / "ai_edge_litert" / "__init__.py").touch()
    code, told = replay(pack, PYTHONPATH=str(tmp_path / "hidden"))
    assert (code, "pip install ai-edge-litert numpy" in told) == (3, True), told


def test_a_precision_that_python_cannot_ask_for_is_told(pack: Path) -> None:
    rewritten(pack, lambda each: each["device"].update(accelerator="gpu", precision="fp16-accumulate-fp32"))
    code, told = replay(pack)
    assert (code, "cannot be asked for fp16-accumulate-fp32" in told) == (3, True), told


def test_the_program_needs_litert_and_numpy_alone(pack: Path) -> None:
    tree = ast.parse((pack / "run.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in names}
    assert tops - set(sys.stdlib_module_names) == {"ai_edge_litert", "numpy"}


# For LiteRT's accuracy_debugger


@pytest.mark.parametrize("extent", ["piece", "graph"])
def test_the_debugger_finds_its_inputs_by_the_names_of_tensors(tmp_path: Path, extent: str) -> None:
    """As its source does: one cut-out up to the boundary, whose signature has the tensors' names; a file for each."""
    graph = graph_of(network(), tmp_path)
    given = blame(graph, device(tmp_path, tensor="sum2", spoil=halved), "sum2")
    piece = found(given) if extent == "piece" else whole(given)
    record = write_pack(tmp_path / "pack", piece, graph, located(), HERE)
    model = (tmp_path / "pack" / record.debugger.model).read_bytes()
    plain, before = parsed(model), parsed(piece.model)
    assert [op.name for op in plain.main.operators] == [op.name for op in before.main.operators]
    island = [op.index for op in plain.main.operators if record.debugger.boundary in result_names(plain, op.index)]
    assert island == [len(plain.main.operators) - 1]
    assert {plain.main.tensors[index].name for index in plain.main.inputs} == set(dict(plain.signature().inputs))
    raw = {}
    for name, index in plain.signature().inputs:
        tensor = plain.main.tensors[index]
        content = (tmp_path / "pack" / record.debugger.inputs / f"{tensor.name}.raw").read_bytes()
        raw[name] = np.frombuffer(content, "<f4").reshape(tensor.shape)
    outputs = cpu(tmp_path)(model, raw).outputs
    for name, array in cpu(tmp_path)(piece.model, piece.inputs).outputs.items():
        assert outputs[name].tobytes() == array.tobytes()
    assert f"--boundary_tensors={record.debugger.boundary}" in (tmp_path / "pack" / "README.md").read_text()


def result_names(graph: Graph, operator: int) -> list[str]:
    return [graph.main.tensors[index].name for index in graph.main.operators[operator].outputs]
