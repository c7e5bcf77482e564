"""The core imports with the extras hidden: a machine that only judges needs neither torch nor timm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fidelity

ROOT = Path(fidelity.__file__).parent
EXTRAS = (
    *("torch", "torchvision", "timm", "litert_torch", "ai_edge_quantizer", "safetensors"),
    *("open_clip", "dask", "distributed", "hypothesis"),
)
NEEDS_TORCH = {
    "fidelity.arithmetic.torch.aten",
    "fidelity.arithmetic.torch.collapse",
    "fidelity.arithmetic.torch.composites",
    "fidelity.arithmetic.torch.device",
    "fidelity.arithmetic.torch.observed",
    "fidelity.arithmetic.torch.run",
    "fidelity.arithmetic.torch.sweep",
    "fidelity.arithmetic.torch.tensors",
    "fidelity.faults.modules",
    "fidelity.faults.rewrites",
    "fidelity.localisation.torch_nodes",
    "fidelity.models.massive",
    "fidelity.models.passes",
    "fidelity.models.seeded",
    "fidelity.models.seeded_roles",
    "fidelity.models.seeded_text",
    "fidelity.models.text_weights",
    "fidelity.models.label_embeddings",
    "fidelity.models.tower",
    "fidelity.models.trace",
    "fidelity.models.weight_file",
    "fidelity.rewrites.apply",
    "fidelity.rewrites.catalogue",
    "fidelity.rewrites.extremes",
    "fidelity.rewrites.fixed_rope",
    "fidelity.rewrites.parts",
    "fidelity.rewrites.pool_one_query",
    "fidelity.rewrites.prove",
    "fidelity.rewrites.ranked_layer_scale",
    "fidelity.rewrites.rotate_half",
    "fidelity.rewrites.rounding",
    "fidelity.rewrites.safe_grn",
    "fidelity.rewrites.safe_layernorm",
    "fidelity.rewrites.safe_layernorm_2d",
    "fidelity.rewrites.safe_rmsnorm",
    "fidelity.rewrites.side_by_side",
    "fidelity.rewrites.split_qkv",
    "fidelity.rewrites.weights_map",
    "fidelity.selftest.modules",
    "fidelity.tflite.export_program",
}
HIDE = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"hidden: {{name}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def modules() -> list[str]:
    names = (path.relative_to(ROOT.parent).with_suffix("") for path in ROOT.rglob("*.py"))
    found = (".".join(name.parts).removesuffix(".__init__") for name in names)
    return sorted(name for name in found if "conversion_worker" not in name)


def import_hidden(names: list[str]) -> str:
    script = HIDE + "import importlib\nfailed = []\n"
    script += f"for name in {names!r}:\n    try:\n        importlib.import_module(name)\n"
    script += "    except ModuleNotFoundError as error:\n        failed.append(f'{name}: {error}')\nprint(failed)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_module_of_the_core_imports_without_the_extras() -> None:
    core = [name for name in modules() if name not in NEEDS_TORCH]
    assert len(core) > 60
    assert import_hidden(core) == "[]"


@pytest.mark.parametrize("name", ["fidelity.rewrites.prove", "fidelity.models.tower"])
def test_the_hiding_works(name: str) -> None:
    assert "hidden: torch" in import_hidden([name])


def test_a_source_model_without_the_extra_says_what_to_install() -> None:
    script = HIDE + (
        "import sys\nfrom fidelity.cli import main\n"
        "sys.argv = ['fidelity', 'prove', 'timm:vit_pe_core_base_patch16_224']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr
