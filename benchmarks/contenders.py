"""One contender of emulation.py that runs a .tflite, measured: prints a line of JSON.

python benchmarks/contenders.py MODEL gpu REPEATS, or MODEL PATH PROFILE REPEATS
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.profile import load_profile
from fidelity.devices.discovery import resolve
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.models.input_contract import InputContract
from fidelity.models.inputs import load_inputs
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph

IMAGES = Path(__file__).parent.parent / "golden" / "images"


def main() -> None:
    model, *which, repeats = sys.argv[1:]
    if which == ["gpu"]:
        print(json.dumps(on_gpu(Path(model), int(repeats))))
        return
    path, profile = which
    with compiled.on_path(None if path == "numpy" else path):
        print(json.dumps(timed(emulated(Path(model), profile), int(repeats))))


def timed(run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Seconds of the first run, with all that it prepares, and of the best later one; this process's peak memory."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": seconds[0], "later": min(seconds[1:]), "peak": peak}


def photograph(shape: tuple[int, ...]) -> NDArray[np.float32]:
    batch, channels, height, width = shape
    contract = InputContract(shape=(batch, channels, height, width), mean=(0.5,) * 3, std=(0.5,) * 3)
    return load_inputs(IMAGES, contract, seed=0).arrays["astronaut"]


def inputs_of(model: Path) -> Mapping[str, NDArray[Any]]:
    graph = read_graph(model)
    ((name, index),) = graph.signature().inputs
    return {name: photograph(graph.main.tensors[index].shape)}


def emulated(model: Path, profile: str) -> Callable[[], object]:
    inputs = inputs_of(model)
    emulator = Emulator(read_graph(model), load_profile(profile))

    def run() -> None:
        result = emulator.run(inputs)
        if result.missing or result.unreached:
            raise SystemExit(f"{len(result.missing)} operators cannot be computed: {result.missing[:1]}")

    return run


def on_gpu(model: Path, repeats: int) -> dict[str, float]:
    """The worker's own times; the first run compiles shaders, unless the driver has them from before."""
    device, given = resolve("gpu"), inputs_of(model)
    with tempfile.TemporaryDirectory() as folder:
        runs = {str(number): given for number in range(repeats + 1)}
        prepare_job(Path(folder), model, runs, device="gpu")
        result = run_job(Path(folder), device)
    timing = result.timing
    if result.status != "ok" or timing is None or timing.steady is None:
        raise SystemExit(f"{result.status}: {result.error}")
    peak = (result.peak_memory_bytes or 0) / 2**20
    return {"first": timing.compile + timing.first, "later": timing.steady, "peak": peak}


if __name__ == "__main__":
    main()
