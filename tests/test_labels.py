"""Label sets: text files in, embeddings with their provenance out, and every way in which a stored one can be wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.models.label_set import LabelRecord, read_label_set, write_label_set
from fidelity.models.prompts import prompt, read_labels, read_templates
from fidelity.npy import npy_bytes

ROWS = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.6, 0.8, 0]])


def stored(folder: Path, rows: np.ndarray = ROWS, **changes: object) -> Path:
    content = npy_bytes(rows)
    fields: dict[str, object] = {
        "model": "open_clip:PE-Core-B-16",
        "weights": "seeded",
        "weights_sha256": "0" * 64,
        "seed": 0,
        "context_length": 32,
        "labels": ("cat", "dog", "car"),
        "templates": ("a photo of a {}.",),
        "versions": {},
        "file": "set.npy",
        "sha256": hashlib.sha256(content).hexdigest(),
        "shape": rows.shape,
    }
    write_label_set(folder / "set.json", LabelRecord.model_validate(fields), content)
    if changes:
        raw = json.loads((folder / "set.json").read_text())
        (folder / "set.json").write_text(json.dumps({**raw, **changes}))
    return folder / "set.json"


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as refused:
        read_label_set(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_set_is_read_back_to_the_bit(tmp_path: Path) -> None:
    found = read_label_set(stored(tmp_path))
    assert found.embeddings.tobytes() == ROWS.tobytes()
    assert (found.dimension, found.record.labels) == (3, ("cat", "dog", "car"))
    found.check_fits(np.zeros((1, 3)), "golden:x")
    with pytest.raises(BadInput, match="3 components by open_clip:PE-Core-B-16, golden:x has 4"):
        found.check_fits(np.zeros((1, 4)), "golden:x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["cat", "dog", "cat"]}, "'cat' is listed twice"),
        ({"labels": ["cat"]}, "labels"),
        ({"labels": ["cat", "dog"]}, "for 2 labels"),
        ({"templates": ["a photo"]}, "has no {}"),
        ({"templates": []}, "templates"),
        ({"shape": [3, 4]}, "the record says (3, 4)"),
        ({"sha256": "1" * 64}, "altered"),
        ({"file": "../set.npy"}, "file"),
        ({"file": "/etc/set.npy"}, "file"),
        ({"file": "nowhere.npy"}, "cannot be read"),
        ({"dtype": "float32"}, "dtype"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_record(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(stored(tmp_path, **changes))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.where(ROWS == 0.8, np.nan, ROWS), "'car' holds NaN"),
        (np.where(ROWS == 0.8, np.inf, ROWS), "'car' holds NaN or Inf"),
        (ROWS * 1.001, "not of norm 1"),
        (np.zeros_like(ROWS), "not of norm 1"),
        (ROWS[[0, 1, 0]], "'cat' and 'car' have one embedding"),
        (ROWS.astype(np.float32), "not a float64 array"),
    ],
)
def test_wrong_embeddings(tmp_path: Path, rows: np.ndarray, words: str) -> None:
    assert words in refusal(stored(tmp_path, rows))


def test_a_byte_changed_and_files_that_are_none(tmp_path: Path) -> None:
    path = stored(tmp_path)
    content = bytearray((tmp_path / "set.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "set.npy").write_bytes(content)
    assert "altered: sha256" in refusal(path)
    pickled = b"\x80\x04N."
    (tmp_path / "set.npy").write_bytes(pickled)
    raw = {**json.loads(path.read_text()), "sha256": hashlib.sha256(pickled).hexdigest()}
    path.write_text(json.dumps(raw))
    assert "not a .npy array" in refusal(path)
    assert "cannot be read" in refusal(tmp_path / "nothing.json")
    path.write_text("cat\ndog\n")
    assert "set.json" in refusal(path)


def test_labels_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\n\n  traffic   light \n", "utf-8")
    assert read_labels(path) == ("cat", "traffic light")
    for text, words in (
        ("", "holds 0 label"),
        ("cat\n", "holds 1 label"),
        ("cat\ndog\ncat \n", "'cat' is listed twice"),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(BadInput, match=words):
            read_labels(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        read_labels(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_labels(tmp_path / "nowhere.txt")


def test_templates(tmp_path: Path) -> None:
    assert read_templates("simple") == ("a photo of a {}.",)
    path = tmp_path / "templates.txt"
    path.write_text("art of the {}.\n{} and {}\n", "utf-8")
    assert read_templates(str(path)) == ("art of the {}.", "{} and {}")
    assert prompt("{} and {0.__class__} {}", "cat {}") == "cat {} and {0.__class__} cat {}"
    for text, words in (("", "empty"), ("a photo\n", "has no {}"), ("a {}\na {}\n", "listed twice")):
        path.write_text(text, "utf-8")
        with pytest.raises(BadInput, match=words):
            read_templates(str(path))
    with pytest.raises(BadInput, match="not one of simple, imagenet"):
        read_templates("everything")


def test_nothing_is_written_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    found = read_label_set(stored(tmp_path))
    with pytest.raises(EnvironmentMissing, match="cannot be written"):
        write_label_set(tmp_path / "taken" / "set.json", found.record, npy_bytes(ROWS))
