"""Runs model.tflite on the recorded inputs and compares it with the recorded truth.

    python run.py [--device gpu|cpu]

Needs ai-edge-litert and NumPy, nothing else. Exit code 1: it is wrong, as recorded. 0: it is right here. 2: the files
are not those that were recorded. 3: there is no such device here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run, compare, tell."""
    try:
        record = json.loads((HERE / "repro.json").read_text("utf-8"))
        for name, digest in record["files"].items():
            if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != digest:
                sys.stderr.write(f"{name}: altered: it has not the recorded sha256\n")
                return 2
        given, truth, recorded = (arrays(record, kind) for kind in ("inputs", "truth", "actual"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.stderr.write(f"the pack cannot be read: {error}\n")
        return 2
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), default=record["accelerator"])
    device = parser.parse_args().device
    try:
        outputs = run(device, record["precision"], given)
    except (ImportError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"{device}: it does not run here: {' '.join(str(error).split())[:300]}\n")
        return 3
    wrong = False
    for name, right in truth.items():
        off = relative_l2(outputs[name], right)
        wrong = wrong or not off <= record["allowed"]
        same = outputs[name].tobytes() == recorded[name].tobytes()
        say = "the recorded bits" if same else "other bits than recorded"
        sys.stdout.write(f"{name}: relative L2 {off:.6g}, allowed {record['allowed']:.6g}; {say}\n")
        tell(outputs[name], right)
    sys.stdout.write(f"{'WRONG' if wrong else 'right'} on {device}; recorded: {record['summary']}\n")
    return 1 if wrong else 0


def arrays(record: dict[str, Any], kind: str) -> dict[str, np.ndarray[Any, Any]]:
    """The recorded arrays of one kind, by signature name."""
    return {name: np.load(HERE / file, allow_pickle=False) for name, file in record[kind].items()}


def run(device: str, precision: str, given: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """The model's outputs on a device of this machine, the GPU alone."""
    from ai_edge_litert.compiled_model import (  # noqa: PLC0415 - a missing package is told in a line
        CompiledModel,
        CpuOptions,
        GpuOptions,
        HardwareAccelerator,
        Options,
    )

    options = Options(
        hardware_accelerators=HardwareAccelerator.GPU if device == "gpu" else HardwareAccelerator.CPU,
        cpu_options=CpuOptions(num_threads=2),
        gpu_options=GpuOptions(enforce_f32=precision == "fp32"),
    )
    model = CompiledModel.from_file(str(HERE / "model.tflite"), options=options)
    key = next(iter(model.get_signature_list()))
    wanted = model.get_output_tensor_details(key)
    buffers = {name: model.create_input_buffer_by_name(key, name) for name in given}
    for name, buffer in buffers.items():
        buffer.write(np.ascontiguousarray(given[name]))
    got = {name: model.create_output_buffer_by_name(key, name) for name in wanted}
    model.run_by_name(key, buffers, got)
    found = {}
    for name, buffer in got.items():
        shape, dtype = wanted[name]["shape"], np.dtype(wanted[name]["dtype"])
        count = int(np.prod(shape, dtype=np.int64))
        found[name] = np.asarray(buffer.read(count, dtype), dtype=dtype).reshape(shape)
    return found


def relative_l2(found: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """|found - right| / |right|, infinite for what is not finite."""
    if not np.isfinite(found).all():
        return float("inf")
    norm = float(np.linalg.norm(right.astype(np.float64)))
    off = float(np.linalg.norm(found.astype(np.float64) - right.astype(np.float64)))
    return off / norm if norm else (0.0 if off == 0 else float("inf"))


def tell(found: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> None:
    """The elements that are furthest off."""
    off = np.abs(found.astype(np.float64) - right.astype(np.float64)).reshape(-1)
    off[~np.isfinite(off)] = np.inf
    for place in np.argsort(-off, kind="stable")[:3]:
        where = [int(each) for each in np.unravel_index(place, right.shape)]
        sys.stdout.write(f"  {where}: {found.reshape(-1)[place]:.7g}, right is {right.reshape(-1)[place]:.7g}\n")


if __name__ == "__main__":
    sys.exit(main())
