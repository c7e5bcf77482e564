"""Writes a repro pack: a folder that shows one fault with one command, for whoever mends it.

model.tflite  run.py  README.md  repro.json
inputs/ truth/ expected/ actual/   one .npy a tensor
accuracy_debugger/                 the model and inputs/*.raw as LiteRT's own tool reads them
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Literal

from fidelity.devices.tensor_files import safe_name
from fidelity.errors import EnvironmentMissing
from fidelity.localisation.records import Kind, Located
from fidelity.localisation.repro.debugger import READ_AT, for_debugger
from fidelity.localisation.repro.piece import Extent, Piece
from fidelity.localisation.repro.words import LIMITS, readme, summary
from fidelity.npy import npy_bytes
from fidelity.record import Figure, Record
from fidelity.tflite.fingerprint import file_sha256
from fidelity.tflite.structure import Graph

MODEL, RECORD, README, PROGRAM = "model.tflite", "repro.json", "README.md", "run.py"
DEBUGGER = "accuracy_debugger"


class PackedOperator(Record):
    """One operator of the piece, by its index in the whole graph. Tensors are in words: dtype, shape, constant or not;
    `results` are the names that the whole graph has for what it writes."""

    operator: int
    name: str
    options: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    results: tuple[str, ...]


class Device(Record):
    """Where it was seen, in words. `versions` are of what ran it: the runtime, its accelerator."""

    name: str
    driver: str | None
    accelerator: Literal["cpu", "gpu"]
    precision: str
    versions: dict[str, str]


class PackedInput(Record):
    """One input: the tensor's name in the whole graph, and the file of its value."""

    tensor: str
    dtype: str
    shape: tuple[int, ...]
    file: str


class PackedOutput(Record):
    """One output: files of what it should be, must be under the device's arithmetic, and was; relative L2 errors of the
    last two against the first, and the largest that is allowed."""

    tensor: str
    dtype: str
    shape: tuple[int, ...]
    truth: str
    expected: str
    actual: str
    error: Figure
    error_expected: Figure
    allowed: Figure


class Debugger(Record):
    """The same for LiteRT's accuracy_debugger, as read at a commit of google-ai-edge/LiteRT."""

    model: str
    inputs: str
    boundary: str
    read_at: str


class Repro(Record):
    """What a pack holds: `inputs` and `outputs` by the model's signature names, `files` with the SHA-256 of each file.

    `extent`: a piece that was cut out, the graph up to the fault, or the whole graph. `limit` says where `allowed`
    comes from, `search` what smaller pieces did.
    """

    summary: str
    kind: Kind
    device: Device
    extent: Extent
    operators: tuple[PackedOperator, ...]
    error: Figure
    allowed: Figure
    limit: str
    search: tuple[str, ...]
    evidence: tuple[str, ...]
    cure: str
    artefact_sha256: str
    inputs: dict[str, PackedInput]
    outputs: dict[str, PackedOutput]
    debugger: Debugger
    files: dict[str, str]


def write_pack(folder: Path, piece: Piece, graph: Graph, located: Located, device: Device) -> Repro:
    """The pack of a piece in a new `folder`; the same piece gives the same bytes.

    `graph` is the whole one. Raises EnvironmentMissing where it cannot be written.
    """
    plain = for_debugger(piece.model, piece.inputs)
    debugger = Debugger(
        model=f"{DEBUGGER}/{MODEL}", inputs=f"{DEBUGGER}/inputs", boundary=plain.boundary, read_at=READ_AT
    )
    inputs, outputs = _inputs(piece, graph), _outputs(piece, graph)
    files = {MODEL: piece.model, PROGRAM: _program(), debugger.model: plain.model}
    files |= {each.file: npy_bytes(piece.inputs[name]) for name, each in inputs.items()}
    for name, each in outputs.items():
        files |= {
            each.truth: npy_bytes(piece.truth[name]),
            each.expected: npy_bytes(piece.expected[name]),
            each.actual: npy_bytes(piece.actual[name]),
        }
    files |= {f"{debugger.inputs}/{name}.raw": content for name, content in plain.inputs.items()}
    record = Repro(
        summary=summary(located.kind, piece),
        kind=located.kind,
        device=device,
        extent=piece.extent,
        operators=tuple(_operator(graph, op) for op in piece.operators),
        error=piece.error,
        allowed=piece.allowed,
        limit=LIMITS.get(located.kind, LIMITS["kernel"]),
        search=piece.told,
        evidence=located.evidence,
        cure=located.cure,
        artefact_sha256=file_sha256(graph),
        inputs=inputs,
        outputs=outputs,
        debugger=debugger,
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    )
    files |= {README: readme(record, piece).encode(), RECORD: record.to_json().encode()}
    try:
        folder.mkdir(parents=True)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise EnvironmentMissing(f"{folder}: the repro pack cannot be written: {error.strerror or error}") from error
    return record


def _inputs(piece: Piece, graph: Graph) -> dict[str, PackedInput]:
    return {
        name: PackedInput(
            tensor=graph.main.tensors[piece.tensors[name]].name,
            dtype=str(array.dtype),
            shape=array.shape,
            file=f"inputs/{safe_name(name)}.npy",
        )
        for name, array in sorted(piece.inputs.items())
    }


def _outputs(piece: Piece, graph: Graph) -> dict[str, PackedOutput]:
    return {
        name: PackedOutput(
            tensor=graph.main.tensors[piece.tensors[name]].name,
            dtype=str(array.dtype),
            shape=array.shape,
            truth=f"truth/{safe_name(name)}.npy",
            expected=f"expected/{safe_name(name)}.npy",
            actual=f"actual/{safe_name(name)}.npy",
            error=piece.off[name].error,
            error_expected=piece.off[name].expected,
            allowed=piece.off[name].allowed,
        )
        for name, array in sorted(piece.actual.items())
    }


def _operator(graph: Graph, index: int) -> PackedOperator:
    op, tensors = graph.main.operators[index], graph.main.tensors
    given = [tensors[i] for i in op.inputs if i >= 0]
    return PackedOperator(
        operator=index,
        name=op.name,
        options={key: str(value) for key, value in op.options.items()},
        inputs=tuple(f"{t.dtype} {list(t.shape)}{' constant' if t.is_constant else ''}" for t in given),
        outputs=tuple(f"{tensors[i].dtype} {list(tensors[i].shape)}" for i in op.outputs),
        results=tuple(tensors[i].name for i in op.outputs),
    )


def _program() -> bytes:
    return resources.files("fidelity.localisation.repro").joinpath(PROGRAM).read_bytes()
