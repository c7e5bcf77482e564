"""A repro pack is the smallest piece that fails, and a program that says so again, or that it is mended."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fidelity.arithmetic.profile import load_profile
from fidelity.errors import EnvironmentMissing
from fidelity.faults.plant import planted
from fidelity.locate.emulations import emulated, parsed
from fidelity.locate.locate import Answer, Where, locate
from fidelity.locate.on_device import Arrays, Ran, RunModel
from fidelity.locate.pack.piece import Blame, Piece, smallest
from fidelity.locate.pack.write import Device, Repro, write_pack
from fidelity.locate.pieces import Case
from fidelity.locate.taps import tappable
from fidelity.tflite.structure import Graph

sys.path.insert(0, str(Path(__file__).parent))
from test_locate import GOOD, MEASURED, X, cpu, device, graph_of, negated, network, shifted

HERE = Device(
    name="a device", driver=None, accelerator="cpu", precision="default", versions={"ai-edge-litert": "2.3.0"}
)


def answered(graph: Graph, run: RunModel, folder: Path) -> Answer:
    where = Where("a device", run, cpu(folder), profile_of=lambda _: MEASURED)
    return locate(graph, {"x": X}, where, GOOD, name="noise")


def piece_of(answer: Answer) -> Piece | None:
    assert answer.case is not None
    return smallest(Blame(answer.case, answer.operators, answer.located.kind, answer.truth))


def large_only(least: int) -> Callable[[Graph], bool]:
    return lambda graph: len(graph.main.operators) >= least


@pytest.mark.parametrize("tensor", ["product0", "gelu1", "scaled2", "sum2"])
def test_a_kernel_is_packed_alone(tmp_path: Path, tensor: str) -> None:
    graph = graph_of(network(), tmp_path)
    answer = answered(graph, device(tmp_path, tensor=tensor, spoil=negated), tmp_path)
    piece = piece_of(answer)
    assert piece is not None
    assert [graph.main.tensors[graph.main.operators[op].outputs[0]].name for op in piece.operators] == [tensor]
    assert piece.error == pytest.approx(2, rel=1e-2)
    assert piece.allowed < 0.01


@pytest.mark.parametrize("least", [2, 3])
def test_what_fails_only_with_its_neighbours_is_packed_with_them(tmp_path: Path, least: int) -> None:
    graph = graph_of(network(), tmp_path)
    run = device(tmp_path, tensor="gelu2", spoil=shifted, when=large_only(least))
    answer = answered(graph, run, tmp_path)
    assert answer.located.kind == "layout-or-fusion"
    piece = piece_of(answer)
    assert piece is not None
    assert len(piece.operators) == least
    names = [graph.main.tensors[graph.main.operators[op].outputs[0]].name for op in piece.operators]
    assert "gelu2" in names


def test_what_fails_only_in_a_large_graph_is_packed_with_as_much_of_it(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    run = device(tmp_path, tensor="gelu3", spoil=shifted, when=large_only(len(graph.main.operators) - 5))
    answer = answered(graph, run, tmp_path)
    piece = piece_of(answer)
    assert piece is not None
    names = [graph.main.tensors[graph.main.operators[op].outputs[0]].name for op in piece.operators]
    assert "gelu3" in names
    assert len(names) >= len(graph.main.operators) - 5


def test_where_nothing_fails_by_itself_there_is_no_pack(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    case = Case(graph, {"x": X}, device(tmp_path), MEASURED, 2.0**-11)
    assert smallest(Blame(case, (5,), "kernel", {})) is None


def test_an_overflow_is_packed_though_its_arithmetic_must_have_it(tmp_path: Path) -> None:
    graph = graph_of(network(gain=400.0), tmp_path)
    answer = answered(graph, device(tmp_path), tmp_path)
    assert answer.located.overflow is not None
    piece = piece_of(answer)
    assert piece is not None
    assert piece.operators == (answer.located.overflow.site.operator,)
    assert piece.error == np.inf
    assert any(np.isinf(array).any() for array in piece.actual.values())
    assert all(np.isfinite(array).all() for array in piece.truth.values())


def test_a_conversion_is_packed_with_what_it_should_have_been(tmp_path: Path) -> None:
    right = graph_of(network(), tmp_path)
    values = emulated(right, tappable(right), {"x": X}, load_profile("ieee-fp32")).values
    model = planted(bytes(right.data), "gelu1", "wrong_scale", 0)
    assert model is not None
    wrong = parsed(model)
    by_name = {right.main.tensors[index].name: array for index, array in values.items()}
    truth = {t.index: by_name[t.name] for t in wrong.main.tensors if t.name in by_name}
    case = Case(wrong, {"x": X}, cpu(tmp_path), load_profile("ieee-fp32"), 2.0**-11)
    blamed = next(op.index for op in wrong.main.operators if wrong.main.tensors[op.outputs[0]].name == "gelu1")
    piece = smallest(Blame(case, (blamed,), "converter", truth))
    assert piece is not None
    assert piece.error == pytest.approx(0.5, rel=1e-3)
    assert len(piece.operators) <= 3


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack whose device is LiteRT on this CPU, and whose model really is wrong there: the fault is in its file."""
    graph = graph_of(network(), tmp_path)

    def run(model: bytes, inputs: Arrays) -> Ran:
        spoilt = planted(model, "product2", "wrong_sign", 0)
        return cpu(tmp_path)(spoilt or model, inputs)

    where = Where("a device", run, cpu(tmp_path), profile_of=lambda _: load_profile("ieee-fp32"))
    answer = locate(graph, {"x": X}, where, GOOD, name="noise")
    piece = piece_of(answer)
    assert piece is not None
    spoilt = planted(piece.model, "product2", "wrong_sign", 0)
    folder = tmp_path / "pack"
    packed = Piece(**{**vars(piece), "model": spoilt})
    write_pack(folder, packed, graph, answer.located, HERE)
    return folder


def replay(folder: Path, *options: str) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, str(folder / "run.py"), *options]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def test_the_program_finds_it_wrong_again(pack: Path) -> None:
    code, told = replay(pack)
    assert code == 1
    assert "WRONG on cpu; recorded: kernel" in told
    assert "relative L2 2" in told


def test_the_program_says_when_it_is_mended(pack: Path) -> None:
    record = json.loads((pack / "repro.json").read_text())
    (name,) = record["truth"].values()
    mended = planted((pack / "model.tflite").read_bytes(), "product2", "wrong_sign", 0)
    assert mended is not None
    (pack / "model.tflite").write_bytes(mended)  # minus one times minus one
    record["files"]["model.tflite"] = hashlib.sha256(mended).hexdigest()
    (pack / "repro.json").write_text(json.dumps(record))
    code, told = replay(pack)
    assert (code, "right on cpu" in told) == (0, True), told
    assert name in record["files"]


def test_a_file_that_was_changed_is_not_believed(pack: Path) -> None:
    path = pack / "model.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, told = replay(pack)
    assert code == 2
    assert "model.tflite: altered" in told


def test_a_pack_without_its_record_is_told(pack: Path) -> None:
    (pack / "repro.json").write_text("{")
    code, told = replay(pack)
    assert code == 2
    assert "cannot be read" in told


def test_the_pack_holds_what_it_says(pack: Path) -> None:
    record = Repro.read(pack / "repro.json")
    assert {op.name for op in record.operators} == {"FULLY_CONNECTED"}
    (name,) = record.inputs
    raw = np.fromfile(pack / "accuracy_debugger" / f"{name}.raw", np.float32)
    assert raw.tobytes() == np.load(pack / record.inputs[name]).tobytes()
    readme = (pack / "README.md").read_text()
    for words in ("python run.py", "FULLY_CONNECTED", "accuracy_debugger --model_path", "ai-edge-litert==2.3.0"):
        assert words in readme


def test_the_same_piece_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    answer = answered(graph, device(tmp_path, tensor="gelu1", spoil=negated), tmp_path)
    for name in ("a", "b"):
        piece = piece_of(answer)
        assert piece is not None
        write_pack(tmp_path / name, piece, graph, answer.located, HERE)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 6
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_names_from_a_file_do_not_break_the_readme(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    answer = answered(graph, device(tmp_path, tensor="gelu1", spoil=negated), tmp_path)
    piece = piece_of(answer)
    assert piece is not None
    hostile = answer.located.model_copy(update={"evidence": ("`</code>\n# <script>alert(1)</script>",)})
    write_pack(tmp_path / "pack", piece, graph, hostile, HERE)
    lines = (tmp_path / "pack" / "README.md").read_text().splitlines()
    assert "- `'</code> # <script>alert(1)</script>`" in lines
    assert not any(line.startswith("# <script>") for line in lines)


def test_a_folder_that_is_there_already_is_not_overwritten(tmp_path: Path) -> None:
    graph = graph_of(network(), tmp_path)
    answer = answered(graph, device(tmp_path, tensor="gelu1", spoil=negated), tmp_path)
    piece = piece_of(answer)
    assert piece is not None
    (tmp_path / "pack").mkdir()
    with pytest.raises(EnvironmentMissing, match="cannot be written"):
        write_pack(tmp_path / "pack", piece, graph, answer.located, HERE)
