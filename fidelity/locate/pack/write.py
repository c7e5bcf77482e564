"""Writes a repro pack: a folder that shows one fault with one command, for whoever mends it.

model.tflite  inputs/ truth/ expected/ actual/ (.npy)  repro.json  README.md  run.py
accuracy_debugger/  the inputs as LiteRT's own tool reads them
"""

from __future__ import annotations

import hashlib
import io
from importlib import resources
from pathlib import Path
from typing import Literal

import jinja2
import numpy as np

from fidelity.errors import EnvironmentMissing
from fidelity.locate.on_device import Array, Arrays
from fidelity.locate.pack.piece import Piece
from fidelity.locate.records import Kind, Located
from fidelity.record import Figure, Record
from fidelity.tflite.fingerprint import file_sha256
from fidelity.tflite.structure import Graph

RECORD, README, PROGRAM = "repro.json", "README.md", "run.py"
DEBUGGER = "accuracy_debugger"


class PackedOperator(Record):
    """One operator of the piece, by its index in the whole graph."""

    operator: int
    name: str
    options: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Device(Record):
    """Where it was seen, in words."""

    name: str
    driver: str | None
    accelerator: Literal["cpu", "gpu"]
    precision: str
    versions: dict[str, str]


class Repro(Record):
    """What a pack holds. Arrays are files by the model's signature names; `files` has the SHA-256 of each."""

    summary: str
    kind: Kind
    device: Device
    accelerator: Literal["cpu", "gpu"]
    precision: str
    operators: tuple[PackedOperator, ...]
    error: Figure
    allowed: Figure
    artefact_sha256: str
    inputs: dict[str, str]
    truth: dict[str, str]
    expected: dict[str, str]
    actual: dict[str, str]
    files: dict[str, str]


def write_pack(folder: Path, piece: Piece, graph: Graph, located: Located, device: Device) -> Repro:
    """The pack of a piece in a new `folder`; the same piece gives the same bytes.

    Raises EnvironmentMissing where it cannot be written.
    """
    try:
        return _written(folder, piece, graph, located, device)
    except OSError as error:
        raise EnvironmentMissing(f"{folder}: the repro pack cannot be written: {error.strerror or error}") from error


def _written(folder: Path, piece: Piece, graph: Graph, located: Located, device: Device) -> Repro:
    folder.mkdir(parents=True)
    files = {"model.tflite": piece.model, PROGRAM: _program()}
    named: dict[str, dict[str, str]] = {}
    kinds: dict[str, Arrays] = {
        "inputs": piece.inputs,
        "truth": piece.truth,
        "expected": piece.expected,
        "actual": piece.actual,
    }
    for kind, arrays in kinds.items():
        named[kind] = {name: f"{kind}/{name}.npy" for name in arrays}
        files |= {named[kind][name]: _npy(array) for name, array in arrays.items()}
    files |= {f"{DEBUGGER}/{name}.raw": np.ascontiguousarray(each).tobytes() for name, each in piece.inputs.items()}
    record = Repro(
        summary=f"{located.kind}: relative L2 {piece.error:.4g} against the truth, allowed {piece.allowed:.4g}",
        kind=located.kind,
        device=device,
        accelerator=device.accelerator,
        precision=device.precision,
        operators=tuple(_operator(graph, op) for op in piece.operators),
        error=piece.error,
        allowed=piece.allowed,
        artefact_sha256=file_sha256(graph),
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        **named,
    )
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (folder / README).write_text(_readme(record, located), encoding="utf-8")
    record.write(folder / RECORD)
    return record


def _operator(graph: Graph, index: int) -> PackedOperator:
    op, tensors = graph.main.operators[index], graph.main.tensors
    given = [tensors[i] for i in op.inputs if i >= 0]
    return PackedOperator(
        operator=index,
        name=op.name,
        options={key: str(value) for key, value in op.options.items()},
        inputs=tuple(f"{t.dtype} {list(t.shape)}{' constant' if t.is_constant else ''}" for t in given),
        outputs=tuple(f"{tensors[i].dtype} {list(tensors[i].shape)}" for i in op.outputs),
    )


def _npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def _program() -> bytes:
    return resources.files("fidelity.locate.pack").joinpath(PROGRAM).read_bytes()


def _readme(record: Repro, located: Located) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fidelity.locate.pack", "."),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown; what is untrusted stands in code spans without back-ticks
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text: str = environment.get_template("readme.md").render(repro=record, located=located, code=_code, folder=DEBUGGER)
    return text


def _code(text: object) -> str:
    """Text as a Markdown code span of one line."""
    plain = " ".join(str(text).replace("`", "'").split())
    return f"`{plain}`"
