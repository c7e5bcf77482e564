"""Every command of README and docs runs, exits as it says, and prints what the page shows."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from adb_daemon import missing
from console import PAGES, ROOT, Command, commands, prepare, run, shape, surroundings
from phones import PAGE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs")
    prepare(path)
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page(page: Path, folder: Path) -> None:
    found = commands(page.read_text("utf-8"))
    assert found, f"{page.name} shows no command"
    if page.name == PAGE and (why := missing()) is not None:
        pytest.skip(why)
    with surroundings(page) as variables:
        run_all(found, folder, variables)


def run_all(found: list[Command], folder: Path, variables: Mapping[str, str]) -> None:
    """Each command in order: its exit code, and the lines that the page shows."""
    for command in found:
        if command.is_make:
            make = ["make", "-n", *command.arguments[1:]]
            subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
            continue
        done = run(command, folder, variables)
        assert done.returncode == command.code, f"{command.line}\n{done.stdout}\n{done.stderr}"
        printed = {shape(line) for line in (done.stdout + done.stderr).splitlines()}
        missing = [line for line in command.shown if line.strip() and shape(line) not in printed]
        assert not missing, f"{command.line} does not print {missing[0]!r} but:\n{done.stdout}{done.stderr}"


def test_a_page_that_shows_something_else_is_noticed() -> None:
    assert shape("gpu fp16 pass 914/914 nodes") == shape("gpu fp16 pass 12/12 nodes")
    assert shape("gpu fp16 pass") != shape("gpu fp16 FAIL")
    (command,) = commands("```console\n$ fidelity audit x.tflite  # exit 2\nline\n```\n")
    assert (command.code, command.shown, command.arguments) == (2, ("line",), ["fidelity", "audit", "x.tflite"])


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []
