"""The console blocks of README and docs: found, run, compared with what they show, or recorded anew.

A block is fenced as `console`; each line that starts with `$ ` is a command, what follows is its
output. A command may end in `# exit N`. Numbers, hashes and dates may differ from run to run, so
they are compared by shape; words may not. `python tests/docs/console.py` records every block.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phones import PAGE, phones

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"\s+# exit (\d+)$")
_VARIABLE = re.compile(r"[0-9a-f]{16,}|\d[\d,.]*(?:e[+-]?\d+)?")
_NAMES = "|".join(
    (*sorted(path.stem for path in (ROOT / "golden/images").glob("*.png")), "black", "white", "checkerboard", "noise")
)
_INPUTS = re.compile(rf"\b(?:{_NAMES}|one-pixel)\b(?:, (?:{_NAMES}|one-pixel)\b)*|(?<= at )-$")
_WORST_SITE = re.compile(r"(?<=sites and blocks is ).*")


@dataclass(frozen=True)
class Command:
    """One command of a page: its arguments, the exit code and the output that it shows."""

    line: str
    code: int
    shown: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """The command without its exit comment, split as a shell would."""
        return shlex.split(_EXIT.sub("", self.line))

    @property
    def is_make(self) -> bool:
        """True for a make target, which is checked but not run: it would install or test everything."""
        return self.arguments[0] == "make"


def commands(text: str) -> list[Command]:
    """Every command of every console block of a page, in order."""
    found: list[Command] = []
    for block in _BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                match = _EXIT.search(line)
                found.append(Command(line[2:], int(match[1]) if match else 0, ()))
            elif found:
                last = found.pop()
                found.append(Command(last.line, last.code, (*last.shown, line)))
    return found


def run(command: Command, folder: Path, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, where `golden` is the repository's; reports go to the folder too."""
    arguments = command.arguments
    if arguments[0] == "fidelity":
        arguments = [sys.executable, "-m", "fidelity", *arguments[1:]]
    if arguments[0] == "python":
        arguments = [sys.executable, *arguments[1:]]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **(variables or {})}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )


def shape(line: str) -> str:
    """A line with everything that may differ between two machines taken out: numbers, hashes, places."""
    return " ".join(_VARIABLE.sub("#", _WORST_SITE.sub("", _INPUTS.sub("@", line))).split())


def prepare(folder: Path) -> None:
    """A working folder as the pages assume it: a clone's goldens, nothing else."""
    (folder / "golden").symlink_to(ROOT / "golden", target_is_directory=True)


@contextmanager
def surroundings(page: Path) -> Iterator[dict[str, str]]:
    """The variables that a page's commands run with: one of them has phones."""
    if page.name != PAGE:
        yield {}
        return
    with phones() as variables:
        yield variables


def record(page: Path, folder: Path) -> None:
    """Put what each command prints now into the page."""
    with surroundings(page) as variables:
        _record(page, folder, variables)


def _record(page: Path, folder: Path, variables: Mapping[str, str]) -> None:
    text = page.read_text("utf-8")
    for block in _BLOCK.findall(text):
        lines: list[str] = []
        for command in commands(f"```console\n{block}```\n"):
            lines.append(f"$ {command.line}")
            if command.is_make:
                lines += command.shown
                continue
            done = run(command, folder, variables)
            if done.returncode != command.code:
                sys.exit(f"{page.name}: {command.line}: exit {done.returncode}\n{done.stderr}")
            output = done.stdout if done.returncode in (0, 1) else done.stderr.splitlines()[-1]
            lines += [line.rstrip() for line in output.splitlines()]
        text = text.replace(block, "\n".join(lines) + "\n")
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch))
        for each in [page for page in PAGES if not sys.argv[1:] or page.name in sys.argv[1:]]:
            record(each, Path(scratch))
