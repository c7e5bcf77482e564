"""Code that a page shows as cut from a file is that file's code, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from console import PAGES, ROOT
from test_python_blocks import EXCERPT

_BLOCK = re.compile(rf"^```python\n{EXCERPT}(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXCERPTS = [
    pytest.param(path, code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (path, code) in enumerate(_BLOCK.findall(page.read_text("utf-8")))
]


@pytest.mark.parametrize(("path", "code"), EXCERPTS)
def test_an_excerpt_is_in_its_file(path: str, code: str) -> None:
    file = ROOT / path
    assert file.resolve().is_relative_to(ROOT.resolve())
    assert code.strip("\n") in file.read_text("utf-8")


def test_an_excerpt_that_is_not_in_its_file_is_told() -> None:
    page = "```python\n# from fidelity/rewrites/safe_rmsnorm.py\nscaled = x * FIXED_SCALE\n```\n"
    ((path, code),) = _BLOCK.findall(page)
    assert code.strip("\n") not in Path(ROOT / path).read_text("utf-8")
    assert len(EXCERPTS) >= 7
