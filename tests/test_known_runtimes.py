"""A library is known by its hash: the installed one, one that was fetched, or not at all."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from fidelity.devices.android import libraries as android_libraries
from fidelity.devices.android.libraries import Checksums
from fidelity.devices.known_runtimes import LIBRARY, PACKAGE, version_of, with_version
from fidelity.devices.runner_build import runtime_folder
from fidelity.files import file_sha256


def test_the_installed_library_has_the_version_of_its_package() -> None:
    digest = file_sha256(runtime_folder() / LIBRARY)
    version = importlib.metadata.version(PACKAGE)
    assert version_of(digest) == version
    assert with_version({LIBRARY: digest}) == {PACKAGE: version, LIBRARY: digest}


def test_a_fetched_library_has_the_version_that_it_was_fetched_as(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(android_libraries, "_root", lambda: tmp_path)
    (tmp_path / "2.9.1").mkdir()
    known = Checksums(version="2.9.1", base="x", sha256={LIBRARY: "a" * 64})
    known.write(tmp_path / "2.9.1" / android_libraries.RECORDED)
    assert version_of("a" * 64) == "2.9.1"


def test_an_unknown_library_has_no_version_and_what_is_told_stays() -> None:
    assert version_of("0" * 64) is None
    assert with_version({LIBRARY: "0" * 64, "runner": "1"}) == {LIBRARY: "0" * 64, "runner": "1"}
    assert with_version({PACKAGE: "1.0", LIBRARY: "0" * 64})[PACKAGE] == "1.0"
    assert with_version({}) == {}
