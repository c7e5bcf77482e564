"""`fidelity judge` with what does not fit: one line that names it, exit code 2; a custom operator is a verdict, 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import bare_models

from fidelity.errors import BadInput
from fidelity.gating.bare.entry import parsed_ranges, parsed_shapes

ROOT = Path(__file__).parents[2]


def judge(folder: Path, data: bytes, *options: str) -> subprocess.CompletedProcess[str]:
    path = folder / "bare.tflite"
    path.write_bytes(data)
    return subprocess.run(
        [sys.executable, "-m", "fidelity", "judge", str(path), "--images", str(ROOT / "golden/images"), *options],
        cwd=folder, env={**os.environ, "XDG_CACHE_HOME": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "input 'x' has the dynamic shape [-1, 4]: --shape x=N,4"),
        (("--shape", "x=1,5"), "the file takes [-1, 4] for 'x'"),
        (("--shape", "z=1,4"), "--shape 'z'"),
        (("--shape", "x=1,4", "--input", "n=gone.npy"), "gone.npy"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = judge(tmp_path, bare_models.mixed(), *options)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert words in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["x", "x=", "=1", "x=0", "x=-1,2", "x=1,,2", "x=1e3", "x=99999999999", "x=²"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="--shape"):
        parsed_shapes([text])


@pytest.mark.parametrize("text", ["x=1", "x=2,1", "x=nan,1", "x=0,inf", "x=a,b", "x=1,2,3"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="--range"):
        parsed_ranges([text])


def test_a_custom_operator_is_a_named_refusal(tmp_path: Path) -> None:
    done = judge(tmp_path, bare_models.custom())
    assert done.returncode == 1, done.stderr
    assert "truth rests on nothing" in done.stdout
    assert "op 0 TheirOwn" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_truth_that_is_not_finite_fails(tmp_path: Path) -> None:
    done = judge(tmp_path, bare_models.overflowing(), "--json")
    assert done.returncode == 1, done.stderr
    assert '"rests_on": "disputed"' in done.stdout or "non_finite" in done.stdout


def test_hostile_names_neither_crash_nor_pass_unseen(tmp_path: Path) -> None:
    data = bare_models.image().replace(b"image", b"i\n\x1b[")
    done = judge(tmp_path, data, "--inputs", "random-0")
    assert done.returncode in (1, 2), done.stdout
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_a_device_that_is_not_there_is_3(tmp_path: Path) -> None:
    assert judge(tmp_path, bare_models.image(), "--device", "gpu:none-such").returncode == 3
