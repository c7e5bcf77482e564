"""The published failure, made again: the gate names the LayerNorm whose squares overflow, packs it, and is cured.

Massive activations of 900 after block 0, the LayerNorms as PyTorch has them: the software GPU takes every node, and
its embeddings have nothing to do with the image. That the same weights pass with safe_layernorm, test_gate.py has.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fidelity.devices.discovery import Device

pytestmark = [pytest.mark.gpu_device, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
MEASURED = "llvmpipe Mesa 25."  # the driver that a profile is shipped for
STOCK = "split_qkv,rotate_half,pool_one_query"
CONFIG = """
source = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"
weights = "massive:900@0"
images = "{images}"
only = ["astronaut", "gravel", "hubble-deep-field"]
[[runs]]
label = "cpu fp16 weights"
device = "cpu"
weights_dtype = "float16"
[[runs]]
label = "gpu fp16"
device = "{device}"
weights_dtype = "float16"
"""


def gate(folder: Path, gpu: Device, rewrites: str) -> tuple[int, dict[str, Any], Path]:
    """Exit code, report and run folder of one gate."""
    if MEASURED not in str(gpu.info.driver):
        pytest.skip(f"no profile is shipped for {gpu.info.driver}")
    config = folder / "config.toml"
    config.write_text(CONFIG.format(images=ROOT / "golden/images", device=gpu.spec))
    command = [sys.executable, "-m", "fidelity", "gate", str(config), "--rewrites", rewrites, "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=500)
    assert done.returncode in (0, 1), done.stderr
    latest = (folder / "latest").resolve()
    return done.returncode, json.loads((latest / "report.json").read_text()), latest


def test_the_collapse_is_located_and_packed(gpu: Device, tmp_path: Path) -> None:
    code, report, latest = gate(tmp_path, gpu, STOCK)
    assert code == 1
    (entry,) = report["located"]
    located = entry["located"]
    assert (entry["label"], located["kind"]) == ("gpu fp16", "overflow")
    site = located["overflow"]["site"]
    assert site["name"] == "SQUARED_DIFFERENCE"
    assert site["module"] == "EvaBlock_1.norm1"  # the first LayerNorm behind the block that is massive
    needed = located["overflow"]["needed"]  # the square of what is massive, less the row's mean
    assert 700**2 < needed < 900**2
    assert located["overflow"]["headroom"] == pytest.approx(math.log2(65504 / needed))
    assert "safe_layernorm" in located["cure"]
    assert any(line.startswith("alone with fp32: error ") and line.endswith("right") for line in located["evidence"])
    assert any(row["magnitudes"][0] > 800 for row in located["trace"]["operators"])
    pack = latest / located["pack"]
    on_gpu = subprocess.run([sys.executable, str(pack / "run.py")], env={**os.environ, **gpu.environment}, check=False)
    on_cpu = subprocess.run([sys.executable, str(pack / "run.py"), "--device", "cpu"], check=False)
    assert (on_gpu.returncode, on_cpu.returncode) == (1, 0)
    assert len(json.loads((pack / "repro.json").read_text())["operators"]) == 1
    page = (latest / "index.html").read_text()
    assert "SQUARED_DIFFERENCE" in page
    assert "safe_layernorm" in page
