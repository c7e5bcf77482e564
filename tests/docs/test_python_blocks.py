"""Every Python block of README and docs runs: those of one page together, in order, as a reader would type them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from console import PAGES, prepare

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXCERPT = "# from "
"""A block that begins so is an excerpt of a file, which another test holds against that file."""


def program(text: str) -> str:
    """The Python blocks of a page as one program; empty where it has none."""
    return "\n".join(block for block in _BLOCK.findall(text) if not block.startswith(EXCERPT))


WITH_PYTHON = [page for page in PAGES if program(page.read_text("utf-8"))]


def test_some_page_has_python() -> None:
    assert "api.md" in [page.name for page in WITH_PYTHON]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page(page: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program(page.read_text("utf-8"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
