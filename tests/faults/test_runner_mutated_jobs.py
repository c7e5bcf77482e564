"""500 mutated job.json through the C runner under sanitizers: each ends with a documented code, none is misread.

The same files are read by the harness's own Job: what it refuses, the runner must refuse too. (The runner
may be stricter: it takes no second key of a name, no text for a number.)
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from runner_program import CODES, SANITIZERS, compiled, edit, run
from test_tflite_builder import add_and_scale
from tiny_models import X, job_folder

from fidelity.devices.job import Job, JobResult
from fidelity.devices.precision_probe import probe_model
from fidelity.devices.runner_build import runtime_folder
from fidelity.errors import BadInput

MUTANTS = 500
AT_ONCE = 2
STATUS = {
    0: {"ok"},
    3: {"no_device"},
    4: {"bad_model"},
    5: {"bad_input"},
    6: {"refused"},
    7: {"run_failed", "timeout"},
    8: {"transfer_failed"},
}
NUMBERS = ["-1", "0", "1e400", "-0.0", "9" * 40, "2e9", "9223372036854775807", "9223372036854775808", "1e-400", "1.5"]
NUMBERS += ["0x10", "1e5", "-" + "9" * 5000, "NaN", "Infinity", "true", '"3"', "01", "+1", ".5", "1e+"]
VALUES = ["null", "true", "{}", "[]", '""', '"\\u0000"', '"\\ud83d"', '"\\ud83d\\ude00"', "[[]]", '{"a": {}}', "-"]
PATHS = ["", ".", "..", "/", "//", "/etc/passwd", "../model.tflite", "a/../../b", "inputs/..", "./.", "model.tflite/x"]
PATHS += ["job.json", "log.txt", "result.json", "\u0000", "x" * 5000, "/dev/zero", "/proc/self/mem", "é", "%s%n%s%n"]
Random = np.random.Generator


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [each for key in keys for each in [(value, key), *nodes(value[key])]]


def replaced(text: str, random: Random, put: Callable[[Any], str]) -> str:
    """The document with one value, drawn at random, written as `put` says."""
    document = json.loads(text)
    found = nodes(document)
    container, key = found[random.integers(len(found))]
    old, container[key] = container[key], "@@"
    return json.dumps(document).replace('"@@"', put(old), 1)


def one_of(random: Random, choices: list[str]) -> str:
    return choices[random.integers(len(choices))]


def flip(text: str, random: Random) -> bytes:
    content = bytearray(text.encode())
    for _ in range(random.integers(1, 9)):
        content[random.integers(len(content))] = random.integers(256)
    return bytes(content)


def cut(text: str, random: Random) -> bytes:
    content = text.encode()
    start, end = sorted(random.integers(len(content), size=2))
    return content[:start] + content[end:]


def twice(text: str, random: Random) -> bytes:
    content = text.encode()
    start, end = sorted(random.integers(len(content), size=2))
    return content[:end] + content[start:]


def another_type(text: str, random: Random) -> bytes:
    return replaced(text, random, lambda _: one_of(random, VALUES)).encode()


def another_number(text: str, random: Random) -> bytes:
    return replaced(text, random, lambda _: one_of(random, NUMBERS)).encode()


def deep(text: str, random: Random) -> bytes:
    depth = int(random.integers(1, 30_000))
    opened, closed = ("[", "]") if random.integers(2) else ('{"a":', "}")
    return replaced(text, random, lambda _: opened * depth + "1" + closed * depth).encode()


def hostile_path(text: str, random: Random) -> bytes:
    return replaced(
        text,
        random,
        lambda old: json.dumps(one_of(random, PATHS) if isinstance(old, str) else old),
    ).encode()


def without_a_key(text: str, random: Random) -> bytes:
    document = json.loads(text)
    for _ in range(random.integers(1, 4)):
        inside = [(c, k) for c, k in nodes(document) if isinstance(c, dict)]
        container, key = inside[random.integers(len(inside))]
        del container[key]
    return json.dumps(document).encode()


def another_key(text: str, random: Random) -> bytes:
    document = json.loads(text)
    inside = [(c, k) for c, k in nodes(document) if isinstance(c, dict)]
    container, key = inside[random.integers(len(inside))]
    container[one_of(random, ["surprise", f"{key}x", key.upper(), "\x00", "😀" * 100])] = container[key]
    return json.dumps(document, ensure_ascii=bool(random.integers(2))).encode()


KINDS = (flip, cut, twice, another_type, another_number, deep, hostile_path, without_a_key, another_key)


def mutated(text: str, number: int) -> bytes:
    """Mutant `number`, the same on every machine."""
    return KINDS[number % len(KINDS)](text, np.random.Generator(np.random.Philox(key=number)))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job on the CPU with every field given, which runs in milliseconds."""
    folder = job_folder(tmp_path_factory.mktemp("job"), add_and_scale(), {"one": {"x": X}, "two": {"x": -X}})
    (folder / "probe.tflite").write_bytes(probe_model())
    edit(
        folder,
        signature="serving_default",
        warmups=1,
        repeats=2,
        repeat_seconds=0.01,
        repeat_only=("two",),
        probe="probe.tflite",
        timeout_seconds=1.0,
        memory_limit_bytes=1 << 30,
    )
    return folder


@pytest.fixture(scope="module")
def lean_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime without accelerators, whose hashes would take most of the time."""
    folder = tmp_path_factory.mktemp("runtime")
    (folder / "libLiteRt.so").symlink_to(runtime_folder() / "libLiteRt.so")
    return folder


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("sanitized") / "runner", *SANITIZERS)


def refused_by_python(path: Path) -> str | None:
    try:
        Job.read(path)
    except BadInput as error:
        return str(error)
    return None


@pytest.mark.timeout(600)
def test_every_mutated_job_ends_with_a_documented_code(
    job: Path, lean_runtime: Path, sanitized: Path, tmp_path: Path
) -> None:
    text = (job / "job.json").read_text("utf-8")

    def outcome(number: int) -> int:
        folder = tmp_path / str(number)
        shutil.copytree(job, folder)
        content = mutated(text, number)
        (folder / "job.json").write_bytes(content)
        ended = run(sanitized, folder, runtime=lean_runtime, environment={"ASAN_OPTIONS": "detect_leaks=0"})
        log = (folder / "log.txt").read_text("utf-8", errors="replace") if (folder / "log.txt").exists() else ""
        about = f"mutant {number}, {KINDS[number % len(KINDS)].__name__}: {content[:2000]!r}\n{ended}\n{log[-3000:]}"
        assert ended.code in CODES, about
        assert "Sanitizer" not in log, about
        assert "runtime error" not in log, about
        assert (refused := refused_by_python(folder / "job.json")) is None or ended.code == 2, f"{about}\n{refused}"
        if ended.code == 2:
            assert not (folder / "result.json").exists(), about
        else:
            result = JobResult.read(folder / "result.json")
            assert result.status in STATUS[ended.code], about
            assert (result.error is None) == (result.status == "ok"), about
        shutil.rmtree(folder)
        return ended.code

    with ThreadPoolExecutor(AT_ONCE) as pool:
        codes = Counter(pool.map(outcome, range(MUTANTS)))
    assert sum(codes.values()) == MUTANTS
    assert codes.keys() >= {0, 2, 4, 5}, codes  # the mutants reach every stage that a job.json can fail
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_the_mutants_are_the_same_every_time_and_differ(job: Path) -> None:
    text = (job / "job.json").read_text("utf-8")
    made = [mutated(text, number) for number in range(MUTANTS)]
    assert made == [mutated(text, number) for number in range(MUTANTS)]
    assert sum(content != text.encode() for content in made) > 0.95 * MUTANTS
    assert len(set(made)) > 0.85 * MUTANTS  # there are only so many keys to leave out
