"""What `fidelity sweep` promises, measured: every image once whatever is killed, constant memory, two workers for two.

python benchmarks/sweep.py FOLDER whole DATA       undisturbed, two workers: rate, and peak memory of each process
python benchmarks/sweep.py FOLDER killed DATA N    killed N times at random (SIGKILL to the group), resumed, compared
python benchmarks/sweep.py FOLDER ratio DATA       one worker, then two: images a second of each, and the ratio

FOLDER holds two.tflite (see docs/sweep.md) and gets the results. `killed` compares with what `whole` left there.
Times of `ratio` are of the chunks alone: a worker's start is the same whatever the data set.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from fidelity.models.counter_random import uniform_integers

TWO_BLOCK = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"
CHUNK = 256
_DONE = re.compile(r"^sweep \d+ images: done in ([\d.]+) s", re.MULTILINE)


def start(folder: Path, data: Path, name: str, workers: int) -> subprocess.Popen[str]:
    """A sweep in a process group of its own."""
    command = [sys.executable, "-m", "fidelity", "sweep", "two.tflite", str(data.resolve()), "--reference", TWO_BLOCK]
    command += ["-o", name, "--workers", str(workers), "--chunk", str(CHUNK)]
    return subprocess.Popen(
        command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def memory(pid: int, peaks: dict[str, int]) -> None:
    """Note the peak resident bytes of the client, of the largest worker and of the largest device job."""
    try:
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            line = " ".join(each.cmdline())
            role = "device job" if "devices.worker" in line or "runner" in line else "worker"
            role = "client" if each.pid == pid else role
            peaks[role] = max(peaks.get(role, 0), each.memory_info().rss)
    except psutil.Error:
        return


def whole(folder: Path, data: Path, name: str, workers: int) -> tuple[float, dict[str, int]]:
    """Seconds of the chunks, and peak memory by role."""
    shutil.rmtree(folder / name, ignore_errors=True)
    process, peaks = start(folder, data, name, workers), {}
    while process.poll() is None:
        memory(process.pid, peaks)
        time.sleep(0.25)
    told = process.stderr.read() if process.stderr else ""
    found = _DONE.search(told)
    if process.returncode != 0 or found is None:
        sys.exit(f"exit {process.returncode}: {told}")
    return float(found[1]), peaks


def killed(folder: Path, data: Path, name: str, times: int) -> list[int]:
    """Kill the whole group `times` times, each when a random number of further chunks is there; then let it end.

    The number of chunks at each kill.
    """
    shutil.rmtree(folder / name, ignore_errors=True)
    chunks, at = folder / name / "chunks", []
    for turn, word in enumerate(uniform_integers(int(time.time()), "sweep.kill", times)):
        process = start(folder, data, name, 2)
        target = len(list(chunks.glob("*.json"))) + 1 + int(word) % 12
        while len(list(chunks.glob("*.json"))) < target and process.poll() is None:
            time.sleep(0.01)
        time.sleep(float(int(word) % 1000) / 1000)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        at.append(len(list(chunks.glob("*.json"))))
        print(f"kill {turn + 1}: {at[-1]} chunks there", flush=True)
    process = start(folder, data, name, 2)
    _, told = process.communicate()
    if process.returncode != 0:
        sys.exit(told)
    return at


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a result but its lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def numbers(folder: Path) -> list[int]:
    """The images' numbers as results.jsonl has them."""
    lines = (folder / "results.jsonl").read_text("utf-8").splitlines()
    return [int(line.split(",", 1)[0].rpartition(":")[2]) for line in lines]


def told(peaks: dict[str, int]) -> str:
    """Peak memory for a person."""
    return ", ".join(f"{role} {size / 2**20:.0f} MiB" for role, size in sorted(peaks.items()))


def main() -> None:
    """See above."""
    folder, part, data = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    if part == "whole":
        seconds, peaks = whole(folder, data, "whole", 2)
        count = len(numbers(folder / "whole"))
        print(f"{count} images in {seconds:.1f} s, {count / seconds:.1f} a second, two workers")
        print(told(peaks))
    elif part == "killed":
        killed(folder, data, "killed", int(sys.argv[4]))
        found, undisturbed = contents(folder / "killed"), contents(folder / "whole")
        rows = numbers(folder / "killed")
        print(f"{len(rows)} rows, each image once and in order: {rows == list(range(len(rows)))}")
        print(f"{len(found)} files, the same bytes as undisturbed: {found == undisturbed}")
    else:
        count, took = 0, {}
        for workers in (1, 2):
            took[workers], peaks = whole(folder, data, f"ratio-{workers}", workers)
            count = len(numbers(folder / f"ratio-{workers}"))
            print(f"{workers} worker(s): {count / took[workers]:.1f} images a second; {told(peaks)}", flush=True)
        same = contents(folder / "ratio-1") == contents(folder / "ratio-2")
        print(f"two over one: {took[1] / took[2]:.2f}; the same bytes: {same}; load before {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
