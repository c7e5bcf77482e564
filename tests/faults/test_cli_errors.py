"""Every mistake at the command line: one line on stderr, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fidelity.cli import main

TWO_BLOCK = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"
ROOT = Path(__file__).parents[2]
PREDICT = ["predict", "--profile", "mldrift-webgpu-lavapipe"]


def fidelity(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fidelity", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=False,
        timeout=300,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = [line for line in done.stderr.splitlines() if line.startswith("fidelity: ")]
    assert len(last) == 1, done.stderr
    for word in words:
        assert word in last[0]


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artefact") / "two.tflite"
    done = fidelity("convert", TWO_BLOCK, "-o", str(path), "--weights-dtype", "float32")
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("verb", [["audit"], ["run"], ["compare", "--reference", "golden:two-block"], PREDICT])
@pytest.mark.parametrize("content", ["empty", "truncated", "random", "text"])
def test_a_file_that_is_no_model(artefact: Path, tmp_path: Path, verb: list[str], content: str) -> None:
    whole = artefact.read_bytes()
    broken = {
        "empty": b"",
        "truncated": whole[: len(whole) // 3],
        "random": np.random.Philox(7).random_raw(4096).tobytes(),
        "text": b"not a model\n" * 100,
    }[content]
    path = tmp_path / f"{content}.tflite"
    path.write_bytes(broken)
    assert_one_line(fidelity(verb[0], str(path), *verb[1:]), 2, path.name)


def test_a_file_that_is_not_there() -> None:
    assert_one_line(fidelity("audit", "nowhere.tflite"), 2, "nowhere.tflite")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prove", "timm:no_such_model"], ["no_such_model"]),
        (["prove", "vit_pe_core_base_patch16_224"], ["timm:NAME"]),
        (["prove", TWO_BLOCK, "--rewrites", "split_qkv,nonsense"], ["nonsense", "rotate_half"]),
        (["prove", TWO_BLOCK, "--rewrites", "safe_layernorm,row_layernorm"], ["choose one"]),
        (["prove", TWO_BLOCK, "--weights", "trained"], ["trained", "file:PATH"]),
        (["prove", TWO_BLOCK, "--weights", "massive:300@7"], ["block 7", "2 blocks"]),
        (["prove", TWO_BLOCK, "--inputs", "astronaut,dog"], ["dog", "astronaut"]),
        (["prove", TWO_BLOCK, "--images", "nowhere"], ["nowhere"]),
        (["gate", "--policy", "nowhere.toml"], ["nowhere.toml"]),
        (["gate", "nowhere.toml"], ["nowhere.toml"]),
        (["gate", "--device", "tpu"], ["tpu"]),
        (["gate", "--from", "nowhere"], ["nowhere", "stored run"]),
        (["golden", "verify", "nothing"], ["nothing", "two-block"]),
        (["gate", "--profile", "nothing"], ["nothing", "mldrift-webgpu-lavapipe"]),
        (["gate", "--from", "nowhere", "--profile", "ieee-fp32"], ["--from", "leave --profile out"]),
        (["predict", TWO_BLOCK], ["--profile", "mldrift-webgpu-lavapipe"]),
        (["predict", TWO_BLOCK, "--profile", "nothing"], ["nothing", "neither a file nor a shipped profile"]),
        (["predict", TWO_BLOCK, "--profile", "ieee-fp32", "--policy", "nowhere.toml"], ["nowhere.toml"]),
        (["predict", TWO_BLOCK, "--profile", "ieee-fp32", "--input", "x.npy"], ["--input", "FILE"]),
        (["predict", TWO_BLOCK, "--sweep"], ["--profile"]),
        (["predict", "nowhere.tflite", "--profile", "ieee-fp32"], ["nowhere.tflite"]),
        (["predict", "nowhere.json"], ["nowhere.json"]),
        (["prove"], ["source"]),
        (["run", "--precision", "fp8", "x.tflite"], ["fp8"]),
        (["frobnicate"], ["frobnicate"]),
    ],
)
def test_bad_usage_and_bad_names(
    arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which imports PyTorch once; what a process of its own ends with, the other tests show."""
    monkeypatch.setattr(sys, "argv", ["fidelity", *arguments])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert_one_line(subprocess.CompletedProcess(arguments, int(ended.value.code or 0), told.out, told.err), 2, *words)


def test_inputs_that_do_not_fit(artefact: Path, tmp_path: Path) -> None:
    shape = (1, 3, 64, 64)
    nan = np.zeros(shape, dtype=np.float32)
    nan[0, 0, 3, 3] = np.nan
    wrong = {
        "nan": (nan, ["NaN"]),
        "shape": (np.zeros((1, 3, 32, 32), dtype=np.float32), ["(1, 3, 64, 64)"]),
        "dtype": (np.zeros(shape, dtype=np.float64), ["float64"]),
    }
    for name, (array, words) in wrong.items():
        np.save(tmp_path / f"{name}.npy", array)
        for verb in (["run"], PREDICT):
            done = fidelity(*verb, str(artefact), "--input", str(tmp_path / f"{name}.npy"))
            assert_one_line(done, 2, f"{name}.npy", *words)
    (tmp_path / "text.npy").write_text("no array")
    assert_one_line(fidelity("run", str(artefact), "--input", str(tmp_path / "text.npy")), 2, "text.npy")


def test_a_reference_of_another_model(artefact: Path) -> None:
    other = fidelity("compare", str(artefact), "--reference", TWO_BLOCK, "--seed", "1")
    assert_one_line(other, 2, "weights", "another model")


def test_a_prediction_against_another_model_or_of_an_unknown_input(artefact: Path) -> None:
    other = fidelity(*PREDICT, str(artefact), "--reference", TWO_BLOCK, "--seed", "1")
    assert_one_line(other, 2, "weights", "another model")
    unknown = fidelity(*PREDICT, str(artefact), "--reference", "golden:two-block", "--inputs", "dog")
    assert_one_line(unknown, 2, "dog", "astronaut")


def test_a_profile_with_an_unknown_operation(artefact: Path, tmp_path: Path) -> None:
    shipped = ROOT / "fidelity/arithmetic/profiles/ieee-fp32.json"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(shipped.read_text().replace('"EXP"', '"EXPP"'))
    assert_one_line(fidelity("predict", str(artefact), "--profile", str(wrong)), 2, "wrong.json", "EXPP")


def test_a_prediction_is_one_document_and_is_judged_again_from_it(artefact: Path, tmp_path: Path) -> None:
    done = fidelity(*PREDICT, str(artefact), "--reference", "golden:two-block", "--json", "--inputs", "astronaut")
    assert done.returncode == 1, done.stderr  # one input: nearest neighbours cannot be judged
    stored = tmp_path / "prediction.json"
    stored.write_text(done.stdout)
    assert json.loads(done.stdout)["expected"]["first_overflow"] is None
    again = fidelity("predict", str(stored), "--json")
    assert (again.returncode, again.stdout) == (1, done.stdout)
    stored.write_text(done.stdout.replace('"sites"', '"cites"'))
    assert_one_line(fidelity("predict", str(stored)), 2, "prediction.json", "sites")


def test_an_edited_artefact(artefact: Path, tmp_path: Path) -> None:
    content = bytearray(artefact.read_bytes())
    content[-5000] ^= 1
    path = tmp_path / artefact.name
    path.write_bytes(content)
    manifest = artefact.with_name(f"{artefact.name}.manifest.json")
    path.with_name(manifest.name).write_bytes(manifest.read_bytes())
    assert_one_line(fidelity("compare", str(path), "--reference", "golden:two-block"), 2, "sha256")


def test_a_gpu_where_there_is_none(artefact: Path) -> None:
    none = {"VK_DRIVER_FILES": "/nonexistent.json"}
    assert_one_line(fidelity("run", str(artefact), "--device", "gpu", environment=none), 3, "make software-gpu")
    done = fidelity("doctor", environment=none)
    assert done.returncode == 3
    assert "make software-gpu" in done.stdout


def test_an_adapter_that_is_not_here(artefact: Path) -> None:
    assert_one_line(fidelity("run", str(artefact), "--device", "gpu:mali"), 3, "mali")


def test_no_disk_space_for_the_artefact() -> None:
    """/dev/full accepts an open and fails every write with ENOSPC, as a full disk does."""
    done = fidelity("convert", TWO_BLOCK, "-o", "/dev/full/two.tflite", "--weights-dtype", "float32")
    assert_one_line(done, 3, "/dev/full")


def test_json_is_one_document_and_nothing_else(artefact: Path) -> None:
    done = fidelity("audit", str(artefact), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["passed"] is True
