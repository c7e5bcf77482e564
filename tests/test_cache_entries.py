"""Entries of the cache: made once, whole or not there, and two makers of the same one at once do no harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fidelity.cache import Cache
from fidelity.errors import EnvironmentMissing


def made(text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "value").write_text(text, "utf-8")

    return make


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = cache.entry("kind", {"a": 1}, made("first"))
    again = cache.entry("kind", {"a": 1}, made("again"))
    other = cache.entry("kind", {"a": 2}, made("other"))
    assert [(entry / "value").read_text("utf-8") for entry in (first, again, other)] == ["first", "first", "other"]


def test_who_comes_second_takes_the_entry_of_the_first(tmp_path: Path) -> None:
    """As two processes that begin the same entry together."""
    cache = Cache(tmp_path)

    def slow(folder: Path) -> None:
        (folder / "value").write_text("second", "utf-8")
        cache.entry("kind", {"a": 1}, made("first"))

    entry = cache.entry("kind", {"a": 1}, slow)
    assert (entry / "value").read_text("utf-8") == "first"
    assert [path.name for path in entry.parent.iterdir()] == [entry.name], "nothing half made is left"


def test_an_entry_whose_making_fails_is_not_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fails(_: Path) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.entry("kind", {"a": 1}, fails)
    assert list((tmp_path / "kind").iterdir()) == []


def test_a_name_that_is_taken_by_a_file_is_told(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry = cache.entry("kind", {"a": 1}, made("x"))
    (entry / "value").unlink()
    (entry / "key.json").unlink()
    entry.rmdir()
    entry.write_text("a file", "utf-8")
    with pytest.raises(OSError, match=entry.name):
        cache.entry("kind", {"a": 1}, made("x"))


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(EnvironmentMissing, match="cannot be written"):
        Cache(tmp_path / "file").entry("kind", {}, made("x"))
