"""Runs model.tflite on the recorded inputs and compares it with the recorded truth.

    python run.py [--device gpu|cpu]

Needs ai-edge-litert and NumPy, nothing else. Exit code 1: it is wrong, as recorded. 0: it is right here. 2: the pack is
not as it was recorded. 3: it cannot be run on that device here, which the runtime's own lines above say more of.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]

HERE = Path(__file__).resolve().parent
RECORD, MODEL = "repro.json", "model.tflite"
WRONG, RIGHT, ALTERED, NOT_RUN = 1, 0, 2, 3
SHOWN = 3


class Altered(Exception):
    """The pack is not as it was recorded."""


class NotRun(Exception):
    """There is no such device here, or it does not run the model."""


def main() -> int:
    """Check, run, compare, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), help="the recorded one, if it is not given")
    asked = parser.parse_args().device
    try:
        record = checked()
        device = asked or record["device"]["accelerator"]
        given = {name: array(each["file"]) for name, each in record["inputs"].items()}
        right = {name: array(each["truth"]) for name, each in record["outputs"].items()}
        before = {name: array(each["actual"]) for name, each in record["outputs"].items()}
        allowed = {name: float(each["allowed"]) for name, each in record["outputs"].items()}
        outputs = run(device, record["device"]["precision"], given)
        if set(outputs) != set(right):
            raise Altered(f"the model gives {sorted(outputs)}, recorded are {sorted(right)}")
    except NotRun as error:
        return fail(NOT_RUN, f"not run: {error}")
    except Altered as error:
        return fail(ALTERED, f"altered: {error}")
    except Exception as error:
        return fail(ALTERED, f"the pack cannot be read: {type(error).__name__}: {error}")
    wrong = [name for name in right if told(name, outputs[name], right[name], before[name], allowed[name])]
    print(f"{'WRONG' if wrong else 'right'} on {device}; recorded: {record['summary']}")
    return WRONG if wrong else RIGHT


def fail(code: int, why: str) -> int:
    """One line on stderr."""
    print(" ".join(why.split())[:1000], file=sys.stderr)
    return code


def checked() -> dict[str, Any]:
    """The record, once every file that it names has the bytes that it says."""
    record: dict[str, Any] = json.loads((HERE / RECORD).read_text("utf-8"))
    named = [each["file"] for each in record["inputs"].values()]
    named += [each[kind] for each in record["outputs"].values() for kind in ("truth", "expected", "actual")]
    if unknown := sorted({MODEL, *named} - set(record["files"])):
        raise Altered(f"{unknown[0]!r} has no recorded sha256")
    for name, digest in record["files"].items():
        path = (HERE / name).resolve()
        if HERE not in path.parents:
            raise Altered(f"{name!r} is outside the pack")
        if not path.is_file():
            raise Altered(f"{name!r} is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise Altered(f"{name!r} has not the recorded sha256")
    return record


def array(file: str) -> np.ndarray[Any, Any]:
    """One recorded array."""
    found: np.ndarray[Any, Any] = np.load(HERE / file, allow_pickle=False)
    return found


def run(device: str, precision: str, given: Arrays) -> Arrays:
    """The model's outputs on a device of this machine. The GPU is asked for alone: it takes every node or refuses."""
    if device == "gpu" and precision not in ("default", "fp16", "fp32"):
        raise NotRun(f"the runtime's Python API cannot be asked for {precision}")
    try:
        from ai_edge_litert.compiled_model import (  # noqa: PLC0415 - a missing package is told in a line
            CompiledModel,
            CpuOptions,
            GpuOptions,
            HardwareAccelerator,
            Options,
        )
    except ImportError as error:
        raise NotRun(f"{error}; pip install ai-edge-litert numpy") from error
    options = Options(
        hardware_accelerators=HardwareAccelerator.GPU if device == "gpu" else HardwareAccelerator.CPU,
        cpu_options=CpuOptions(num_threads=2),
        gpu_options=GpuOptions(enforce_f32=precision == "fp32"),
    )
    try:
        model = CompiledModel.from_file(str(HERE / MODEL), options=options)
        if device == "gpu":
            whole = model.is_fully_accelerated()
            print(f"the GPU took {'every node' if whole else 'NOT every node: the CPU computed the others'}")
        return once(model, given)
    except RuntimeError as error:
        raise NotRun(f"{device}: no such device here, or it refuses the model: {error}") from error


def once(model: Any, given: Arrays) -> Arrays:
    """One run of the first signature, read back."""
    key = next(iter(model.get_signature_list()))
    takes, gives = model.get_input_tensor_details(key), model.get_output_tensor_details(key)
    if set(takes) != set(given):
        raise Altered(f"the model takes {sorted(takes)}, recorded are {sorted(given)}")
    buffers = {name: model.create_input_buffer_by_name(key, name) for name in given}
    for name, buffer in buffers.items():
        wanted = (tuple(takes[name]["shape"]), str(np.dtype(takes[name]["dtype"])))
        if (given[name].shape, str(given[name].dtype)) != wanted:
            raise Altered(f"input {name!r} is {given[name].dtype} {given[name].shape}, the model takes {wanted}")
        buffer.write(np.ascontiguousarray(given[name]))
    got = {name: model.create_output_buffer_by_name(key, name) for name in gives}
    model.run_by_name(key, buffers, got)
    found = {}
    for name, buffer in got.items():
        shape, dtype = tuple(gives[name]["shape"]), np.dtype(gives[name]["dtype"])
        count = int(np.prod(shape, dtype=np.int64))
        found[name] = np.asarray(buffer.read(count, dtype), dtype=dtype).reshape(shape)
    return found


def told(
    name: str,
    found: np.ndarray[Any, Any],
    right: np.ndarray[Any, Any],
    before: np.ndarray[Any, Any],
    allowed: float,
) -> bool:
    """Print how far one output is off and its first differing elements; whether it is wrong."""
    if found.shape != right.shape:
        print(f"{name}: shape {found.shape}, right is {right.shape}: WRONG")
        return True
    off = relative_l2(found, right)
    same = found.dtype == before.dtype and found.tobytes() == before.tobytes()
    say = "the recorded bits" if same else "other bits than recorded"
    print(f"{name}: relative L2 {off:.6g}, allowed {allowed:.6g}: {'right' if off <= allowed else 'WRONG'}; {say}")
    if off <= allowed:
        return False
    apart = np.abs(found.astype(np.float64) - right.astype(np.float64))
    # a finite sum that is too large has one element at least that is further off than allowed times the mean square
    most = allowed * float(np.sqrt(np.mean(np.square(right.astype(np.float64)))))
    places = np.argwhere(~(apart <= most))
    print(f"  {len(places)} of {right.size} elements are off by more than {most:.3g}; the first:")
    for place in map(tuple, places[:SHOWN]):
        print(f"  {[int(each) for each in place]}: {found[place]:.8g}, right is {right[place]:.8g}")
    return True


def relative_l2(found: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """|found - right| / |right|, infinite for what is not finite."""
    if not np.isfinite(found).all():
        return float("inf")
    norm = float(np.linalg.norm(right.astype(np.float64)))
    off = float(np.linalg.norm(found.astype(np.float64) - right.astype(np.float64)))
    return off / norm if norm else (0.0 if off == 0 else float("inf"))


if __name__ == "__main__":
    sys.exit(main())
