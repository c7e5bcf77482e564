"""No file, however broken or hostile, gets more out of the reader and the audit than BadInput."""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fidelity.errors import BadInput
from fidelity.tflite import flatbuffer
from fidelity.tflite.audit import audit
from fidelity.tflite.graph import read_graph

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_tflite_audit import split, stacked_pairs, strided
from test_tflite_builder import add_and_scale
from test_tflite_graph import varied
from test_tflite_variance import unscaled, variance

SEEDS = [add_and_scale(), varied(), split(3, pick=True), stacked_pairs(2), strided((1, 4, 6, 4), 1, 1, 1, 2)]
SEEDS.append(variance(unscaled))
MUTANTS = 200
SECONDS_A_FILE = 2.0  # a small file takes a millisecond; a machine under load a hundred times that
BYTES_A_FILE = 32 << 20  # what a small file may make the reader allocate; a whole one takes 0.1 MiB


def store(folder: Path, data: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path


def outcome(path: Path) -> str | None:
    """None when a file is read and audited, else its error: one line, of the right kind, in time."""
    started = time.monotonic()
    try:
        audit(path)
        message = None
    except BadInput as error:
        message = str(error)
        assert "\n" not in message
        assert message.startswith(str(path))
        assert len(message) < 600
    assert time.monotonic() - started < SECONDS_A_FILE
    return message


def refusal(path: Path) -> str:
    message = outcome(path)
    assert message is not None
    return message


def test_whole_files_are_read(tmp_path: Path) -> None:
    assert [outcome(store(tmp_path, data)) for data in SEEDS] == [None] * len(SEEDS)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes is too short"),
        (b"TFL3", "4 bytes is too short"),
        (b"# a text file, and not a short one\n" * 100, "not a .tflite file"),
        (bytes(4096), "not a .tflite file"),
        (np.random.Generator(np.random.Philox(key=1)).bytes(4096), "not a .tflite file"),
        (b"\x08\x00\x00\x00TFL3", "damaged or truncated"),
        (b"\x08\x00\x00\x00TFL3" + np.random.Generator(np.random.Philox(key=2)).bytes(4096), "damaged"),
        (b"\xff\xff\xff\xffTFL3" + bytes(4096), "damaged or truncated"),
    ],
)
def test_what_is_no_tflite_file(data: bytes, says: str, tmp_path: Path) -> None:
    assert says in refusal(store(tmp_path, data))


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.tflite")
    assert "not a regular file" in refusal(tmp_path)
    pipe = tmp_path / "pipe.tflite"
    os.mkfifo(pipe)  # opening it would block for ever
    assert "not a regular file" in refusal(pipe)


def test_a_file_cut_anywhere_in_its_weights_or_its_graph_is_refused(tmp_path: Path) -> None:
    """At every length below the whole. Only the last alignment bytes can be missed by no one."""
    for data in SEEDS[:2]:
        accepted = [n for n in range(len(data)) if outcome(store(tmp_path, data[:n])) is None]
        assert all(data[n:].strip(b"\x00") == b"" for n in accepted)


def mutants() -> Iterator[bytes]:
    """1 to 8 random bytes changed; a counter-based generator, so the same ones on every machine."""
    for number in range(MUTANTS):
        random = np.random.Generator(np.random.Philox(key=number))
        data = bytearray(SEEDS[number % len(SEEDS)])
        for _ in range(int(random.integers(1, 9))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        yield bytes(data)


def test_random_mutants_raise_nothing_but_bad_input(tmp_path: Path) -> None:
    outcomes = [outcome(store(tmp_path, data)) for data in mutants()]
    assert any(outcomes)
    assert None in outcomes  # a changed weight is a sound file: the mutants reach past the identifier


@pytest.mark.parametrize("value", [0xFFFFFFFF, 0x7FFFFFFF, 0x00FFFFFF, 0x00010000, 0])
def test_every_field_set_to_an_extreme_costs_neither_time_nor_memory(value: int, tmp_path: Path) -> None:
    """Each aligned 32-bit word in turn: lengths, offsets, indices and dimensions are among them."""
    data = varied()
    tracemalloc.start()
    try:
        for offset in range(0, len(data) - 3, 4):
            changed = data[:offset] + value.to_bytes(4, "little") + data[offset + 4 :]
            tracemalloc.reset_peak()
            outcome(store(tmp_path, changed))
            assert tracemalloc.get_traced_memory()[1] < BYTES_A_FILE, f"word at {offset}"
    finally:
        tracemalloc.stop()


def test_a_vector_is_read_only_within_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path, varied())
    monkeypatch.setattr(flatbuffer, "ENTRIES_LIMIT", 20)
    assert "limit of 20 in one file" in refusal(path)
    monkeypatch.setattr(flatbuffer, "ENTRIES_LIMIT", 500_000)
    monkeypatch.setattr(flatbuffer, "TEXT_LIMIT", 16)
    assert "names pass the limit of 16 bytes" in refusal(path)


def test_reading_does_not_touch_the_file(tmp_path: Path) -> None:
    path = store(tmp_path, varied())
    graph = read_graph(path)
    constant = graph.constant(next(t for t in graph.main.tensors if t.is_constant))
    with pytest.raises(ValueError, match="read-only"):
        constant[...] = 0
    assert path.read_bytes() == varied()
