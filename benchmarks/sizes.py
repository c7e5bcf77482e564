"""What a proof and a prediction cost by the model's size: seconds, seconds per GMAC beside B/16's, peak memory.

python benchmarks/sizes.py FOLDER [--inputs a,b,c] [SIZE ...]

SIZE is T, S, B, L, or SIZE=DEPTH for the first blocks of one (G=4). FOLDER holds the artefacts, SIZE.tflite: one
that is not there is converted first, and timed too. Multiplications are counted in the artefact; G, which is too
large to convert, is proved alone, and what its weights multiply is counted. Each verb runs in processes of its own,
with an empty cache; memory is what all of them hold together, sampled. Seconds of CPU depend less on what else runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from fidelity.models.source import Source
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Operator, Subgraph

MODELS = {
    "T": "tiny_patch16_384",
    "S": "small_patch16_384",
    "B": "base_patch16_224",
    "L": "large_patch14_336",
    "G": "gigantic_patch14_448",
}
PROFILE = "mldrift-webgpu-lavapipe"
_SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Used:
    """What one command and all that it started have used."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sizes", nargs="*", default=["B", "T", "S", "L"])
    parser.add_argument("--inputs", default="astronaut,coffee,black")
    arguments = parser.parse_intermixed_args()
    count = len(arguments.inputs.split(","))
    print(f"{count} inputs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    print("of each verb: seconds, seconds of CPU, GiB; then both per GMAC and input, and as a multiple of B's")
    print(
        f"{'size':5}{'M par':>8}{'GMAC':>8}{'convert':>22}{'prove':>22}{'predict':>22}{'s/GMAC':>14}{'of B':>12}  load"
    )
    base: tuple[float, ...] = ()
    for size in arguments.sizes:
        letter, _, depth = size.partition("=")
        source = f"timm:vit_pe_core_{MODELS[letter]}" + (f"?depth={depth}" if depth else "")
        file = arguments.folder / f"{size}.tflite"
        made = None
        if letter != "G" and not file.is_file():
            made = used("convert", source, "-o", str(file))
        proof = used("prove", source, "--inputs", arguments.inputs)
        predicted = None
        if letter != "G":
            asked = ("--profile", PROFILE, "--reference", source, "--inputs", arguments.inputs)
            predicted = used("predict", str(file), *asked)
        parameters, dense = weights_of(source)
        macs = multiplications(file) if predicted else dense
        both = (proof, predicted) if predicted else (proof,)
        spent = (sum(each.seconds for each in both), sum(each.cpu_seconds for each in both))
        per = tuple(seconds / (macs / 1e9) / count for seconds in spent)
        base = per if size == "B" else base
        ratios = (
            "".join(f"{mine / its:6.2f}" for mine, its in zip(per, base, strict=True)) if base and predicted else "-"
        )
        row = f"{size:5}{parameters / 1e6:8.1f}{macs / 1e9:8.1f}{told(made)}{told(proof)}{told(predicted)}"
        print(f"{row}{per[0]:7.3f}{per[1]:7.3f}{ratios:>12}  {os.getloadavg()[0]:.1f}", flush=True)


def told(used: Used | None) -> str:
    """Seconds, seconds of CPU, GiB."""
    if used is None:
        return f"{'-':>22}"
    return f"{used.seconds:9.1f}{used.cpu_seconds:8.1f}{used.peak_bytes / 2**30:5.1f}"


def used(*command: str) -> Used:
    """Run a verb with an empty cache. Raises RuntimeError, with what it said, unless it gives a verdict."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache}
        line = [sys.executable, "-m", "fidelity", *command]
        started, before, peak = time.monotonic(), cpu_of_children(), 0
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(line, env=environment, stdout=said, stderr=said)
            while process.poll() is None:
                peak = max(peak, held(process.pid))
                time.sleep(_SAMPLE_SECONDS)
            seconds = time.monotonic() - started
            if process.returncode not in (0, 1):
                said.seek(0)
                raise RuntimeError(f"{' '.join(command)}: {said.read()[-300:].decode(errors='replace')}")
        return Used(seconds, cpu_of_children() - before, peak)


def cpu_of_children() -> float:
    """Seconds of CPU of every process that was started here and has ended, and of theirs."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def held(pid: int) -> int:
    """Resident bytes of a process and all that it started."""
    total = 0
    try:
        every = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for each in every:
        try:
            total += each.memory_info().rss
        except psutil.Error:
            continue
    return total


def weights_of(source: str) -> tuple[int, int]:
    """Parameters of a source, and multiplications of an image by the matrices among them alone."""
    script = (
        "import json, sys, torch\n"
        "from fidelity.models.source import Source\n"
        "with torch.device('meta'): model = Source.parse(sys.argv[1]).build()\n"
        "tokens = model.patch_embed.num_patches + model.num_prefix_tokens\n"
        "dense = sum(p.numel() for n, p in model.named_parameters() if p.ndim >= 2 and 'embed' not in n)\n"
        "print(json.dumps([sum(p.numel() for p in model.parameters()), tokens * dense]))\n"
    )
    Source.parse(source)
    done = subprocess.run([sys.executable, "-c", script, source], capture_output=True, text=True, check=True)
    parameters, dense = json.loads(done.stdout)
    return int(parameters), int(dense)


def multiplications(file: Path) -> int:
    """Multiplications and additions of the products of an artefact, for one image."""
    graph = read_graph(file).main
    return sum(products(graph, op) for op in graph.operators)


def products(graph: Subgraph, op: Operator) -> int:
    """Terms that one operator multiplies and sums: elements of its output, times those of a sum."""
    outputs = math.prod(graph.tensors[op.outputs[0]].shape) if op.outputs else 0
    if op.name == "FULLY_CONNECTED":
        return outputs * graph.tensors[op.inputs[1]].shape[-1]
    if op.name == "BATCH_MATMUL":
        return outputs * graph.tensors[op.inputs[0]].shape[-2 if op.options.get("adj_x") else -1]
    if op.name == "CONV_2D":
        return outputs * math.prod(graph.tensors[op.inputs[1]].shape[1:])
    return 0


if __name__ == "__main__":
    main()
