"""One PE-Core B/16 forward pass, emulated and not, side by side: seconds, ratios, peak memory.

python benchmarks/emulation.py B16.tflite [--only PART] [--repeats N]

B16.tflite is what `fidelity convert timm:vit_pe_core_base_patch16_224` writes. Contenders: torch in float32 as
the yardstick, the emulation of the file by every compiled path, the software GPU that is emulated, a
mild profile, and pychop (`pip install '.[benchmark]'`) rounding the results of torch's products
alone, the least that an emulation can do. Each runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fidelity.arithmetic import compiled

FOLDER = Path(__file__).parent
DEVICE, MILD = "mldrift-webgpu-lavapipe", "ieee-fp16-storage"
Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--only", default="", help="contenders whose title holds this, beside torch and the GPU")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    model = str(arguments.model.resolve())
    emulated = [(f"emulation, {DEVICE}, {path}", path, DEVICE) for path in reversed(compiled.paths())]
    mild = (f"emulation, {MILD}", compiled.path() or "numpy", MILD)
    contenders = {
        "torch float32": ("torch_contenders.py", "float32"),
        "the software GPU itself": ("contenders.py", model, "gpu"),
        **{title: ("contenders.py", model, path, profile) for title, path, profile in (*emulated, mild)},
        "torch, products rounded by pychop": ("torch_contenders.py", "pychop"),
    }
    print(f"{arguments.model.name}; {compiled.describe()}; load {os.getloadavg()[0]:.1f}")
    print(f"'later' is the best of {arguments.repeats} runs after the first, for the GPU their median")
    found = {
        title: measured(command, arguments.repeats)
        for place, (title, command) in enumerate(contenders.items())
        if place < 2 or arguments.only in title
    }
    print(f"{'first s':>9}{'later s':>9}{'/ torch':>9}{'/ GPU':>8}{'peak MiB':>10}")
    yardsticks = list(found.values())[:2]
    for title, figures in found.items():
        print(f"{row(figures, yardsticks)}  {title}" if "later" in figures else f"{title}: {figures['error']}")


def measured(command: tuple[str, ...], repeats: int) -> Found:
    """What a process of its own says of one contender: its last line, as JSON."""
    script, *arguments = command
    line = [sys.executable, str(FOLDER / script), *arguments, str(repeats)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def row(figures: Found, yardsticks: list[Found]) -> str:
    """Figures and what they are of each yardstick's."""
    ratios = [f"{figures['later'] / base['later']:.2f}" if "later" in base else "-" for base in yardsticks]
    return f"{figures['first']:9.2f}{figures['later']:9.2f}{ratios[0]:>9}{ratios[1]:>8}{figures['peak']:10.0f}"


if __name__ == "__main__":
    main()
