"""A sweep killed in the middle and started again gives the very bytes of one that was left alone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fidelity.models.counter_random import uniform_integers

TWO_BLOCK = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"
IMAGES = 40
RESULT = ("sweep.json", "results.jsonl", "duplicates.jsonl", "gallery.json", "plan.jsonl", "worst/", "chunks/")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artefact") / "two.tflite"
    command = [sys.executable, "-m", "fidelity", "convert", TWO_BLOCK, "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks of colour, one image twice, one cut."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(IMAGES):
        words = uniform_integers(number % (IMAGES - 1), "sweep.test", 8 * 8 * 3)
        pixels = (words % 256).astype(np.uint8).reshape(8, 8, 3)
        content = io.BytesIO()
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(content, "PNG")
        (folder / f"{number:03d}.png").write_bytes(content.getvalue()[: 60 if number == 5 else None])
    return folder


def start(artefact: Path, data: Path, folder: Path, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fidelity", "sweep", str(artefact), str(data), "--reference", TWO_BLOCK]
    command += ["-o", str(folder), "--chunk", "8", "--workers", str(workers), "--allow-unreadable", "1", "--json"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=folder.parent
    )


def contents(folder: Path) -> dict[str, bytes]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: (folder / name).read_bytes() for name in names if name.startswith(RESULT)}


@pytest.mark.timeout(900)
def test_killed_and_resumed_gives_the_bytes_of_an_undisturbed_run(artefact: Path, data: Path, tmp_path: Path) -> None:
    chunks = tmp_path / "killed/chunks"
    first = start(artefact, data, tmp_path / "killed", workers=1)
    while not list(chunks.glob("*.json")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    made = {path.name: path.stat().st_mtime_ns for path in chunks.glob("*.json")}
    assert 1 <= len(made) < 5
    assert not (tmp_path / "killed/sweep.json").exists()

    again = start(artefact, data, tmp_path / "killed", workers=1)
    alone = start(artefact, data, tmp_path / "alone", workers=2)
    told = [process.communicate(timeout=800) for process in (again, alone)]
    assert [process.returncode for process in (again, alone)] == [0, 0], told
    assert f"{len(made)} of 5 chunks are there already" in told[0][1]
    assert {name: (chunks / name).stat().st_mtime_ns for name in made} == made
    assert told[0][0] == told[1][0] == (tmp_path / "alone/sweep.json").read_text()
    killed, undisturbed = contents(tmp_path / "killed"), contents(tmp_path / "alone")
    assert killed == undisturbed
    assert len(undisturbed["results.jsonl"].splitlines()) == IMAGES
    assert b'"unreadable":"not an image' in undisturbed["results.jsonl"].splitlines()[5]
    assert undisturbed["duplicates.jsonl"].count(b"\n") == 1
    assert len([name for name in killed if name.startswith("worst/")]) == 10
