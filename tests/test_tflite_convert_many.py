"""Several models converted in few processes: each has the bytes that it has alone, in whatever company."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_tflite_convert import SAMPLE, small

from fidelity.errors import BadInput
from fidelity.tflite.convert import Wanted, convert, convert_many


def test_each_model_has_the_bytes_that_it_has_alone(tmp_path: Path) -> None:
    wanted = [Wanted(small(largest), SAMPLE, tmp_path / f"{largest:g}.tflite") for largest in (1.0, 2.0, 3.0)]
    stages: list[str] = []
    convert_many(wanted, weights_dtype="float16", processes=2, on_stage=stages.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.tflite", "2.tflite", "3.tflite"]
    assert stages == ["trace 1.tflite", "trace 2.tflite", "trace 3.tflite", "convert 3 models"]
    made = [each.path.read_bytes() for each in wanted]
    assert len(set(made)) == len(made)
    alone = tmp_path / "alone.tflite"  # the second of its process in company
    convert(small(3.0), SAMPLE, alone, weights_dtype="float16")
    assert alone.read_bytes() == made[2]


def test_a_model_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    wanted = [Wanted(small(), SAMPLE, tmp_path / "fine.tflite"), Wanted(small(7e4), SAMPLE, tmp_path / "large.tflite")]
    with pytest.raises(BadInput, match=r"large\.tflite: weight .* passes 65504"):
        convert_many(wanted, weights_dtype="float16")
    assert not (tmp_path / "large.tflite").exists()
