"""The pytest plugin in a project of its own: which devices, which marks, what is told of known issues."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fidelity.pytest_scheduler import group_of

ON_A_DEVICE = """
def test_uses_a_device(gpu_device):
    assert gpu_device

def test_does_not():
    pass
"""
PHONES = """
from fidelity.devices import discovery
from fidelity.errors import EnvironmentMissing

def resolve(spec):
    raise EnvironmentMissing(f"{spec} is not here; buy one")

discovery.attached = lambda: ("android:one", "android:two")
import fidelity.pytest_plugin
fidelity.pytest_plugin.resolve = resolve
"""
KNOWN = """
import pytest
from fidelity.devices.known_issues import KnownIssueResult

def made(number, judgement, evidence):
    return KnownIssueResult(
        number=number, title="", url="", device="a GPU", runtime="9.9", judgement=judgement, evidence=evidence
    )

FOUND = (made("#1", "shown", "inf for 2"), made("#2", "absent", "right"), made("#3", "not testable", "PAD refused"))

@pytest.mark.parametrize("result", FOUND, ids=lambda result: result.number)
def test_issue(result, tell_known_issue):
    tell_known_issue(result)
"""
SPECS = ("gpu", "gpu:llvmpipe", "android:one", "android:one-b", "android:one/cpu")
xdist = pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")


class Project:
    """A folder with tests, and no GPU that the process could see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, test: str, *arguments: str, conftest: str = "") -> tuple[int, str]:
        """Exit code and output of pytest in it."""
        (self.folder / "test_project.py").write_text(test)
        (self.folder / "conftest.py").write_text(conftest)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "-ra", *arguments],
            cwd=self.folder,
            env={**os.environ, "VK_DRIVER_FILES": str(self.folder / "none.json"), "COLUMNS": "400"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def collected(output: str) -> list[str]:
    return re.findall(r"^test_project\.py::(\S+)$", output, flags=re.MULTILINE)


def test_a_missing_device_skips_with_the_reason_and_the_mend(project: Project) -> None:
    code, output = project.run(ON_A_DEVICE, "--device", "gpu")
    assert code == 0
    assert re.search(r"SKIPPED .* device gpu: no Vulkan driver offers a device here; run: make software-gpu", output)
    assert "1 passed, 1 skipped" in output


def test_a_missing_device_fails_where_it_is_required(project: Project) -> None:
    code, output = project.run(ON_A_DEVICE, "--device", "gpu", "--require-device")
    assert code == 1
    assert "--require-device: device gpu: no Vulkan driver" in output


@pytest.mark.parametrize(("spec", "said"), [("cpu", "--device cpu: not a GPU"), ("tpu", "expected cpu, gpu")])
def test_a_word_for_no_gpu_is_told(project: Project, spec: str, said: str) -> None:
    code, output = project.run(ON_A_DEVICE, "--device", spec, "--require-device")
    assert code == 1
    assert said in output


def test_a_test_runs_once_on_each_device_that_is_named(project: Project) -> None:
    given = ("--device", "gpu", "--device", "android:one", "--device", "gpu")
    _, output = project.run(ON_A_DEVICE, "--collect-only", "-q", *given)
    assert collected(output) == [
        "test_uses_a_device[gpu]",
        "test_uses_a_device[android:one]",
        "test_does_not",
    ]


def test_without_a_name_it_runs_on_every_phone_and_on_a_local_gpu_that_is_there(project: Project) -> None:
    _, output = project.run(ON_A_DEVICE, "--collect-only", "-q", conftest=PHONES)
    assert collected(output)[:2] == ["test_uses_a_device[android:one]", "test_uses_a_device[android:two]"]
    assert "gpu]" not in output
    there = PHONES + "fidelity.pytest_plugin.resolve = lambda spec: discovery.Device(spec, 'gpu', {}, None)\n"
    _, output = project.run(ON_A_DEVICE, "--collect-only", "-q", conftest=there)
    assert collected(output)[2] == "test_uses_a_device[gpu]"


@pytest.mark.parametrize(("marks", "names"), [("gpu_device", 1), ("not gpu_device", 1)])
def test_the_fixture_is_the_mark(project: Project, marks: str, names: int) -> None:
    _, output = project.run(ON_A_DEVICE, "--collect-only", "-q", "-m", marks, "--device", "gpu")
    assert len(collected(output)) == names
    assert ("uses_a_device" in output) == (marks == "gpu_device")


def test_a_known_issue_is_a_line_in_the_summary_and_passes(project: Project) -> None:
    code, output = project.run(KNOWN, "--junit-xml=junit.xml")
    assert code == 0
    assert "2 passed, 1 skipped" in output
    assert output.count("#1 shown: inf for 2") == 1
    assert "known issues of a GPU, runtime 9.9:\n  #1 shown: inf for 2\n  #3 not testable: PAD refused\n" in output
    assert "  absent: #2\n" in output
    assert "#1" in (project.folder / "junit.xml").read_text()


def test_a_known_issue_fails_where_that_is_asked_and_only_if_it_is_shown(project: Project) -> None:
    code, output = project.run(KNOWN, "--known-issues", "fail")
    assert code == 1
    assert "1 failed, 1 passed, 1 skipped" in output
    assert "#1 shown on a GPU: inf for 2" in output
    assert "known issues of a GPU, runtime 9.9:\n  #1 shown: inf for 2\n" in output


def test_a_word_for_no_way_of_telling_is_refused(project: Project) -> None:
    code, output = project.run(KNOWN, "--known-issues", "ignore")
    assert code == 4
    assert "--known-issues" in output


def test_no_summary_where_nothing_was_told(project: Project) -> None:
    assert "known issues" not in project.run("def test_it(): pass")[1]


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/test_a.py::test_it[gpu]", "local"),
        ("tests/test_a.py::test_it[gpu:llvmpipe-SUM]", "local"),
        ("tests/test_a.py::test_it[SUM-android:one-fp16]", "android:one"),
        ("tests/test_a.py::test_it[android:one-b-fp16]", "android:one-b"),
        ("tests/test_a.py::test_it[android:one/cpu-fp16]", "android:one"),
        ("tests/test_a.py::test_it[android:two]", None),
        ("tests/test_gpu.py::test_gpu", None),
        ("tests/test_a.py::test_it[gpus]", None),
    ],
)
def test_a_test_belongs_to_the_device_in_its_id(nodeid: str, group: str | None) -> None:
    assert group_of(nodeid, SPECS) == group


BESIDE = """
import os
import time
from pathlib import Path

import pytest

@pytest.mark.parametrize("number", range(4))
def test_alone(gpu_device, number):
    lock = Path("lock " + gpu_device.replace(":", " "))
    lock.touch(exist_ok=False)
    Path(f"worker {gpu_device.replace(':', ' ')} {os.getpid()}").touch()
    time.sleep(0.1)
    lock.unlink()
"""
NAMED = """
import pytest

@pytest.fixture(scope="session")
def gpu_device(request):
    return request.param
"""

TOGETHER = """
import os
import time
from pathlib import Path

import pytest

@pytest.mark.parametrize("number", range(6))
def test_any(number):
    Path(f"worker {os.getpid()}").touch()
    time.sleep(0.05)
"""


@xdist
@pytest.mark.parametrize("dealing", [(), ("--dist", "loadgroup")])
def test_devices_run_in_parallel_and_the_tests_of_one_never_beside_each_other(
    project: Project, dealing: tuple[str, ...]
) -> None:
    code, output = project.run(BESIDE, "-n", "2", *dealing, conftest=PHONES + NAMED)
    assert code == 0, output
    assert "8 passed" in output
    workers = [path.name.rsplit(" ", 1) for path in project.folder.glob("worker *")]
    assert len({name for name, _ in workers}) == len(workers) == 2
    assert len({process for _, process in workers}) == 2


@xdist
def test_the_tests_of_a_file_that_need_no_device_share_a_worker(project: Project) -> None:
    code, output = project.run(TOGETHER, "-n", "2")
    assert code == 0, output
    assert len(list(project.folder.glob("worker *"))) == 1


@xdist
def test_known_issues_found_by_workers_are_told_once(project: Project) -> None:
    _, output = project.run(KNOWN, "-n", "2")
    assert output.count("known issues of a GPU, runtime 9.9:") == 1
    assert output.count("#1 shown: inf for 2") == 1
