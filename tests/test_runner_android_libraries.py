"""`fidelity android setup`: from a folder and from a server, whole, checked, and nothing half-done ever."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import platformdirs
import pytest
from typer.testing import CliRunner

from fidelity.cli.android import android
from fidelity.devices.android import libraries as android_libraries
from fidelity.devices.android.libraries import LIBRARIES, PLATFORM, android_runtime, cache_folder, set_up
from fidelity.devices.runner_build import built_android_runner
from fidelity.errors import BadInput, EnvironmentMissing

VERSION = "9.8.7"


def library(name: str, size: int = 3_000_000) -> bytes:
    """What begins as an arm64 library does."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + name.encode()
    return head + bytes(i % 251 for i in range(1024)) * (size // 1024)


@pytest.fixture(autouse=True)
def _private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and an installed runtime of a version that there is not."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    monkeypatch.setattr(android_libraries, "runtime_version", lambda: VERSION)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder laid out as LiteRT's own place is."""
    folder = tmp_path / "base"
    (folder / VERSION / PLATFORM).mkdir(parents=True)
    for name in LIBRARIES:
        (folder / VERSION / PLATFORM / name).write_bytes(library(name))
    return folder


@contextmanager
def serving(base: Path, answer: str = "whole") -> Iterator[str]:
    """A server on loopback that serves the folder, or cuts, refuses and lies as `answer` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = base / self.path.lstrip("/")
            if answer == "missing" or not path.is_file():
                self.send_error(404)
                return
            content = b"<!doctype html>" * 100 if answer == "page" else path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if answer == "cut" else content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files() -> set[str]:
    """What is in the version's cache folder."""
    return {path.name for path in cache_folder(VERSION).iterdir()} if cache_folder(VERSION).exists() else set()


def test_from_a_folder(base: Path) -> None:
    steps: list[str] = []
    done = set_up(str(base), step=steps.append)
    assert tuple(steps) == LIBRARIES
    for each in done.libraries:
        assert Path(each.path).read_bytes() == library(each.name)
        assert each.sha256 == hashlib.sha256(library(each.name)).hexdigest()
        assert (each.trusted, each.fetched) == ("recorded now", True)
    assert files() == {*LIBRARIES, "checksums.json"}
    again = set_up(str(base))
    assert [(each.trusted, each.fetched) for each in again.libraries] == [("recorded earlier", False)] * 2


def test_from_a_server(base: Path) -> None:
    with serving(base) as address:
        done = set_up(address + "/")
    assert all(Path(each.path).read_bytes() == library(each.name) for each in done.libraries)


def test_a_file_that_is_there_is_not_fetched_again(base: Path) -> None:
    set_up(str(base))
    assert not any(each.fetched for each in set_up("http://127.0.0.1:9").libraries)


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ("missing", EnvironmentMissing, "HTTP 404 Not Found; is there such a version?"),
        ("cut", EnvironmentMissing, "bytes"),
        ("page", BadInput, "not a library for arm64"),
    ],
)
def test_what_does_not_arrive_whole_gets_no_name(answer: str, kind: type[Exception], told: str, base: Path) -> None:
    with serving(base, answer) as address, pytest.raises(kind, match=LIBRARIES[0]) as caught:
        set_up(address)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files() == set()


def test_no_server_and_no_such_scheme() -> None:
    with pytest.raises(EnvironmentMissing, match="Connection refused"):
        set_up("http://127.0.0.1:9")
    with pytest.raises(BadInput, match="an https address or a folder"):
        set_up("ftp://127.0.0.1")
    with pytest.raises(BadInput, match="an https address or a folder"):
        set_up("file:///etc")


def test_a_base_without_this_version(base: Path) -> None:
    (base / VERSION).rename(base / "9.9.9")
    with pytest.raises(EnvironmentMissing, match="no such file; a base has VERSION/android_arm64/FILE"):
        set_up(str(base))
    assert set_up(str(base), "9.9.9").version == "9.9.9"


def test_a_runtime_that_is_too_old_for_the_runner() -> None:
    for version in ("2.1.5", "1.99.9"):
        with pytest.raises(BadInput, match=r"needs 2\.1\.6 or newer"):
            set_up("http://127.0.0.1:9", version)
    for version in ("../../etc", "latest", "2.3", ""):
        with pytest.raises((BadInput, EnvironmentMissing)):
            set_up("http://127.0.0.1:9", version)


def test_a_file_that_changed_at_the_base_is_refused(base: Path) -> None:
    """Without published checksums the first fetch is the reference: LiteRT releases do not change."""
    set_up(str(base))
    name = LIBRARIES[1]
    (base / VERSION / PLATFORM / name).write_bytes(library("other"))
    (cache_folder(VERSION) / name).unlink()
    with pytest.raises(BadInput, match="it was altered; if you know why, remove"):
        set_up(str(base))
    assert files() == {LIBRARIES[0], "checksums.json"}


def test_an_altered_copy_in_the_cache_is_fetched_again(base: Path) -> None:
    set_up(str(base))
    damaged = cache_folder(VERSION) / LIBRARIES[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert [each.fetched for each in set_up(str(base)).libraries] == [True, False]
    assert damaged.read_bytes() == library(LIBRARIES[0])


def test_a_shipped_checksum_decides(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped.json"
    monkeypatch.setattr(android_libraries, "SHIPPED", shipped)
    shipped.write_text(json.dumps({VERSION: {LIBRARIES[0]: "0" * 64}}))
    with pytest.raises(BadInput, match=r"0000000000000000\.\.\. is expected"):
        set_up(str(base))
    assert files() == set()
    digest = hashlib.sha256(library(LIBRARIES[0])).hexdigest()
    shipped.write_text(json.dumps({VERSION: {LIBRARIES[0]: digest}}))
    assert [each.trusted for each in set_up(str(base)).libraries] == ["shipped", "recorded now"]


def test_what_is_shipped_is_by_version_and_file() -> None:
    shipped = json.loads(android_libraries.SHIPPED.read_text("utf-8"))
    assert all(len(digest) == 64 for by_name in shipped.values() for digest in by_name.values())


def test_a_phone_gets_runner_and_libraries_or_a_reason(base: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="run: fidelity android setup"):
        android_runtime()
    set_up(str(base))
    with pytest.raises(EnvironmentMissing, match="run: fidelity android build"):
        android_runtime()
    runner = built_android_runner()
    runner.parent.mkdir(parents=True)
    runner.write_bytes(b"")
    assert android_runtime() == {
        "fidelity-runner": runner,
        **{name: cache_folder(VERSION) / name for name in LIBRARIES},
    }
    (cache_folder(VERSION) / LIBRARIES[1]).write_bytes(library("other"))
    with pytest.raises(EnvironmentMissing, match="not what was fetched"):
        android_runtime()


def test_a_version_given_by_name_is_what_phones_get(base: Path) -> None:
    built_android_runner().parent.mkdir(parents=True)
    built_android_runner().write_bytes(b"")
    set_up(str(base))
    (base / VERSION).rename(base / "9.9.9")
    set_up(str(base), "9.9.9")
    assert android_runtime()[LIBRARIES[0]] == cache_folder("9.9.9") / LIBRARIES[0]
    set_up(str(base))  # nothing to fetch
    assert android_runtime()[LIBRARIES[0]] == cache_folder(VERSION) / LIBRARIES[0]


def test_a_cache_that_cannot_be_written(base: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(EnvironmentMissing, match=r"cache .* cannot be written: Not a directory"):
        set_up(str(base))


def test_the_command_line_gives_one_document(base: Path) -> None:
    done = CliRunner().invoke(android, ["setup", "--base", str(base), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [each["name"] for each in document["libraries"]] == list(LIBRARIES)
    text = CliRunner().invoke(android, ["setup", "--base", str(base)])
    assert "kept" in text.stdout
    assert "recorded earlier" in text.stdout
